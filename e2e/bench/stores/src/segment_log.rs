//! The relay's own custody: spool, queue and committer as they run in a relay.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use postrider_crds::relay_config::Admission;
use postrider_relay::{
    custody::{Claim, Custody, Limits, NewMessage, Parts, RecipientResult, Settlement, Trust},
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath, Site},
    ports::{SystemClock, SystemDisk, SystemRandom},
    telemetry::Telemetry,
};

use crate::{
    Failure,
    candidate::{DOMAIN, Outcome, RETURN_PATH, TENANT, recipient},
};

/// Custody, open.
pub(crate) struct SegmentLog(Custody);

impl SegmentLog {
    /// Opens or makes a spool.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        Ok(Self(Custody::open(Parts {
            disk: Arc::new(SystemDisk::open(dir)?),
            clock: Arc::new(SystemClock::start()),
            random: Arc::new(SystemRandom),
            telemetry: Arc::new(Telemetry::new(Box::new(std::io::sink()))),
            limits: Limits::default(),
            admission: Arc::new(|_| Admission::Send),
        })?))
    }

    /// Takes a message.
    pub(crate) async fn accept(&self, id: u128, body: Bytes) -> Result<(), Failure> {
        let message = NewMessage {
            id: MessageId::from_u128(id),
            envelope: Envelope {
                return_path: ReturnPath::Mailbox(RETURN_PATH.parse()?),
                recipients: vec![Recipient {
                    mailbox: recipient(id).parse()?,
                }],
                body_kind: BodyKind::SevenBit,
                domain: Some(DOMAIN.parse()?),
                tenant: TENANT.to_owned(),
                priority: None,
            },
            body,
            accepted: now(),
            suppressed: Vec::new(),
        };
        let _committed = self.0.accept(message).await?;
        Ok(())
    }

    /// The next leg that is due.
    pub(crate) async fn next(&self) -> Result<Claim, Failure> {
        let claim = self.0.next_due().await.ok_or("custody is closed")?;
        let site = Site::of_domain(&claim.domain);
        let _ = self.0.bind(&claim.domain, &site, 160, Trust::Proven);
        Ok(claim)
    }

    /// Records an attempt and what came of it.
    pub(crate) async fn deliver(&self, claim: Claim, outcome: Outcome) -> Result<(), Failure> {
        self.0.attempt_started(&claim).await?;
        let result = match outcome {
            Outcome::Delivered => RecipientResult::Delivered,
            Outcome::Deferred => RecipientResult::Deferred {
                until: now() + SignedDuration::from_hours(24),
            },
        };
        let settlement = Settlement {
            results: vec![(0, result)],
            ..Settlement::default()
        };
        Ok(self.0.settle(claim, settlement).await?)
    }

    /// Waits until all of it is restored; how many messages wait.
    pub(crate) async fn waiting(&self) -> u64 {
        while self.0.restoring() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        self.0.report().deferred
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clocks"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
