//! A relay's outbound half with a real spool, real sockets on loopback, and a DNS and a clock that
//! do as they are told.

use std::{
    collections::HashMap,
    io::Write,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use postrider_crds::{
    DomainName,
    relay_config::{
        Admission, Delivery, DomainEntry, Intake, KeyAlgorithm, Limits as Accepted, Listeners,
        PoolName, RelayConfig, Retry, SigningKey, SigningState, TlsMode,
    },
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::super::{Outbound, Parts};
use crate::{
    config::{Domain, Settings},
    custody::{self, Custody, Limits, NewMessage},
    identity::Signer,
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath},
    ports::{
        Answer, Clock, MailExchange, Random, ResolveError, Resolver, SystemClock, SystemDisk,
        SystemRandom, TcpNetwork,
    },
    suppression::SuppressionIndex,
    telemetry::Telemetry,
    transport::TlsClient,
};

/// How long a test waits for an event before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long running deliveries may take to end.
const BUDGET: Duration = Duration::from_millis(500);

pub(super) const SENDER: &str = "app@example.com";
pub(super) const MESSAGE: &str = "From: App <app@example.com>\r\nTo: you@example.org\r\n\
    Subject: Hello\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\
    \r\nHello\r\n.\r\n";

/// Hosts by domain and addresses by host.
#[derive(Default)]
pub(super) struct Zone {
    pub(super) mx: HashMap<&'static str, Vec<&'static str>>,
    pub(super) addresses: HashMap<&'static str, Vec<&'static str>>,
}

impl Zone {
    /// `domain` has one MX host at `addresses`.
    pub(super) fn serve(mut self, domain: &'static str, addresses: &[&'static str]) -> Self {
        let host: &'static str = format!("mx.{domain}").leak();
        self.mx.insert(domain, vec![host]);
        self.addresses.insert(host, addresses.to_vec());
        self
    }
}

impl Resolver for Zone {
    fn mx<'a>(
        &'a self,
        domain: &'a DomainName,
    ) -> BoxFuture<'a, Result<Answer<MailExchange>, ResolveError>> {
        let answer = self
            .mx
            .get(domain.as_str())
            .map_or(Answer::NxDomain, |hosts| {
                let host = |(index, host): (usize, &&str)| MailExchange {
                    preference: u16::try_from(index).unwrap(),
                    host: (*host).to_owned(),
                };
                Answer::Records(hosts.iter().enumerate().map(host).collect())
            });
        Box::pin(async move { Ok(answer) })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, ResolveError>> {
        let answer = self.addresses.get(host).map_or(Answer::NxDomain, |list| {
            Answer::Records(list.iter().map(|a| a.parse().unwrap()).collect())
        });
        Box::pin(async move { Ok(answer) })
    }
}

/// A wall clock that is set by hand.
struct HandClock {
    wall: Mutex<Timestamp>,
    monotonic: SystemClock,
}

impl Clock for HandClock {
    fn wall(&self) -> Timestamp {
        *self.wall.lock().unwrap()
    }
    fn monotonic(&self) -> Duration {
        self.monotonic.monotonic()
    }
}

/// Gives each line of the log to the test.
struct Lines(mpsc::UnboundedSender<Value>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            // Lines that nobody waits for any more are dropped.
            let _ = self.0.send(serde_json::from_slice(line)?);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How a world begins.
pub(super) struct Setup {
    pub(super) zone: Zone,
    pub(super) port: u16,
    pub(super) tls: TlsMode,
    pub(super) connections: u32,
    pub(super) admission: Admission,
    pub(super) segment_bytes: u64,
}

impl Setup {
    pub(super) fn new(zone: Zone, port: u16) -> Self {
        Self {
            zone,
            port,
            tls: TlsMode::Opportunistic,
            connections: 2,
            admission: Admission::Send,
            segment_bytes: Limits::default().segment_bytes,
        }
    }
}

pub(super) struct World {
    pub(super) custody: Custody,
    clock: Arc<HandClock>,
    settings: watch::Sender<Arc<Settings>>,
    events: mpsc::UnboundedReceiver<Value>,
    pub(super) telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    pub(super) spool: tempfile::TempDir,
}

impl World {
    pub(super) fn start(setup: Setup) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let (log, events) = mpsc::unbounded_channel();
        let telemetry = Arc::new(Telemetry::new(Box::new(Lines(log))));
        let clock = Arc::new(HandClock {
            wall: Mutex::new("2026-01-01T00:00:00Z".parse().unwrap()),
            monotonic: SystemClock::start(),
        });
        let settings = Arc::new(settings(&setup));
        let custody = Custody::open(custody::Parts {
            disk: Arc::new(SystemDisk::open(spool.path()).unwrap()),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            telemetry: telemetry.clone(),
            limits: Limits {
                free_space_mark: 0,
                segment_bytes: setup.segment_bytes,
                ..Limits::default()
            },
            admission: admission_of(settings.clone()),
        })
        .unwrap();
        let (sender, receiver) = watch::channel(settings);
        let outbound = Outbound::new(Parts {
            custody: custody.clone(),
            settings: receiver,
            resolver: Arc::new(setup.zone),
            network: Arc::new(TcpNetwork),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            telemetry: telemetry.clone(),
            tls: TlsClient::new(rustls::RootCertStore::empty()).unwrap(),
        });
        let stop = CancellationToken::new();
        let running = tokio::spawn(outbound.run(stop.clone(), BUDGET));
        Self {
            custody,
            clock,
            settings: sender,
            events,
            telemetry,
            stop,
            running,
            spool,
        }
    }

    /// Takes custody of a message for `recipients`.
    pub(super) async fn accept(&self, recipients: &[&str]) -> MessageId {
        let sender = ReturnPath::Mailbox(SENDER.parse().unwrap());
        self.accept_from(sender, recipients, MESSAGE).await
    }

    pub(super) async fn accept_from(
        &self,
        return_path: ReturnPath,
        recipients: &[&str],
        body: &'static str,
    ) -> MessageId {
        let accepted = self.clock.wall();
        let bits =
            (u128::from(SystemRandom.next_u64()) << 64) | u128::from(SystemRandom.next_u64());
        let recipient = |text: &&str| Recipient {
            mailbox: text.parse().unwrap(),
        };
        let message = NewMessage {
            id: MessageId::new(accepted, bits),
            envelope: Envelope {
                return_path,
                recipients: recipients.iter().map(recipient).collect(),
                body_kind: BodyKind::SevenBit,
                domain: Some("example.com".parse().unwrap()),
                tenant: "apps/app".into(),
                priority: None,
            },
            body: body.into(),
            accepted,
            suppressed: Vec::new(),
        };
        self.custody.accept(message).await.unwrap().id()
    }

    /// The next event of this stage, with what came before it dropped.
    pub(super) async fn event(&mut self, stage: &str) -> Value {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the log is open");
                if event["stage"] == stage {
                    return event;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, next).await;
        found.unwrap_or_else(|_| panic!("no event {stage:?} came"))
    }

    /// Lets time pass, and custody notice.
    pub(super) fn advance(&self, span: &str) {
        let span: postrider_crds::Duration = span.parse().unwrap();
        let span = SignedDuration::from_secs(i64::try_from(span.as_secs()).unwrap());
        *self.clock.wall.lock().unwrap() += span;
        self.custody
            .apply_admission(admission_of(self.settings.borrow().clone()));
    }

    /// Puts other settings in force.
    pub(super) fn reload(&self, setup: &Setup) {
        let settings = Arc::new(settings(setup));
        self.settings.send_replace(settings.clone());
        self.custody.apply_admission(admission_of(settings));
    }

    /// Tells the loop to stop.
    pub(super) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops the loop and says what it left.
    pub(super) async fn stop(self) -> Custody {
        self.begin_stop();
        let ended = tokio::time::timeout(PATIENCE, self.running).await;
        ended.expect("it ends within its budget").unwrap();
        self.custody
    }
}

fn admission_of(settings: Arc<Settings>) -> custody::AdmissionOf {
    Arc::new(move |domain| match domain {
        None => Admission::Send,
        Some(name) => settings
            .domains
            .get(name)
            .map_or(Admission::Hold, |domain| domain.entry.admission),
    })
}

fn settings(setup: &Setup) -> Settings {
    let entry = entry(setup.admission);
    let domain = Domain {
        signer: Arc::new(Signer::from_entry(&entry).unwrap()),
        entry,
    };
    Settings {
        relay: RelayConfig {
            version: 1,
            pool: PoolName {
                namespace: "mail".into(),
                name: "default".into(),
            },
            hostname: "mail-0.example.net".into(),
            listeners: Listeners::default(),
            limits: Accepted {
                message_bytes: 1 << 20,
                recipients: 100,
                sessions: 10,
            },
            delivery: Delivery {
                retry: Retry {
                    initial: "1m".parse().unwrap(),
                    maximum: "4h".parse().unwrap(),
                },
                expire_after: "5d".parse().unwrap(),
                delay_warning_after: "4h".parse().unwrap(),
                tls: setup.tls,
                port: setup.port,
                connections_per_site: setup.connections,
            },
            resolvers: Vec::new(),
            trusted_clients: Vec::new(),
        },
        domains: [(domain.entry.domain.clone(), Arc::new(domain))].into(),
        credentials: Arc::default(),
        suppression: SuppressionIndex::default(),
        submission_tls: server_tls("mail-0.example.net"),
        documents: std::collections::BTreeMap::new(),
    }
}

fn entry(admission: Admission) -> DomainEntry {
    let key = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    DomainEntry {
        domain: "example.com".parse().unwrap(),
        return_path: "bounce.example.com".parse().unwrap(),
        admission,
        reason: match admission {
            Admission::Send => String::new(),
            Admission::Hold | Admission::Reject => "its DKIM record is missing".into(),
        },
        intake: Intake::Open,
        keys: vec![SigningKey {
            selector: "pr-1".parse().unwrap(),
            algorithm: KeyAlgorithm::Ed25519,
            state: SigningState::Active,
            private_key: format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                STANDARD.encode(key.as_ref())
            ),
        }],
        senders: Vec::new(),
    }
}

/// A self-signed certificate for `name`.
pub(super) fn server_tls(name: &str) -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    Arc::new(config)
}
