//! Which orders a volume has missed that was not there, and how they are given once more. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use postrider_crds::queue::{Order, OrderRequest, QueueOverview, Scope, Verb};

/// Clocks differ by no more, and a member takes no longer to start: who gives an order to a member that is
/// starting is told that it was not reached.
pub(super) const SLACK: SignedDuration = SignedDuration::from_mins(5);

/// Since when a volume was not there to be told, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absence {
    from: Option<Timestamp>,
    until: Timestamp,
}

impl Absence {
    /// When `claim` was not there, which is the volume of `pod` and has been `away` since then; `None`: it
    /// is new.
    pub(super) fn of(
        away: Option<Timestamp>,
        claim: &PersistentVolumeClaim,
        pod: &Pod,
    ) -> Option<Self> {
        let back = match away {
            Some(_) => &pod.metadata.creation_timestamp,
            None => &claim.metadata.creation_timestamp,
        };
        Some(Self {
            from: away.and_then(|away| away.checked_sub(SLACK).ok()),
            until: back.as_ref()?.0.checked_add(SLACK).ok()?,
        })
    }

    fn has(&self, order: &Order) -> bool {
        self.from.is_none_or(|from| from < order.given) && order.given <= self.until
    }
}

/// The standing orders of `others` that were given in an `absence`, as they were given. Of several about
/// the same the last counts.
pub(super) fn missed<'a>(
    others: impl Iterator<Item = &'a QueueOverview>,
    absence: Absence,
    now: Timestamp,
) -> Vec<&'a Order> {
    let mut last: BTreeMap<(Verb, &Scope), &Order> = BTreeMap::new();
    let orders = others.flat_map(|overview| &overview.orders);
    for order in orders.filter(|order| absence.has(order) && stands(order, now)) {
        let slot = last.entry((order.verb, &order.scope)).or_insert(order);
        if slot.given < order.given {
            *slot = order;
        }
    }
    let mut orders: Vec<&Order> = last.into_values().collect();
    orders.sort_by_key(|order| order.given);
    orders
}

/// Whether `order`, or another that says the same, is in force at the member that gave `own`.
pub(super) fn knows(own: &QueueOverview, order: &Order) -> bool {
    let mut known = own.orders.iter();
    known.any(|known| (known.verb, &known.scope) == (order.verb, &order.scope))
}

/// Whether `order` is about mail to come.
fn stands(order: &Order, now: Timestamp) -> bool {
    let lasts = match order.verb {
        Verb::Hold | Verb::Suspend => true,
        Verb::Release | Verb::Resume | Verb::Flush | Verb::Expire => false,
    };
    let wide = match order.scope {
        Scope::Domain(_) | Scope::Site(_) | Scope::Tenant(_) => true,
        Scope::Message(_) => false,
    };
    lasts && wide && order.until.is_none_or(|until| until > now)
}

/// What has `order` given as it was given.
pub(super) fn request(order: &Order) -> OrderRequest {
    let mut request = OrderRequest {
        verb: order.verb.to_string(),
        reason: order.reason.clone(),
        by: Some(order.by.clone()),
        until: order.until.map(|until| until.to_string()),
        ..OrderRequest::default()
    };
    match &order.scope {
        Scope::Message(id) => request.message = Some(id.to_string()),
        Scope::Domain(domain) => request.domain = Some(domain.to_string()),
        Scope::Site(site) => request.site = Some(site.to_string()),
        Scope::Tenant(tenant) => request.tenant = Some(tenant.clone()),
    }
    request
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn overview(pod: &str, orders: Value) -> QueueOverview {
        QueueOverview {
            pod: pod.into(),
            orders: serde_json::from_value(orders).unwrap(),
            ..QueueOverview::default()
        }
    }

    fn order(verb: &str, scope: (&str, &str), given: i64) -> Value {
        json!({"number": 1, "verb": verb, scope.0: scope.1, "by": "ann", "client": "c",
            "reason": "INC-7", "given": at(given)})
    }

    const NEW: Absence = Absence {
        from: None,
        until: Timestamp::MAX,
    };

    /// What one lacks who has the orders `own`.
    fn handed(own: Value, others: &[Value], absence: Absence) -> Vec<String> {
        let own = overview("p-9", own);
        let others: Vec<_> = others.iter().map(|o| overview("p-0", o.clone())).collect();
        let orders = missed(others.iter(), absence, at(1_000)).into_iter();
        let lacks = orders.filter(|order| !knows(&own, order));
        lacks.map(|o| format!("{} {}", o.verb, o.scope)).collect()
    }

    #[test]
    fn what_stands_for_mail_to_come_is_handed_on_in_its_order() {
        let id = "01kg3v40000000000000000000";
        let mut over = order("suspend", ("domain", "over.test"), 50);
        over["until"] = json!(at(1_000));
        let mut until = order("suspend", ("site", "mx.slow.test"), 40);
        until["until"] = json!(at(1_001));
        let given = json!([
            order("hold", ("tenant", "shop/app"), 60),
            order("hold", ("message", id), 61),
            order("release", ("message", id), 62),
            order("flush", ("domain", "one.test"), 63),
            order("expire", ("tenant", "shop/app"), 64),
            until,
            over,
        ]);
        let wanted = ["suspend site mx.slow.test", "hold tenant shop/app"];
        assert_eq!(handed(json!([]), std::slice::from_ref(&given), NEW), wanted);
        assert_eq!(handed(given.clone(), &[given], NEW), [""; 0]);
    }

    #[test]
    fn only_what_was_given_in_the_absence_and_the_last_of_several() {
        let both = |given| json!([order("hold", ("domain", "a.test"), given)]);
        let absence = Absence {
            from: Some(at(100)),
            until: at(200),
        };
        for (given, handed_on) in [(100, false), (101, true), (200, true), (201, false)] {
            assert_eq!(
                handed(json!([]), &[both(given)], absence).len(),
                usize::from(handed_on)
            );
        }
        let others = [10, 30, 20].map(|given| overview("p-0", both(given)));
        let last = missed(others.iter(), NEW, at(1_000));
        assert_eq!(last.iter().map(|o| o.given).collect::<Vec<_>>(), [at(30)]);
    }

    #[test]
    fn what_is_asked_for_is_the_order_as_it_was_given() {
        for scope in [
            ("domain", "a.test"),
            ("site", "mx.a.test"),
            ("tenant", "shop/app"),
        ] {
            let mut given = order("suspend", scope, 10);
            given["until"] = json!(at(2_000));
            let order: Order = serde_json::from_value(given).unwrap();
            let command = request(&order).check("operator").unwrap();
            assert_eq!((command.verb, &command.scope), (order.verb, &order.scope));
            assert_eq!((command.by, command.reason), (order.by, order.reason));
            assert_eq!(command.until, order.until);
        }
    }

    #[test]
    fn a_volume_was_not_there_before_it_was_made_or_while_it_was_away() {
        let made = |name: &str, second| json!({"metadata": {"name": name, "creationTimestamp": at(second)}});
        let pod: Pod = serde_json::from_value(made("p-2", 50_000)).unwrap();
        let claim: PersistentVolumeClaim =
            serde_json::from_value(made("spool-p-2", 10_000)).unwrap();
        for (away, from, until) in [
            (None, None, 10_300),
            (Some(at(20_000)), Some(at(19_700)), 50_300),
        ] {
            let until = at(until);
            let found = Absence::of(away, &claim, &pod);
            assert_eq!(found, Some(Absence { from, until }), "{away:?}");
        }
    }
}
