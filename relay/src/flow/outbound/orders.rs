//! Orders that are carried out: what is flushed is made due, what is expired is given up and its
//! senders are told.
//!
//! Guarantees: an order is carried out to its end, over restarts too; whoever is being attempted
//! when it comes is looked at again afterwards. Caveat: an order that was begun again after a crash
//! may flush twice; nothing is expired twice, since what was expired is gone.

use std::{iter, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use postrider_crds::{
    DomainName,
    queue::{Order, Scope, Verb},
};

use super::{Outbound, nowhere, settle::Judged};
use crate::{
    custody::Due,
    mail::{EnhancedCode, Reply},
    outcome::Ruling,
    routing::route,
};

/// Legs given up at a time: enough to share syncs, few enough to leave room for the mail that goes.
const GIVEN_UP: usize = 64;
/// Domains looked up at a time to learn their sites.
const LOOKUPS: usize = 32;
/// Wait before an order that did not come to its end is gone on with.
const PAUSE: Duration = Duration::from_secs(1);

impl Outbound {
    /// Carries out one order after the other.
    pub(super) async fn carry_out_orders(self: Arc<Self>) {
        let custody = &self.parts.custody;
        loop {
            let order = tokio::select! {
                order = custody.next_order() => order,
                () = self.stop.cancelled() => None,
            };
            let Some(order) = order else {
                return;
            };
            let ended = match order.verb {
                Verb::Flush => self.flush(&order).await,
                Verb::Expire => self.expire(&order).await,
                // Custody follows these by itself.
                Verb::Hold | Verb::Release | Verb::Suspend | Verb::Resume => true,
            };
            if ended && let Err(error) = custody.carried_out(order.number).await {
                tracing::error!(order = order.number, %error, "order is carried out, which cannot be recorded");
            } else if ended {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Whether that came to its end.
    async fn flush(&self, order: &Order) -> bool {
        self.learn_sites(order).await;
        let flushed = self.parts.custody.flush(order).await;
        if let Err(error) = &flushed {
            tracing::error!(order = order.number, %error, "mail cannot be flushed");
        }
        flushed.is_ok()
    }

    /// Whether that came to its end, and nothing that the order is about is left.
    async fn expire(&self, order: &Order) -> bool {
        self.learn_sites(order).await;
        let custody = &self.parts.custody;
        let mut from = 0;
        let found = iter::from_fn(|| match self.stop.is_cancelled() {
            true => None,
            false => custody.next_ordered(order, &mut from),
        });
        stream::iter(found)
            .for_each_concurrent(GIVEN_UP, |due| self.give_up(due, order))
            .await;
        custody.count_about(order).await == 0
    }

    async fn give_up(&self, due: Due, order: &Order) {
        let Some(claim) = self.parts.custody.load(due).await else {
            return;
        };
        let ruling = Ruling::Expired {
            reply: Reply::new(
                554,
                // RFC 3463 §3.5: delivery time expired.
                EnhancedCode(5, 4, 7),
                format!(
                    "given up by order {} of this system's operator",
                    order.number
                ),
            ),
        };
        let recipients = claim.recipients.iter();
        let rulings = recipients.map(|index| (*index, ruling.clone())).collect();
        let remote = nowhere(&claim);
        let judged = Judged::without_attempt(claim, rulings, remote);
        self.settle(judged, &self.settings()).await;
    }

    /// Looks up the sites of domains that were not routed since the start, for an order that is
    /// about a site.
    async fn learn_sites(&self, order: &Order) {
        if !matches!(order.scope, Scope::Site(_)) {
            return;
        }
        stream::iter(self.parts.custody.unrouted())
            .for_each_concurrent(LOOKUPS, |domain| self.learn_site(domain))
            .await;
    }

    async fn learn_site(&self, domain: DomainName) {
        let settings = self.settings();
        let (resolver, random) = (&*self.parts.resolver, &*self.parts.random);
        let hostname = &settings.relay.hostname;
        // A domain without a route is at no site.
        if let Ok(route) = route(&domain, hostname, resolver, random).await {
            self.bind(&domain, &route.site, &settings);
        }
    }
}
