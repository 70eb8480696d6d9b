//! How fast passwords can be guessed: the failed logins of each client network, and what they cost
//! its next attempts.
//!
//! Promises: a network is an IPv4 address or the /64 of an IPv6 one. Each failure is forgotten a
//! minute after the one before it was. A network with fewer than [`FREE`] of them is not touched;
//! beyond, each attempt is answered after a delay that doubles with each failure up to
//! [`LONGEST`], and is refused unseen where [`MAX_WAITING`] wait already. So no strategy tries more
//! than [`MAX_WAITING`] passwords in [`LONGEST`] from one network for long, while a right one waits
//! that long at most. A right password takes no failure back: whoever has one could guess
//! others with it. Memory is bounded: of more than [`MAX_NETWORKS`] those go that would have been
//! forgotten first. Never knows a username or a password.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Failures that cost nothing: what people mistype, and programs try before they are corrected.
const FREE: u32 = 10;
/// Failures counted: from here on the delay is the longest.
const MOST: u32 = FREE + 5;
/// What a failure is remembered for, one after the other.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// The delay of the first attempt that has one.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest delay: most clients wait longer for a reply.
const LONGEST: Duration = Duration::from_secs(30);
/// Attempts of a network that wait at a time: room for the pods of a node that share its address.
const MAX_WAITING: u32 = 16;
/// Networks remembered, at some 50 octets each.
const MAX_NETWORKS: usize = 16_384;

/// The failures of all networks.
#[derive(Debug, Default)]
pub struct Brake {
    networks: HashMap<IpAddr, Failures>,
}

/// What an attempt has to do before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Nothing.
    Free,
    /// Wait this long, then call [`Brake::waited`].
    After(Duration),
    /// Go: too many of its network wait.
    Refused,
}

#[derive(Debug)]
struct Failures {
    /// When the last of them is forgotten.
    until: Duration,
    /// Attempts that wait.
    waiting: u32,
}

impl Brake {
    /// What an attempt of `client` has to do at `now`, on a monotonic clock.
    pub fn enter(&mut self, client: IpAddr, now: Duration) -> Passage {
        let Some(failures) = self.networks.get_mut(&network(client)) else {
            return Passage::Free;
        };
        match failures.count(now).checked_sub(FREE) {
            None => Passage::Free,
            Some(_) if failures.waiting >= MAX_WAITING => Passage::Refused,
            Some(beyond) => {
                failures.waiting += 1;
                let delay = SHORTEST * 2_u32.saturating_pow(beyond);
                Passage::After(delay.min(LONGEST))
            }
        }
    }

    /// Whether an attempt of `client` would pass freely at `now`.
    #[must_use]
    pub fn is_free(&self, client: IpAddr, now: Duration) -> bool {
        let failures = self.networks.get(&network(client));
        failures.is_none_or(|failures| failures.count(now) < FREE)
    }

    /// An attempt of `client` has waited as it was told to, or has given up.
    pub fn waited(&mut self, client: IpAddr) {
        if let Some(failures) = self.networks.get_mut(&network(client)) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }

    /// An attempt of `client` was wrong, as of `now`.
    pub fn failed(&mut self, client: IpAddr, now: Duration) {
        let network = network(client);
        if !self.networks.contains_key(&network) && !self.make_room(now) {
            return;
        }
        let failures = self.networks.entry(network).or_insert(Failures {
            until: now,
            waiting: 0,
        });
        let until = failures.until.max(now) + FORGOTTEN_AFTER;
        failures.until = until.min(now + FORGOTTEN_AFTER * MOST);
    }

    /// Room for one more network; `false` where attempts of all of them wait, which are fewer than
    /// sessions.
    fn make_room(&mut self, now: Duration) -> bool {
        if self.networks.len() < MAX_NETWORKS {
            return true;
        }
        let is_idle = |failures: &Failures| failures.waiting == 0;
        self.networks
            .retain(|_, failures| failures.until > now || !is_idle(failures));
        if self.networks.len() < MAX_NETWORKS {
            return true;
        }
        let idle = self.networks.iter().filter(|(_, f)| is_idle(f));
        let first = idle.min_by_key(|(_, failures)| failures.until);
        let first = first.map(|(network, _)| *network);
        first.is_some_and(|first| self.networks.remove(&first).is_some())
    }
}

impl Failures {
    /// How many are remembered at `now`.
    fn count(&self, now: Duration) -> u32 {
        let left = self.until.saturating_sub(now);
        let count = left.as_nanos().div_ceil(FORGOTTEN_AFTER.as_nanos());
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Whom an address is counted for: an IPv6 client can have any address of its /64
/// (RFC 4291 §2.5.4).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(prefix).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORGETTING: Duration = FORGOTTEN_AFTER.saturating_mul(MOST);

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn failing(times: u32) -> Brake {
        let mut brake = Brake::default();
        for _ in 0..times {
            brake.failed(client(1), Duration::ZERO);
        }
        brake
    }

    #[test]
    fn the_delay_grows_with_the_failures_and_ends_with_them() {
        for (failures, seconds) in [(10, 1), (11, 2), (12, 4), (13, 8), (14, 16), (15, 30)] {
            let mut brake = failing(failures);
            let delay = Passage::After(Duration::from_secs(seconds));
            assert_eq!(brake.enter(client(1), Duration::ZERO), delay);
            assert_eq!(brake.enter(client(2), Duration::ZERO), Passage::Free);
        }
        let mut brake = failing(1000);
        assert_eq!(
            brake.enter(client(1), Duration::ZERO),
            Passage::After(LONGEST)
        );
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(brake.enter(client(1), minutes(5)), Passage::After(SHORTEST));
        assert!(!brake.is_free(client(1), minutes(5)));
        assert!(brake.is_free(client(1), minutes(6)));
        assert_eq!(brake.enter(client(1), minutes(6)), Passage::Free);
        assert!((0..FREE).all(|n| failing(n).is_free(client(1), Duration::ZERO)));
    }

    #[test]
    fn some_wait_and_the_rest_is_refused() {
        let mut brake = failing(FREE);
        for _ in 0..MAX_WAITING {
            let passage = brake.enter(client(1), Duration::ZERO);
            assert_eq!(passage, Passage::After(SHORTEST));
        }
        assert_eq!(brake.enter(client(1), Duration::ZERO), Passage::Refused);
        brake.waited(client(1));
        let passage = brake.enter(client(1), Duration::ZERO);
        assert_eq!(passage, Passage::After(SHORTEST));
    }

    #[test]
    fn a_network_is_an_address_or_a_64() {
        let same = |one: &str, other: &str| {
            network(one.parse().unwrap()) == network(other.parse().unwrap())
        };
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    }

    #[test]
    fn of_too_many_networks_those_stay_that_failed_most_or_wait() {
        let mut brake = failing(FREE);
        brake.failed(client(2), Duration::ZERO);
        let first = Ipv6Addr::from(0x2001_0db8_u128 << 96);
        for number in 0..MAX_NETWORKS as u128 + 9 {
            let other = Ipv6Addr::from(u128::from(first) + (number << 64));
            brake.failed(other.into(), Duration::from_millis(1));
        }
        assert_eq!(brake.networks.len(), MAX_NETWORKS);
        assert!(!brake.networks.contains_key(&client(2)));
        let passage = brake.enter(client(1), Duration::from_millis(1));
        assert_eq!(passage, Passage::After(SHORTEST));
        // What waits stays, also where it would be forgotten.
        assert!(brake.make_room(2 * FORGETTING));
        assert_eq!(brake.networks.keys().collect::<Vec<_>>(), [&client(1)]);
    }

    /// What a client does, and how long after the last.
    fn steps() -> impl Strategy<Value = Vec<(u32, bool, u64)>> {
        let gap = prop_oneof![Just(0), 0..3_000_u64, 0..90_000_u64];
        prop::collection::vec((0..3_u32, any::<bool>(), gap), 0..200)
    }

    proptest! {
        /// Attempts in any order at any time, each of which is wrong once it was looked at.
        #[test]
        fn passwords_are_tried_no_faster_than_that_and_nobody_waits_longer(steps in steps()) {
            let mut brake = Brake::default();
            let mut now = Duration::ZERO;
            let mut waiting: Vec<(Duration, IpAddr)> = Vec::new();
            let mut failures: Vec<(Duration, IpAddr)> = Vec::new();
            for (number, enters, gap) in steps {
                now += Duration::from_millis(gap);
                let client = client(number);
                waiting.retain(|(until, client)| {
                    if *until <= now {
                        brake.waited(*client);
                        brake.failed(*client, now);
                        failures.push((now, *client));
                    }
                    *until > now
                });
                if !enters {
                    continue;
                }
                let lately = failures.iter().filter(|(at, of)| *of == client && *at + FORGETTING > now);
                let lately = lately.count();
                let those = waiting.iter().filter(|(_, of)| *of == client).count();
                let is_free = brake.is_free(client, now);
                match brake.enter(client, now) {
                    Passage::Free => {
                        prop_assert!(is_free);
                        brake.failed(client, now);
                        failures.push((now, client));
                    }
                    Passage::After(delay) => {
                        prop_assert!(!is_free && lately >= FREE as usize);
                        prop_assert!((SHORTEST..=LONGEST).contains(&delay));
                        prop_assert!(those < MAX_WAITING as usize);
                        waiting.push((now + delay, client));
                    }
                    Passage::Refused => prop_assert_eq!(those, MAX_WAITING as usize),
                }
            }
            prop_assert!(brake.networks.len() <= 3);
            prop_assert!((0..3).all(|number| brake.is_free(client(number), now + FORGETTING)));
        }
    }

    /// One that tries as fast as it is let, over a day.
    #[test]
    fn who_tries_as_fast_as_can_be_gets_no_further() {
        let mut brake = Brake::default();
        let (mut now, mut tried) = (Duration::ZERO, 0_u64);
        let mut waiting: Vec<Duration> = Vec::new();
        while now < Duration::from_hours(24) {
            match brake.enter(client(1), now) {
                Passage::Free => {
                    tried += 1;
                    brake.failed(client(1), now);
                }
                Passage::After(delay) => waiting.push(now + delay),
                Passage::Refused => {
                    waiting.sort();
                    now = waiting.remove(0);
                    brake.waited(client(1));
                    brake.failed(client(1), now);
                    tried += 1;
                }
            }
        }
        let rounds = 24 * 3600 / LONGEST.as_secs();
        assert!(tried <= (rounds + 2) * u64::from(MAX_WAITING), "{tried}");
        assert!(tried >= rounds, "{tried}");
    }
}
