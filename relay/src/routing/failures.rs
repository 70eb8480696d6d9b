//! Addresses that did not answer lately, so that the next attempt tries the others first.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::Destination;

/// How long a failure is remembered: as long as a host takes to restart.
const MEMORY: Duration = Duration::from_secs(300);
/// Most addresses remembered, some 48 octets each. When it is full, what failed longest ago goes.
const MAX_ADDRESSES: usize = 4096;

/// When addresses last failed, in monotonic time.
#[derive(Debug, Default)]
pub struct Failures {
    at: HashMap<IpAddr, Duration>,
}

impl Failures {
    /// `address` could not be reached at `now`.
    pub fn record(&mut self, address: IpAddr, now: Duration) {
        if self.at.len() >= MAX_ADDRESSES && !self.at.contains_key(&address) {
            self.at.retain(|_, at| now.saturating_sub(*at) < MEMORY);
            let oldest = self.at.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip);
            if let Some(oldest) = oldest
                && self.at.len() >= MAX_ADDRESSES
            {
                self.at.remove(&oldest);
            }
        }
        self.at.insert(address, now);
    }

    /// `address` answered.
    pub fn forget(&mut self, address: IpAddr) {
        self.at.remove(&address);
    }

    /// Moves recently failed addresses behind the others; both keep their order.
    pub fn put_last(&self, destinations: &mut [Destination], now: Duration) {
        destinations.sort_by_key(|destination| {
            let failed = self.at.get(&destination.address);
            failed.is_some_and(|at| now.saturating_sub(*at) < MEMORY)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<Destination> {
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
            .map(|address| Destination {
                host: "a.mx".into(),
                address: address.parse().unwrap(),
            })
            .into()
    }

    #[test]
    fn failed_addresses_go_last_until_forgotten() {
        let mut failures = Failures::default();
        let first = list()[0].address;
        failures.record(first, Duration::from_secs(10));
        let order = |failures: &Failures, now| {
            let mut list = list();
            failures.put_last(&mut list, Duration::from_secs(now));
            list.iter()
                .map(|d| d.address.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            order(&failures, 20),
            ["192.0.2.2", "192.0.2.3", "192.0.2.1"]
        );
        assert_eq!(order(&failures, 310)[0], "192.0.2.1");
        failures.forget(first);
        assert_eq!(order(&failures, 20)[0], "192.0.2.1");
    }

    #[test]
    fn memory_is_bounded_and_drops_the_oldest() {
        let mut failures = Failures::default();
        for n in 0..=MAX_ADDRESSES as u32 {
            let address = IpAddr::V4(n.into());
            failures.record(address, Duration::from_millis(u64::from(n)));
        }
        assert_eq!(failures.at.len(), MAX_ADDRESSES);
        assert!(!failures.at.contains_key(&IpAddr::V4(0.into())));
    }
}
