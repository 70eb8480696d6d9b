//! From a client into custody.
//!
//! Flow: a connection is accepted; the submission session says what to do; a login is verified off
//! the reactor; a whole message is read for its headers, authorised, checked for suppressed
//! recipients, stamped, and given to custody; then the client is answered and the events go out.
//!
//! Guarantees: a 250 for a message is made from custody's [`Committed`] only, and names the id
//! it holds. A recipient that is suppressed is recorded as such and never delivered to. Memory held
//! for texts under way is bounded by [`MAX_HELD`]; beyond it a text is refused with 452.
//!
//! Caveats: a client that loses the connection between custody and 250 sends the message again.

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use postrider_crds::Mailbox;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::logins::Logins;
use crate::{
    config::{ConfigWatch, Settings},
    custody::{AcceptError, Committed, Custody, NewMessage, NotAccepting},
    mail::{EnhancedCode, Envelope, MessageId, Priority, Recipient, Reply},
    ports::{Alarm, Clock, Connection, Random},
    submission::{
        Action, Arrival, Authenticator, Door, Headers, Login, Refusal, Session, Submission,
        authorise, stamp,
    },
    suppression::Suppressed,
    telemetry::{Event, RejectReason, Stage, Telemetry},
};

/// Octets of texts under way, all sessions together: enough for ten of the largest usual size.
const MAX_HELD: usize = 256 << 20;
/// Octets read from a client at a time.
const READ: usize = 32 << 10;
/// The wait for a client to take a reply or to do its part of a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the loop is built from.
pub struct Parts {
    /// Where messages go.
    pub custody: Custody,
    /// The settings in force.
    pub settings: ConfigWatch,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names.
    pub random: Arc<dyn Random>,
    /// Where events go.
    pub telemetry: Arc<Telemetry>,
}

/// The loop.
pub struct Intake {
    parts: Parts,
    sessions: TaskTracker,
    logins: Arc<Logins>,
    held: AtomicUsize,
    stop: CancellationToken,
}

impl Intake {
    /// A loop that serves nothing yet and knows clients by `authenticator`; `stop` lets its sessions
    /// end.
    #[must_use]
    pub fn new(parts: Parts, authenticator: Authenticator, stop: CancellationToken) -> Self {
        let (settings, clock) = (parts.settings.clone(), Arc::clone(&parts.clock));
        let logins = Logins::new(authenticator, settings, clock, stop.clone());
        Self {
            parts,
            sessions: TaskTracker::new(),
            logins: Arc::new(logins),
            held: AtomicUsize::new(0),
            stop,
        }
    }

    /// Accepts connections of a door until `closed` is cancelled; sessions that run go on.
    pub async fn serve(
        self: Arc<Self>,
        door: Door,
        listener: TcpListener,
        closed: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = closed.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let client = peer.ip().to_canonical();
                    let session = Arc::clone(&self).session(door, stream, client);
                    self.sessions.spawn(session);
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until the sessions have ended, `budget` at most; those left are cut off by the caller's
    /// end. Cancel `stop` first.
    pub async fn drained(&self, budget: Duration) {
        self.sessions.close();
        if timeout(budget, self.sessions.wait()).await.is_err() {
            let left = self.sessions.len();
            tracing::warn!(left, "submission sessions cut off");
        }
    }

    async fn session(self: Arc<Self>, door: Door, stream: TcpStream, client: IpAddr) {
        let limit = self.settings().relay.limits.sessions;
        if self.sessions.len() > limit as usize {
            self.turn_away(door, stream, client, limit).await;
            return;
        }
        // Replies are written whole; waiting for more to send only delays them.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let conversation = Conversation {
            intake: &self,
            client,
            held: 0,
        };
        if let Err(error) = conversation.run(door, Box::new(stream)).await {
            tracing::debug!(%client, %error, "submission session broke off");
        }
    }

    /// 421 to a client beyond the limit; one behind implicit TLS is just closed, since a
    /// handshake costs more than a session.
    async fn turn_away(&self, door: Door, mut stream: TcpStream, client: IpAddr, limit: u32) {
        let text = format!("{limit} sessions are open, the most allowed; try again later");
        let refusal = Refusal::new(RejectReason::Limit, 421, (4, 3, 2), text);
        if door == Door::StartTls {
            let line = format!("{}\r\n", refusal.reply);
            // The client may be gone already, which is as good.
            let _ = timeout(PATIENCE, stream.write_all(line.as_bytes())).await;
        }
        self.refused(refusal, None, client);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.parts.settings.borrow())
    }

    fn refused(&self, refusal: Refusal, login: Option<&Login>, client: IpAddr) {
        self.parts.telemetry.emit(&Event {
            time: self.parts.clock.wall(),
            message: None,
            tenant: login.map(|login| login.tenant.clone()),
            domain: None,
            stage: Stage::Rejected {
                reason: refusal.reason,
                reply: refusal.reply,
                client: Some(client),
            },
        });
    }

    fn now(&self) -> Duration {
        self.parts.clock.monotonic()
    }

    /// The stages a message walks at the door, in order.
    async fn take(&self, mut submission: Submission, client: IpAddr) -> Result<Reply, Refusal> {
        let headers = Headers::read(submission.message.as_bytes())?;
        // Kept to the end, and taken before the settings are, so that no message is missed in the
        // count of a domain that is being deleted. All From addresses are of one domain, or refused.
        let from = headers.from.first().map(Mailbox::domain);
        let _arriving = from.map(|domain| self.parts.custody.arriving(domain));
        let settings = self.settings();
        let domain = authorise(&settings, &submission.login.username, &headers)?;
        let sending = &domain.entry.domain;
        let now = self.parts.clock.wall();
        let check = |mailbox: &Mailbox| settings.suppression.check(mailbox, sending, now);
        let suppressed: Vec<(usize, Suppressed)> = (submission.recipients.iter().enumerate())
            .filter_map(|(index, mailbox)| Some((index, check(mailbox)?)))
            .collect();
        let id = MessageId::new(now, self.random());
        let is_only = submission.recipients.len() == 1;
        let recipient = submission.recipients.first().filter(|_| is_only);
        let (priority, changed) = priority(&submission, &headers);
        submission.message.remove(&headers.priority_fields);
        let arrival = Arrival {
            helo: &submission.helo,
            client: Some(client),
            hostname: &settings.relay.hostname,
            transmission: submission.transmission,
            recipient,
            priority,
        };
        let name = (id, sending, now);
        stamp(&mut submission.message, &headers, &arrival, name);
        let body = submission.message.into_bytes();
        let bytes = body.len() as u64;
        let recipients = submission.recipients.into_iter();
        let envelope = Envelope {
            return_path: submission.from,
            recipients: recipients.map(|mailbox| Recipient { mailbox }).collect(),
            body_kind: submission.body_kind,
            domain: Some(sending.clone()),
            tenant: submission.login.tenant,
            priority,
        };
        let message = NewMessage {
            id,
            envelope: envelope.clone(),
            body,
            accepted: now,
            suppressed: suppressed.iter().map(|(index, _)| *index).collect(),
        };
        let committed = self.parts.custody.accept(message).await.map_err(shed)?;
        let took = self.now().saturating_sub(submission.began);
        self.accepted(
            now,
            (&envelope, &committed),
            suppressed,
            (bytes, took, client),
        );
        Ok(queued(&committed, changed))
    }

    /// Tells of a message that is on stable storage. The event bears the time at which the message
    /// was whole: custody may hold it or begin to deliver it before this line is written.
    fn accepted(
        &self,
        accepted: jiff::Timestamp,
        (envelope, committed): (&Envelope, &Committed),
        suppressed: Vec<(usize, Suppressed)>,
        (bytes, took, client): (u64, Duration, IpAddr),
    ) {
        let emit = |stage| {
            self.parts.telemetry.emit(&Event {
                time: accepted,
                message: Some(committed.id()),
                tenant: Some(envelope.tenant.clone()),
                domain: envelope.domain.clone(),
                stage,
            });
        };
        emit(Stage::Accepted {
            recipients: envelope.recipients.len(),
            bytes,
            took,
            client: Some(client),
            priority: envelope.priority,
        });
        for (index, found) in suppressed {
            if let Some(recipient) = envelope.recipients.get(index) {
                emit(Stage::Suppressed {
                    recipient: recipient.mailbox.clone(),
                    reason: format!("list {}: {}", found.list, found.reason),
                });
            }
        }
    }

    fn random(&self) -> u128 {
        let (high, low) = (self.parts.random.next_u64(), self.parts.random.next_u64());
        (u128::from(high) << 64) | u128::from(low)
    }
}

/// The one place where a message's 250 is made (RFC 5321 §6.1).
fn queued(committed: &Committed, changed: Changed) -> Reply {
    let id = committed.id();
    match changed {
        Changed::No => Reply::new(250, EnhancedCode(2, 0, 0), format!("queued as {id}")),
        // RFC 6710 §4.1: the new priority, a space, and text.
        Changed::To(priority) => {
            let text = format!("{priority} is the priority given; queued as {id}");
            Reply::new(250, EnhancedCode(2, 3, 6), text)
        }
    }
}

/// Whether a message has the priority it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    No,
    /// It has this one.
    To(Priority),
}

/// The priority of a message: what MAIL said, or else the header field (RFC 6758 §3.1), from those
/// who gave a password only: what is let in by its address may hand on what others wrote. A field
/// that does not count is replaced by one that says 0 (RFC 6758 §3.3).
fn priority(submission: &Submission, headers: &Headers) -> (Option<Priority>, Changed) {
    let tunneled = headers.priority;
    let counted = tunneled.filter(|_| submission.login.has_password());
    let is_replaced = !headers.priority_fields.is_empty();
    let replaced = is_replaced.then(Priority::default);
    let priority = submission.priority.or(counted).or(replaced);
    let (asked, given) = (
        submission.priority.or(tunneled),
        priority.unwrap_or_default(),
    );
    let changed = match asked {
        Some(asked) if asked != given => Changed::To(given),
        Some(_) | None => Changed::No,
    };
    (priority, changed)
}

/// RFC 5321 §4.2.2: 452 for want of storage, the client keeps the message.
fn shed(error: AcceptError) -> Refusal {
    let reason = match &error {
        AcceptError::TooLarge { .. } => {
            return Refusal::new(RejectReason::Limit, 552, (5, 3, 4), error.to_string());
        }
        AcceptError::NotAccepting(NotAccepting::NoSpace { .. }) => RejectReason::DiskFull,
        AcceptError::NotAccepting(NotAccepting::Disk(_)) | AcceptError::Disk(_) => {
            RejectReason::DiskError
        }
        AcceptError::NotAccepting(NotAccepting::Slow { .. }) => RejectReason::DiskSlow,
        AcceptError::NotAccepting(NotAccepting::QueueFull { .. }) => RejectReason::QueueFull,
        AcceptError::NotAccepting(NotAccepting::Closing) => RejectReason::Closing,
        AcceptError::Known(_) | AcceptError::Recipients(_) => RejectReason::Other,
    };
    Refusal::new(reason, 452, (4, 3, 1), error.to_string())
}

/// What ends a wait for a client.
enum Happened {
    Stop,
    Silence,
    Read(io::Result<usize>),
}

/// One client and its session.
struct Conversation<'a> {
    intake: &'a Arc<Intake>,
    client: IpAddr,
    /// This session's share of what is held.
    held: usize,
}

impl Conversation<'_> {
    async fn run(mut self, door: Door, mut link: Connection) -> io::Result<()> {
        let mut session = Session::new(door, self.client, &self.intake.settings(), self.now());
        if door == Door::ImplicitTls {
            link = self.handshake(link).await?;
            session.tls_started(&self.intake.settings());
        }
        let stopped = self.intake.stop.clone();
        let mut stopped = pin!(stopped.cancelled());
        let mut draining = false;
        let mut alarm = Alarm::default();
        let mut buffer = vec![0; READ];
        loop {
            link = match self.carry_out(&mut session, link).await? {
                Some(link) => link,
                None => return Ok(()),
            };
            let deadline = session.deadline();
            let happened = poll_fn(|context| {
                if !draining && stopped.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Happened::Stop);
                }
                let mut read = ReadBuf::new(&mut buffer);
                match Pin::new(&mut link).poll_read(context, &mut read) {
                    Poll::Ready(result) => {
                        let count = read.filled().len();
                        Poll::Ready(Happened::Read(result.map(|()| count)))
                    }
                    Poll::Pending => alarm
                        .poll(context, &*self.intake.parts.clock, deadline)
                        .map(|()| Happened::Silence),
                }
            });
            match happened.await {
                Happened::Stop => {
                    draining = true;
                    session.drain();
                }
                Happened::Silence => session.timed_out(),
                Happened::Read(Ok(0)) => return Ok(()),
                Happened::Read(Ok(count)) => {
                    session.receive(buffer.get(..count).unwrap_or_default(), self.now());
                }
                Happened::Read(Err(error)) => return Err(error),
            }
        }
    }

    /// Does what the session asks for; `None` once the connection is closed.
    async fn carry_out(
        &mut self,
        session: &mut Session,
        mut link: Connection,
    ) -> io::Result<Option<Connection>> {
        let mut replies = Vec::new();
        while let Some(action) = session.next_action(&self.intake.settings()) {
            match action {
                Action::Write(octets) => replies.extend_from_slice(&octets),
                Action::Refused(refusal) => {
                    self.intake.refused(refusal, session.login(), self.client);
                }
                Action::StartTls => {
                    flush(&mut link, &mut replies).await?;
                    link = self.handshake(link).await?;
                    session.tls_started(&self.intake.settings());
                }
                Action::Verify(attempt) => {
                    let verdict = self.intake.logins.verify(attempt, self.client).await;
                    session.verified(verdict);
                }
                Action::Accept(submission) => {
                    let answer = self.intake.take(*submission, self.client).await;
                    session.answered(answer);
                }
                Action::Close => {
                    flush(&mut link, &mut replies).await?;
                    timeout(PATIENCE, link.shutdown()).await??;
                    return Ok(None);
                }
            }
        }
        self.account(session);
        flush(&mut link, &mut replies).await?;
        Ok(Some(link))
    }

    /// Keeps count of what is held, and sheds the text of the session that goes beyond the bound.
    fn account(&mut self, session: &mut Session) {
        self.hold(session.held());
        if self.intake.held.load(Ordering::Relaxed) > MAX_HELD {
            session.shed();
            self.hold(session.held());
        }
    }

    fn hold(&mut self, held: usize) {
        self.intake.held.fetch_add(held, Ordering::Relaxed);
        self.intake.held.fetch_sub(self.held, Ordering::Relaxed);
        self.held = held;
    }

    async fn handshake(&self, link: Connection) -> io::Result<Connection> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.intake.settings().submission_tls));
        let stream = timeout(PATIENCE, acceptor.accept(link)).await??;
        Ok(Box::new(stream))
    }

    fn now(&self) -> Duration {
        self.intake.now()
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        self.hold(0);
    }
}

async fn flush(link: &mut Connection, replies: &mut Vec<u8>) -> io::Result<()> {
    if replies.is_empty() {
        return Ok(());
    }
    timeout(PATIENCE, async {
        link.write_all(replies).await?;
        link.flush().await
    })
    .await??;
    replies.clear();
    Ok(())
}
