//! Mail that waits where nobody asks for it: given up when it has grown too old; and of what is kept
//! back, by admission or by an order, the sender is told when it is late, as of what receivers put
//! off.
//!
//! Flow: once a minute custody is searched, for the one and for the other.
//!
//! Guarantees: a sender is told once of the delay of a leg, whoever caused it, over restarts too:
//! custody records that with the notification. Caveat: of what an order about its tenant keeps back
//! nothing is told, since the order would keep the notification too.

use std::{iter, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::{Outbound, Standing, leg, nowhere, settle::Judged, standing};
use crate::{
    custody::Due,
    mail::{EnhancedCode, Reply},
    outcome::Ruling,
};

/// How often is looked for it.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// Senders told at a time: enough to share syncs, few enough to leave room for the mail that goes.
const TOLD: usize = 64;

impl Outbound {
    /// Takes what has grown too old from wherever it waits.
    pub(super) async fn give_up_overdue(self: Arc<Self>) {
        while self.pause().await {
            let lifetime = self.settings().relay.delivery.expire_after;
            let before = ago(self.parts.clock.wall(), lifetime);
            let mut from = 0;
            while let Some(due) = self.parts.custody.next_overdue(before, &mut from) {
                if self.stop.is_cancelled() {
                    return;
                }
                if !self.clone().load(due).await {
                    // It would be found again at once.
                    from += 1;
                }
            }
        }
    }

    /// Tells senders of what is kept back and late.
    pub(super) async fn warn_of_late(self: Arc<Self>) {
        while self.pause().await {
            let patience = self.settings().relay.delivery.delay_warning_after;
            let before = ago(self.parts.clock.wall(), patience);
            let mut from = 0;
            let found = iter::from_fn(|| match self.stop.is_cancelled() {
                true => None,
                false => self.parts.custody.next_late(before, &mut from),
            });
            stream::iter(found)
                .for_each_concurrent(TOLD, |due| self.warn(due))
                .await;
        }
    }

    /// Until it is to be looked again; whether it is.
    async fn pause(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => true,
            () = self.stop.cancelled() => false,
        }
    }

    async fn warn(&self, due: Due) {
        let custody = &self.parts.custody;
        let Some(claim) = custody.load(due).await else {
            return;
        };
        let settings = self.settings();
        let reply = match standing(&settings, &claim) {
            // RFC 3463 §3.8: other or undefined security status.
            Standing::Held(why) => Reply::new(451, EnhancedCode(4, 7, 0), why),
            // RFC 3463 §3.4: system not accepting network messages.
            Standing::Send(_) if custody.is_kept(&claim) => {
                let text = "kept back by this system's operator";
                Reply::new(451, EnhancedCode(4, 3, 2), text)
            }
            // It was let go meanwhile.
            Standing::Send(_) => return custody.put_back(claim).await,
        };
        let now = self.parts.clock.wall();
        let delivery = &settings.relay.delivery;
        if leg(&claim).expired(delivery, now, None).is_some() {
            // The other search is about it.
            return custody.put_back(claim).await;
        }
        let ruling = Ruling::Late { reply };
        let recipients = claim.recipients.iter();
        let rulings = recipients.map(|index| (*index, ruling.clone())).collect();
        let remote = nowhere(&claim);
        let judged = Judged::without_attempt(claim, rulings, remote);
        self.settle(judged, &settings).await;
    }
}

/// So long before `now`.
fn ago(now: Timestamp, time: postrider_crds::Duration) -> Timestamp {
    let time = SignedDuration::from_secs(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    now.saturating_sub(time).unwrap_or(Timestamp::MIN)
}
