//! What a server offers in its reply to EHLO (RFC 5321 §4.1.1.1).

/// The extensions this client makes use of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// STARTTLS (RFC 3207).
    pub(super) starttls: bool,
    /// PIPELINING (RFC 2920).
    pub(super) pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub(super) eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub(super) utf8: bool,
    /// CHUNKING (RFC 3030).
    pub(super) chunking: bool,
    /// MT-PRIORITY (RFC 6710).
    pub(super) priority: bool,
    /// SIZE (RFC 1870): offered, with a limit in octets or without.
    pub(super) size: Option<SizeLimit>,
}

/// The limit announced with SIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeLimit {
    /// None, or not told.
    Unknown,
    /// Octets.
    Octets(u64),
}

impl Capabilities {
    /// Reads the lines after the first, without codes.
    pub(super) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut offered = Self::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "STARTTLS" => offered.starttls = true,
                "PIPELINING" => offered.pipelining = true,
                "8BITMIME" => offered.eight_bit = true,
                "CHUNKING" => offered.chunking = true,
                "SMTPUTF8" => offered.utf8 = true,
                // It may name a policy (RFC 6710 §3), of which nothing follows here.
                "MT-PRIORITY" => offered.priority = true,
                "SIZE" => {
                    // Zero means no fixed limit (RFC 1870 §4).
                    let limit = words.next().and_then(|w| w.parse().ok()).filter(|n| *n > 0);
                    offered.size = Some(limit.map_or(SizeLimit::Unknown, SizeLimit::Octets));
                }
                _ => {}
            }
        }
        offered
    }

    /// Whether a message of `octets` is within the announced limit.
    pub(super) fn admits(&self, octets: u64) -> bool {
        match self.size {
            None | Some(SizeLimit::Unknown) => true,
            Some(SizeLimit::Octets(limit)) => octets <= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keywords_in_any_case() {
        let offered = Capabilities::read(["MT-PRIORITY MIXER"]);
        assert!(offered.priority);
        let offered = Capabilities::read(["starttls", "SIZE 1000", "PIPELINING", "X-UNKNOWN a b"]);
        assert!(!offered.priority);
        assert!(offered.starttls && offered.pipelining && !offered.eight_bit);
        assert!(offered.admits(1000) && !offered.admits(1001));
        for unlimited in ["SIZE", "SIZE 0", "SIZE many"] {
            let offered = Capabilities::read([unlimited]);
            assert!(
                offered.admits(u64::MAX) && offered.size.is_some(),
                "{unlimited}"
            );
        }
    }
}
