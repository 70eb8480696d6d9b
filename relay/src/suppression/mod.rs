//! Never mail these: an exact index over a pool's suppression files.
//!
//! Promises: an address is found when, and only when, a file names it or its domain, the file's
//! scope holds for the sending domain, and the entry has not ended. Lookups are by a 128-bit digest
//! of the folded address, so two addresses are never taken for each other in practice. Addresses
//! are not kept in the clear. Never decides what happens to the rest of a message.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use postrider_crds::{
    DomainName, Mailbox,
    suppression_file::{SuppressionFile, Target},
};

/// Octets of a digest that are kept: 10 million entries collide with a chance of 2^-81.
const KEY_LENGTH: usize = 16;

/// Everything a pool does not mail, by list.
#[derive(Debug, Default)]
pub struct SuppressionIndex {
    lists: BTreeMap<String, Vec<Arc<Shard>>>,
}

/// Why an address is not mailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// The list that names it.
    pub list: String,
    /// The entry's reason, for people.
    pub reason: String,
}

/// One file of a list. Files of a list may differ in scope while an update is under way, so each
/// keeps its own.
#[derive(Debug, Default)]
pub struct Shard {
    scope: Vec<DomainName>,
    entries: HashMap<[u8; KEY_LENGTH], Entry>,
    /// Each reason once: a list has few.
    reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    expires: Option<Timestamp>,
    reason: u32,
}

impl SuppressionIndex {
    /// Adds one file of `list`.
    pub fn add(&mut self, list: &str, shard: Arc<Shard>) {
        self.lists.entry(list.to_owned()).or_default().push(shard);
    }

    /// Whether mail from `sending` to `recipient` is suppressed at `now`, and why.
    #[must_use]
    pub fn check(
        &self,
        recipient: &Mailbox,
        sending: &DomainName,
        now: Timestamp,
    ) -> Option<Suppressed> {
        if self.lists.is_empty() {
            return None;
        }
        let keys = [
            key(&Target::Address(recipient.folded())),
            key(&Target::Domain(recipient.domain().clone())),
        ];
        self.lists.iter().find_map(|(list, shards)| {
            let in_scope = shards.iter().filter(|shard| shard.holds_for(sending));
            let reason = in_scope
                .flat_map(|shard| keys.iter().filter_map(|key| shard.find(key, now)))
                .next()?;
            Some(Suppressed {
                list: list.clone(),
                reason: reason.to_owned(),
            })
        })
    }

    /// Entries of all lists.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.lists.values().flatten();
        shards.map(|shard| shard.entries.len()).sum()
    }

    /// True when nothing is suppressed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    /// What a file says.
    #[must_use]
    pub fn of(file: &SuppressionFile) -> Self {
        let mut reasons: Vec<String> = Vec::new();
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut entries = HashMap::with_capacity(file.entries.len());
        for (target, suppression) in &file.entries {
            let reason = *numbers.entry(&suppression.reason).or_insert_with(|| {
                reasons.push(suppression.reason.clone());
                u32::try_from(reasons.len() - 1).unwrap_or(u32::MAX)
            });
            let expires = suppression.expires;
            entries.insert(key(target), Entry { expires, reason });
        }
        Self {
            scope: file.scope.clone(),
            entries,
            reasons,
        }
    }

    fn holds_for(&self, sending: &DomainName) -> bool {
        self.scope.is_empty() || self.scope.contains(sending)
    }

    fn find(&self, key: &[u8; KEY_LENGTH], now: Timestamp) -> Option<&str> {
        let entry = self.entries.get(key)?;
        if entry.expires.is_some_and(|expires| expires <= now) {
            return None;
        }
        let reason = self.reasons.get(entry.reason as usize);
        Some(reason.map_or("", String::as_str))
    }
}

/// The digest of a target; a domain's starts with `@`, which no address does.
fn key(target: &Target) -> [u8; KEY_LENGTH] {
    let text = target.to_string();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut key = [0; KEY_LENGTH];
    for (to, from) in key.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "postrider-suppression 1\n\
        a@example.net\t-\thard bounce\n\
        b@example.net\t2027-01-01T00:00:00Z\tcomplaint\n\
        \"quo.ted\"@example.net\t-\tby an older operator\n\
        @example.org\t-\tasked us\n";

    fn shard(text: &str) -> Arc<Shard> {
        Arc::new(Shard::of(&SuppressionFile::parse(text).unwrap()))
    }

    fn index(list: &str, text: &str) -> SuppressionIndex {
        let mut index = SuppressionIndex::default();
        index.add(list, shard(text));
        index
    }

    fn reason(index: &SuppressionIndex, address: &str, sending: &str, now: &str) -> Option<String> {
        let mailbox = address.parse().unwrap();
        index
            .check(&mailbox, &sending.parse().unwrap(), now.parse().unwrap())
            .map(|found| format!("{}: {}", found.list, found.reason))
    }

    #[test]
    fn addresses_domains_and_expiry() {
        let index = index("global", FILE);
        assert_eq!(index.len(), 4);
        for (address, now, expected) in [
            (
                "A@Example.NET",
                "2026-06-01T00:00:00Z",
                Some("global: hard bounce"),
            ),
            (
                "\"a\"@example.net",
                "2026-06-01T00:00:00Z",
                Some("global: hard bounce"),
            ),
            (
                "\"\\A\"@example.net",
                "2026-06-01T00:00:00Z",
                Some("global: hard bounce"),
            ),
            (
                "quo.ted@example.net",
                "2026-06-01T00:00:00Z",
                Some("global: by an older operator"),
            ),
            ("\"a \"@example.net", "2026-06-01T00:00:00Z", None),
            (
                "b@example.net",
                "2026-06-01T00:00:00Z",
                Some("global: complaint"),
            ),
            ("b@example.net", "2027-01-01T00:00:00Z", None),
            (
                "anyone@example.org",
                "2026-06-01T00:00:00Z",
                Some("global: asked us"),
            ),
            ("a@sub.example.org", "2026-06-01T00:00:00Z", None),
            ("aa@example.net", "2026-06-01T00:00:00Z", None),
        ] {
            let found = reason(&index, address, "example.com", now);
            assert_eq!(found.as_deref(), expected, "{address} at {now}");
        }
    }

    #[test]
    fn a_scope_holds_for_its_domains_only() {
        let text = FILE.replacen('\n', "\nscope example.com\n", 1);
        let index = index("scoped", &text);
        let now = "2026-06-01T00:00:00Z";
        assert!(reason(&index, "a@example.net", "example.com", now).is_some());
        assert!(reason(&index, "a@example.net", "example.org", now).is_none());
        assert!(reason(&index, "a@example.net", "sub.example.com", now).is_none());
    }

    #[test]
    fn lists_add_up() {
        let mut index = index("one", FILE);
        let other = "postrider-suppression 1\nc@example.net\t-\tmanual\n";
        index.add("two", shard(other));
        let now = "2026-06-01T00:00:00Z";
        assert_eq!(
            reason(&index, "c@example.net", "example.com", now).as_deref(),
            Some("two: manual")
        );
        assert!(reason(&index, "a@example.net", "example.com", now).is_some());
    }
}
