//! The orders in force: what operators have said about the mail in custody, who, and why.
//!
//! Promises: pure. A table is changed as a whole: [`Orders::obey`] gives the next one, which is
//! stored as one record and only then put in force. *Standing* orders (hold, suspend, the release of
//! one message) last until they are lifted; *passing* ones (flush, expire) until they have been
//! carried out. The later order counts: a message that was released is kept by no earlier hold. At
//! most [`MAX_ORDERS`] are in force.

use std::collections::HashMap;

use jiff::Timestamp;
use postrider_crds::{
    DomainName,
    queue::{Command, Order, Scope, SiteName, Verb},
};
use serde::Deserialize;

use super::OrderError;
use crate::mail::{MessageId, Site};

/// Orders in force at a time; the table is written whole at each change, about a kilobyte an order.
pub(crate) const MAX_ORDERS: usize = 500;

/// Every order in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct Orders {
    /// Counts the changes; of two tables the one of the higher revision is in force.
    pub(crate) revision: u64,
    /// The number of the last order that was given.
    last: u64,
    list: Vec<Order>,
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obeyed {
    /// The order in force now; `None` where the command only ends others.
    pub order: Option<Order>,
    /// Orders it ended.
    pub ended: Vec<Order>,
}

/// How an order keeps a leg back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// By a suspension.
    Suspended,
    /// By a hold, whatever else.
    Held,
}

/// What of a leg orders are matched with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matter<'a> {
    pub(crate) id: MessageId,
    pub(crate) tenant: &'a str,
    pub(crate) domain: &'a DomainName,
    /// As last known.
    pub(crate) site: Option<&'a Site>,
}

impl Orders {
    /// A table as it was stored.
    pub(crate) const fn new(revision: u64, last: u64, list: Vec<Order>) -> Self {
        Self {
            revision,
            last,
            list,
        }
    }

    /// The number of the last order that was given.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// Orders in force, oldest first.
    pub(crate) fn list(&self) -> &[Order] {
        &self.list
    }

    /// Whether nothing is in force.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first order to carry out.
    pub(crate) fn passing(&self) -> Option<&Order> {
        self.list.iter().find(|order| is_passing(order.verb))
    }

    /// The table once `command` is obeyed. Orders that have ended by themselves are left out of it,
    /// as are those about messages that `is_queued` does not know.
    pub(crate) fn obey(
        &self,
        command: Command,
        now: Timestamp,
        is_queued: impl Fn(MessageId) -> bool,
    ) -> Result<(Self, Obeyed), OrderError> {
        let mut next = self.current(now, &is_queued);
        if let Scope::Message(id) = command.scope
            && !is_queued(id)
        {
            return Err(OrderError::UnknownMessage(id));
        }
        if let Some(until) = command.until.filter(|until| *until <= now) {
            return Err(OrderError::Past { until, now });
        }
        let ends = ended_by(command.verb);
        let mut obeyed = Obeyed::default();
        let is_ended = |order: &Order| order.scope == command.scope && ends.contains(&order.verb);
        (obeyed.ended, next.list) = next.list.into_iter().partition(is_ended);
        let stays = match command.verb {
            Verb::Hold | Verb::Suspend | Verb::Flush | Verb::Expire => true,
            Verb::Release => next.exempts(&command.scope),
            Verb::Resume => false,
        };
        if !stays && obeyed.ended.is_empty() {
            return Err(OrderError::NothingToEnd {
                verb: command.verb,
                scope: command.scope,
            });
        }
        if stays {
            if next.list.len() >= MAX_ORDERS {
                return Err(OrderError::TooMany);
            }
            next.last += 1;
            let order = order(command, next.last, now);
            next.list.push(order.clone());
            obeyed.order = Some(order);
        }
        next.revision += 1;
        Ok((next, obeyed))
    }

    /// The table once the order of this number has been carried out; `None` when it is not in force.
    pub(crate) fn carried_out(&self, number: u64) -> Option<(Self, Order)> {
        let mut next = self.clone();
        let at = next.list.iter().position(|order| order.number == number)?;
        let order = next.list.remove(at);
        next.revision += 1;
        Some((next, order))
    }

    /// The table without what has ended by itself.
    fn current(&self, now: Timestamp, is_queued: &impl Fn(MessageId) -> bool) -> Self {
        let mut next = self.clone();
        next.list.retain(|order| {
            let is_over = order.until.is_some_and(|until| until <= now);
            let is_about_nothing = match order.scope {
                Scope::Message(id) => !is_passing(order.verb) && !is_queued(id),
                Scope::Domain(_) | Scope::Site(_) | Scope::Tenant(_) => false,
            };
            !is_over && !is_about_nothing
        });
        next
    }

    /// Whether a release of `scope` has to stand against wider holds.
    fn exempts(&self, scope: &Scope) -> bool {
        matches!(scope, Scope::Message(_))
            && self
                .list
                .iter()
                .any(|order| order.verb == Verb::Hold && !matches!(order.scope, Scope::Message(_)))
    }
}

/// Orders of the same scope that a verb takes the place of, or ends.
const fn ended_by(verb: Verb) -> &'static [Verb] {
    match verb {
        Verb::Hold | Verb::Release => &[Verb::Hold, Verb::Release],
        Verb::Suspend | Verb::Resume => &[Verb::Suspend],
        Verb::Flush => &[Verb::Flush],
        Verb::Expire => &[Verb::Expire],
    }
}

const fn is_passing(verb: Verb) -> bool {
    match verb {
        Verb::Flush | Verb::Expire => true,
        Verb::Hold | Verb::Release | Verb::Suspend | Verb::Resume => false,
    }
}

fn order(command: Command, number: u64, given: Timestamp) -> Order {
    let Command {
        verb,
        scope,
        by,
        client,
        reason,
        until,
    } = command;
    Order {
        number,
        verb,
        scope,
        by,
        client,
        reason,
        given,
        until,
    }
}

/// The mail something is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) scope: &'a Scope,
    /// Only messages that came before this time, in milliseconds since 1970.
    pub(crate) before: Option<u64>,
}

impl<'a> About<'a> {
    /// What an order is about: a passing one is about what came before it. A notification that it
    /// leads to does not.
    pub(crate) fn order(order: &'a Order) -> Self {
        let given = u64::try_from(order.given.as_millisecond()).unwrap_or(0);
        // One that is named is meant, whatever the clocks say.
        let is_one = matches!(order.scope, Scope::Message(_));
        Self {
            scope: &order.scope,
            before: (is_passing(order.verb) && !is_one).then_some(given),
        }
    }
}

/// Whether `scope` is about a leg.
pub(crate) fn is_about(scope: &Scope, matter: Matter<'_>) -> bool {
    match scope {
        Scope::Message(id) => *id == matter.id,
        Scope::Domain(domain) => domain == matter.domain,
        Scope::Site(site) => matter.site.is_some_and(|of| site.is_of(of.as_str())),
        Scope::Tenant(tenant) => tenant == matter.tenant,
    }
}

/// The standing orders, found by what they are about.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    messages: HashMap<MessageId, Stop>,
    domains: HashMap<DomainName, Stop>,
    tenants: HashMap<String, Stop>,
    sites: Vec<(SiteName, Stop)>,
    any: bool,
}

/// The orders of one scope: the number of its hold and its release, and when its suspension ends,
/// in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Stop {
    held: u64,
    released: u64,
    suspended: Option<u32>,
}

/// No end.
const FOR_GOOD: u32 = u32::MAX;

impl Standing {
    /// Those of a table.
    pub(crate) fn of(orders: &Orders) -> Self {
        let mut standing = Self::default();
        for order in &orders.list {
            let stop = match &order.scope {
                Scope::Message(id) => standing.messages.entry(*id).or_default(),
                Scope::Domain(domain) => standing.domains.entry(domain.clone()).or_default(),
                Scope::Tenant(tenant) => standing.tenants.entry(tenant.clone()).or_default(),
                Scope::Site(site) => standing.of_site(site),
            };
            match order.verb {
                Verb::Hold => stop.held = order.number,
                Verb::Release => stop.released = order.number,
                Verb::Suspend => {
                    let until = order.until.map(super::state::due_second);
                    stop.suspended = Some(until.unwrap_or(FOR_GOOD));
                }
                Verb::Resume | Verb::Flush | Verb::Expire => continue,
            }
            standing.any = true;
        }
        standing
    }

    fn of_site(&mut self, site: &SiteName) -> &mut Stop {
        let at = self.sites.iter().position(|(other, _)| other == site);
        let at = at.unwrap_or_else(|| {
            self.sites.push((site.clone(), Stop::default()));
            self.sites.len() - 1
        });
        let (_, stop) = self.sites.get_mut(at).expect("it was found or pushed");
        stop
    }

    /// Whether nothing is kept back.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any
    }

    /// How a leg is kept back as of `now`, in seconds since 1970.
    pub(crate) fn keeps(&self, matter: Matter<'_>, now: u32) -> Option<Kept> {
        if !self.any {
            return None;
        }
        let message = self.messages.get(&matter.id).copied().unwrap_or_default();
        let wider = [
            self.domains.get(matter.domain),
            self.tenants.get(matter.tenant),
        ];
        let sites = self.sites.iter().filter_map(|(name, stop)| {
            let site = matter.site?;
            name.is_of(site.as_str()).then_some(stop)
        });
        let (mut held, mut suspended) = (message.held, false);
        for stop in wider.into_iter().flatten().chain(sites) {
            held = held.max(stop.held);
            suspended |= stop.suspended.is_some_and(|until| now < until);
        }
        match (held > message.released, suspended) {
            (true, _) => Some(Kept::Held),
            (false, true) => Some(Kept::Suspended),
            (false, false) => None,
        }
    }

    /// Whether orders keep back what comes from a tenant, as of `now`, in seconds since 1970.
    pub(crate) fn keeps_tenant(&self, tenant: &str, now: u32) -> bool {
        let stop = self.tenants.get(tenant);
        stop.is_some_and(|stop| stop.held > 0 || stop.suspended.is_some_and(|until| now < until))
    }

    /// When the next suspension ends by itself after `now`.
    pub(crate) fn next_end(&self, now: u32) -> Option<u32> {
        let stops = self.domains.values().chain(self.tenants.values());
        let stops = stops.chain(self.sites.iter().map(|(_, stop)| stop));
        let ends = stops.filter_map(|stop| stop.suspended);
        ends.filter(|until| (now + 1..FOR_GOOD).contains(until))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn command(verb: Verb, scope: &Scope) -> Command {
        Command {
            verb,
            scope: scope.clone(),
            by: "ann".into(),
            client: "operator".into(),
            reason: "INC-7".into(),
            until: None,
        }
    }

    fn give(orders: &Orders, verb: Verb, scope: &Scope) -> Result<(Orders, Obeyed), OrderError> {
        orders.obey(command(verb, scope), at(100), |id| id.to_u128() < 10)
    }

    fn obeyed(orders: &Orders, verb: Verb, scope: &Scope) -> Orders {
        give(orders, verb, scope).unwrap().0
    }

    fn message(number: u128) -> Scope {
        Scope::Message(MessageId::from_u128(number))
    }

    fn domain() -> Scope {
        Scope::Domain("one.test".parse().unwrap())
    }

    fn keeps(orders: &Orders, number: u128, now: u32) -> Option<Kept> {
        let domain = "one.test".parse().unwrap();
        let site = Site::of_hosts(["mx.one.test", "mx.two.test"]);
        let matter = Matter {
            id: MessageId::from_u128(number),
            tenant: "apps/one",
            domain: &domain,
            site: Some(&site),
        };
        Standing::of(orders).keeps(matter, now)
    }

    #[test]
    fn each_scope_is_kept_and_let_go() {
        let scopes = [
            message(1),
            domain(),
            Scope::Tenant("apps/one".into()),
            Scope::Site("mx.two.test".parse().unwrap()),
        ];
        for scope in scopes {
            for (verb, back, kept) in [
                (Verb::Hold, Verb::Release, Kept::Held),
                (Verb::Suspend, Verb::Resume, Kept::Suspended),
            ] {
                if matches!((verb, &scope), (Verb::Suspend, Scope::Message(_))) {
                    // Refused before it comes here.
                    continue;
                }
                let (orders, first) = give(&Orders::default(), verb, &scope).unwrap();
                assert_eq!(keeps(&orders, 1, 100), Some(kept), "{scope}");
                let (again, second) = give(&orders, verb, &scope).unwrap();
                assert_eq!(second.ended, [first.order.unwrap()], "one of a kind");
                let (orders, last) = give(&again, back, &scope).unwrap();
                assert_eq!((last.order, last.ended.len()), (None, 1));
                assert_eq!((keeps(&orders, 1, 100), orders.is_empty()), (None, true));
                assert_eq!(orders.revision, 3);
                let refused = give(&orders, back, &scope).unwrap_err().to_string();
                assert!(refused.contains(&scope.to_string()), "{refused}");
            }
        }
    }

    #[test]
    fn a_released_message_leaves_a_wider_hold_until_the_next_one() {
        let held = obeyed(&Orders::default(), Verb::Hold, &domain());
        let freed = obeyed(&held, Verb::Release, &message(1));
        assert_eq!(keeps(&freed, 1, 100), None);
        assert_eq!(keeps(&freed, 2, 100), Some(Kept::Held));
        let again = obeyed(&freed, Verb::Hold, &Scope::Tenant("apps/one".into()));
        assert_eq!(keeps(&again, 1, 100), Some(Kept::Held));
        // Nor does a release undo a suspension.
        let suspended = obeyed(&freed, Verb::Suspend, &domain());
        assert_eq!(keeps(&suspended, 1, 100), Some(Kept::Suspended));
    }

    #[test]
    fn a_suspension_ends_by_itself() {
        let until = Command {
            until: Some(at(200)),
            ..command(Verb::Suspend, &domain())
        };
        let (orders, _) = Orders::default()
            .obey(until.clone(), at(100), |_| true)
            .unwrap();
        let standing = Standing::of(&orders);
        assert_eq!(standing.next_end(100), Some(200));
        assert_eq!(standing.next_end(200), None);
        assert_eq!(keeps(&orders, 1, 199), Some(Kept::Suspended));
        assert_eq!(keeps(&orders, 1, 200), None);
        let (next, _) = orders
            .obey(command(Verb::Hold, &message(1)), at(200), |_| true)
            .unwrap();
        assert_eq!(next.list().len(), 1, "what has ended is left out");
        let late = Orders::default().obey(until, at(200), |_| true);
        assert!(matches!(late, Err(OrderError::Past { .. })), "{late:?}");
    }

    #[test]
    fn orders_about_messages_that_are_gone_are_forgotten() {
        let orders = obeyed(&Orders::default(), Verb::Hold, &message(1));
        let (next, _) = orders
            .obey(command(Verb::Hold, &domain()), at(100), |_| false)
            .unwrap();
        assert_eq!(next.list().len(), 1);
        let unknown = give(&next, Verb::Hold, &message(11)).unwrap_err();
        assert!(
            matches!(unknown, OrderError::UnknownMessage(_)),
            "{unknown}"
        );
    }

    #[test]
    fn what_passes_waits_to_be_carried_out() {
        let orders = obeyed(&Orders::default(), Verb::Hold, &domain());
        let (orders, given) = give(&orders, Verb::Expire, &domain()).unwrap();
        let number = given.order.unwrap().number;
        assert_eq!(orders.passing().map(|order| order.number), Some(number));
        assert_eq!(keeps(&orders, 1, 100), Some(Kept::Held));
        let (done, order) = orders.carried_out(number).unwrap();
        assert_eq!((done.passing(), order.verb), (None, Verb::Expire));
        assert_eq!(done.list().len(), 1);
        assert!(done.carried_out(number).is_none());
    }

    #[test]
    fn there_are_only_so_many() {
        let mut orders = Orders::default();
        for number in 0..MAX_ORDERS {
            let domain = Scope::Domain(format!("d{number}.test").parse().unwrap());
            orders = obeyed(&orders, Verb::Hold, &domain);
        }
        let more = give(&orders, Verb::Hold, &domain()).unwrap_err();
        assert!(more.to_string().contains("500"), "{more}");
        assert!(
            give(
                &orders,
                Verb::Release,
                &Scope::Domain("d0.test".parse().unwrap())
            )
            .is_ok()
        );
    }
}
