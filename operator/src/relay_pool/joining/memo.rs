//! What a volume says of the standing orders of its pool (annotation `postrider.dev/orders`): whether its
//! member has been told, and until then which orders it has, so that none is given twice.
//!
//! Format: `known`; or since when the volume has been away, or `new`, and behind it for each of these
//! orders 16 hexadecimal digits of the digest of its verb and scope, `@`, and the second in which it was
//! given. What cannot be read counts as not said.
//!
//! Promises: no longer than [`MOST`] orders take, some 14 kB; an API server takes 256 KiB of annotations.
//!
//! Caveats: orders beyond these may be given again.

use std::{collections::BTreeMap, convert::Infallible, fmt, str::FromStr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use postrider_crds::{digest, queue::Order};

use super::standing::SLACK;
use crate::names::ORDERS_ANNOTATION;

/// What is said of a volume whose member has been told.
const TOLD: &str = "known";
/// What is said of one that has never been away.
const NEW: &str = "new";
/// Digits of a digest that stand for an order: two of a thousand are the same once in 10^13 times.
const DIGITS: usize = 16;
/// Orders that are noted: as many as may be in force in a pod.
const MOST: usize = 500;

/// What a volume says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Memo {
    /// Its member has been told.
    Told,
    /// It has not.
    Untold(Untold),
}

/// What a volume says whose member has not been told all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Untold {
    away: Option<Timestamp>,
    /// The orders that it has or has been given: when, in seconds, by name.
    has: BTreeMap<String, i64>,
}

impl Memo {
    /// What `claim` says.
    pub(super) fn of(claim: &PersistentVolumeClaim) -> Self {
        let said = claim.annotations().get(ORDERS_ANNOTATION);
        said.map_or_else(
            || Self::Untold(Untold::default()),
            |said| match said.parse() {
                Ok(memo) => memo,
                Err(never) => match never {},
            },
        )
    }
}

impl Untold {
    /// A volume that has been told and is away since `at`.
    pub(super) fn since(at: Timestamp) -> Self {
        Self {
            away: Some(at),
            has: BTreeMap::new(),
        }
    }

    /// Since when it has been away; `None`: it has not been.
    pub(super) const fn away(&self) -> Option<Timestamp> {
        self.away
    }

    /// Whether it has, or has had, `order`. Each pod that is given one notes a time of its own.
    pub(super) fn has(&self, order: &Order) -> bool {
        let known = self.has.get(&name(order));
        known.is_some_and(|known| order.given.as_second() <= known.saturating_add(SLACK.as_secs()))
    }

    /// The same with `orders`.
    pub(super) fn with(&self, orders: &[&Order]) -> Self {
        let mut with = self.clone();
        for order in orders {
            let (name, given) = (name(order), order.given.as_second());
            let has_room = with.has.len() < MOST || with.has.contains_key(&name);
            if has_room && !self.has(order) {
                let known = with.has.entry(name).or_insert(given);
                *known = given.max(*known);
            }
        }
        with
    }
}

fn name(order: &Order) -> String {
    let mut name = digest::of(format!("{} {}", order.verb, order.scope).as_bytes());
    name.truncate(DIGITS);
    name
}

impl fmt::Display for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Untold(Untold { away, has }) = self else {
            return f.write_str(TOLD);
        };
        match away {
            Some(away) => write!(f, "{away}")?,
            None => f.write_str(NEW)?,
        }
        has.iter()
            .try_for_each(|(name, given)| write!(f, " {name}@{given}"))
    }
}

impl FromStr for Memo {
    type Err = Infallible;

    fn from_str(said: &str) -> Result<Self, Infallible> {
        if said == TOLD {
            return Ok(Self::Told);
        }
        let mut words = said.split_ascii_whitespace();
        let away = words.next().and_then(|away| away.parse().ok());
        let order = |word: &str| {
            let (name, given) = word.split_once('@')?;
            let digits = name.len() == DIGITS && name.chars().all(|c| c.is_ascii_hexdigit());
            digits.then_some((name.to_owned(), given.parse().ok()?))
        };
        let has = words.filter_map(order).take(MOST).collect();
        Ok(Self::Untold(Untold { away, has }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn order(domain: &str, given: i64) -> Order {
        let given = Timestamp::from_second(given).unwrap();
        serde_json::from_value(
            json!({"number": 1, "verb": "hold", "domain": domain, "by": "ann",
            "client": "c", "reason": "INC-7", "given": given}),
        )
        .unwrap()
    }

    fn read(said: &str) -> Memo {
        said.parse().unwrap()
    }

    #[test]
    fn table_of_what_volumes_say() {
        let left: Timestamp = "2026-01-31T09:00:00Z".parse().unwrap();
        let untold = |away, has: &[(&str, i64)]| {
            let has = has.iter().map(|(name, given)| ((*name).to_owned(), *given));
            let has = has.collect();
            Memo::Untold(Untold { away, has })
        };
        let name = "0123456789abcdef";
        for (said, memo) in [
            ("known", Memo::Told),
            ("2026-01-31T09:00:00Z", untold(Some(left), &[])),
            ("new 0123456789abcdef@77", untold(None, &[(name, 77)])),
            (
                "2026-01-31T09:00:00Z 0123456789abcdef@77 x@1 0123456789abcdeg@1 @ abc",
                untold(Some(left), &[(name, 77)]),
            ),
            ("nonsense", untold(None, &[])),
            ("", untold(None, &[])),
        ] {
            assert_eq!(read(said), memo, "{said}");
        }
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({})).unwrap();
        assert_eq!(Memo::of(&claim), untold(None, &[]));
        assert_eq!(
            Memo::Untold(Untold::since(left)).to_string(),
            left.to_string()
        );
    }

    #[test]
    fn an_order_is_had_until_it_is_given_anew() {
        let untold = Untold::default().with(&[&order("a.test", 1_000)]);
        for (domain, given, has) in [
            ("a.test", 900, true),
            ("a.test", 1_000, true),
            // The same, by the clock of another pod.
            ("a.test", 1_300, true),
            ("a.test", 1_301, false),
            ("b.test", 1_000, false),
        ] {
            assert_eq!(untold.has(&order(domain, given)), has, "{domain} {given}");
        }
        assert_eq!(
            untold.with(&[&order("a.test", 1_200)]),
            untold,
            "nothing to write"
        );
        let anew = untold.with(&[&order("a.test", 2_000)]);
        assert!(anew.has(&order("a.test", 2_300)));
    }

    #[test]
    fn there_is_an_end_to_what_is_noted() {
        let orders: Vec<_> = (0..2 * MOST)
            .map(|n| order(&format!("d{n}.test"), 1_000))
            .collect();
        let untold = Untold::default().with(&orders.iter().collect::<Vec<_>>());
        assert_eq!(untold.has.len(), MOST);
        let said = Memo::Untold(untold.clone()).to_string();
        assert!(said.len() < 16 * 1024, "{}", said.len());
        assert_eq!(read(&said), Memo::Untold(untold));
    }

    proptest! {
        #[test]
        fn what_is_said_is_read_back(
            away in proptest::option::of(0_i64..4_000_000_000),
            given in proptest::collection::vec(("[a-z]{1,9}", 0_i64..4_000_000_000), 0..20),
        ) {
            let away = away.map(|second| Timestamp::from_second(second).unwrap());
            let orders: Vec<_> = given.iter().map(|(d, at)| order(&format!("{d}.test"), *at)).collect();
            let orders: Vec<_> = orders.iter().collect();
            let untold = Untold { away, ..Untold::default() }.with(&orders);
            prop_assert!(orders.iter().all(|order| untold.has(order)));
            let memo = Memo::Untold(untold);
            prop_assert_eq!(read(&memo.to_string()), memo);
        }

        #[test]
        fn whatever_is_said_is_read(said in "\\PC{0,80}") {
            let memo = read(&said);
            prop_assert_eq!(read(&memo.to_string()), memo);
        }

        /// An order that one member lifts stays lifted there, whatever the others say again and in
        /// whatever order, as long as nobody gives it anew.
        #[test]
        fn an_order_is_given_once(
            rounds in proptest::collection::vec(proptest::collection::vec((0_usize..4, 0_i64..300), 0..6), 1..8),
        ) {
            let mut said = Memo::Untold(Untold::default()).to_string();
            let mut given = [0; 4];
            for round in rounds {
                let Memo::Untold(untold) = read(&said) else { unreachable!() };
                let orders: BTreeMap<usize, Order> = round
                    .iter()
                    .map(|(n, late)| (*n, order(&format!("d{n}.test"), 10_000 + late)))
                    .collect();
                for (n, order) in &orders {
                    // It is lifted as soon as it is given: the member never knows it.
                    given[*n] += usize::from(!untold.has(order));
                }
                said = Memo::Untold(untold.with(&orders.values().collect::<Vec<_>>())).to_string();
            }
            prop_assert!(given.iter().all(|times| *times <= 1), "{:?}", given);
        }
    }
}
