//! The addresses a pool's mail leaves from, as receivers see them: one address or a small network.
//!
//! Promises: at most [`MAX_ADDRESSES`] addresses each, so that every one of them can be checked.

use std::{fmt, net::IpAddr, net::Ipv4Addr, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Most addresses one range may stand for: SPF is evaluated for each of them.
pub const MAX_ADDRESSES: u32 = 256;

/// An address (`203.0.113.10`) or a network of at most 256 addresses (`203.0.113.0/28`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressRange {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is not an egress range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "egress address {value:?} {problem}; write an IP address or a CIDR of at most 256 addresses, such as \"203.0.113.10\" or \"203.0.113.0/28\""
)]
pub struct EgressRangeError {
    value: String,
    problem: &'static str,
}

impl EgressRange {
    /// Every address of the range, lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, count) = (self.first, 1_u32 << (width(self.first) - self.prefix));
        (0..count).map(move |offset| match first {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip) + offset)),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) + u128::from(offset))),
        })
    }

    /// The SPF mechanism (RFC 7208 §5.6) that covers exactly this range.
    #[must_use]
    pub fn spf_mechanism(&self) -> String {
        match self.first {
            IpAddr::V4(_) => format!("ip4:{self}"),
            IpAddr::V6(_) => format!("ip6:{self}"),
        }
    }
}

impl FromStr for EgressRange {
    type Err = EgressRangeError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = |problem| EgressRangeError {
            value: value.to_owned(),
            problem,
        };
        let (address, prefix) = match value.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (value, None),
        };
        let first: IpAddr = address.parse().map_err(|_| error("is no IP address"))?;
        let prefix = match prefix {
            None => width(first),
            Some(text) => text
                .parse()
                .map_err(|_| error("has no number after the slash"))?,
        };
        if prefix > width(first) {
            return Err(error("has a prefix longer than its address"));
        }
        if u32::from(width(first) - prefix) > MAX_ADDRESSES.ilog2() {
            return Err(error("stands for more than 256 addresses"));
        }
        if host_bits(first, prefix) != 0 {
            return Err(error("is not the first address of its network"));
        }
        Ok(Self { first, prefix })
    }
}

impl TryFrom<String> for EgressRange {
    type Error = EgressRangeError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<EgressRange> for String {
    fn from(range: EgressRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for EgressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn host_bits(address: IpAddr, prefix: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    };
    // At most 8 host bits are left once the size has been checked.
    bits & ((1_u128 << (width(address) - prefix)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_a_small_network() {
        let one: EgressRange = "203.0.113.10".parse().unwrap();
        assert_eq!(one.addresses().count(), 1);
        assert_eq!(one.spf_mechanism(), "ip4:203.0.113.10");
        let many: EgressRange = "2001:db8::/120".parse().unwrap();
        assert_eq!(many.addresses().count(), 256);
        assert_eq!(many.addresses().last().unwrap().to_string(), "2001:db8::ff");
        assert_eq!(many.spf_mechanism(), "ip6:2001:db8::/120");
    }

    #[test]
    fn refusals_name_the_value_and_the_remedy() {
        for (text, part) in [
            ("mail.example.com", "no IP address"),
            ("203.0.113.0/", "no number"),
            ("203.0.113.0/33", "longer"),
            ("203.0.113.0/23", "256"),
            ("203.0.113.1/24", "first address"),
            ("::/0", "256"),
        ] {
            let error = text.parse::<EgressRange>().expect_err(text).to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }
}
