//! Which records are to be in DNS by our hand: a pure function of what was observed.
//!
//! Promises: the records of keys and of the return path, as they would be published on empty
//! ground, never one at the domain itself and never `_dmarc`. While anything that decides is not
//! known (a pool that is gone, a Secret that cannot be read), the answer is `None`: then nothing is
//! added and nothing taken away.

use postrider_crds::{PublishedRecord, RecordPurpose, RecordStatus, RecordType, Requirement};

use crate::{
    dns::{return_path, spf},
    sending_domain::observe::Observation,
};

/// What stands between selector and domain in the name of a key's record (RFC 6376 §3.6.2.1).
const DOMAIN_KEY: &str = "._domainkey.";

/// The records to have in DNS; `records` are those of the status. `None`: not known.
#[must_use]
pub fn wanted(observation: &Observation, records: &[RecordStatus]) -> Option<Vec<PublishedRecord>> {
    if !observation.unusable_keys.is_empty() {
        return None;
    }
    if observation.rival.is_some() {
        return Some(Vec::new());
    }
    let pool = observation.pool.as_ref()?;
    let return_path = observation.spec.return_path_domain();
    let mut wanted: Vec<_> = records
        .iter()
        // An alias is its owner's to publish; the text it leads to is ours.
        .filter(|record| (record.purpose, record.r#type) == (RecordPurpose::DKIM, RecordType::TXT))
        .map(|record| PublishedRecord {
            r#type: record.r#type,
            name: record.name.clone(),
            value: record.wanted.clone(),
        })
        .collect();
    let apex = return_path == observation.spec.domain;
    if !apex && !pool.egress.is_empty() && observation.spec.verification.spf != Requirement::Off {
        wanted.push(PublishedRecord {
            r#type: RecordType::TXT,
            name: return_path.to_string(),
            value: spf::wanted(&pool.egress),
        });
    }
    if !apex {
        wanted.push(PublishedRecord {
            r#type: RecordType::MX,
            name: return_path.to_string(),
            value: return_path::wanted(&pool.hostname),
        });
    }
    wanted.extend(keys_without_secret(observation, &wanted));
    Some(wanted)
}

/// Published records of keys whose Secret is gone. Nobody knows how far such a key was, and mail
/// signed with it may be on its way: its record stays until the SendingDomain goes, unless it has
/// been revoked (RFC 6376 §3.6.1, an empty `p=`).
fn keys_without_secret(
    observation: &Observation,
    wanted: &[PublishedRecord],
) -> Vec<PublishedRecord> {
    let before = observation.previous.published.as_ref();
    let before = before.map_or(&[][..], |published| &published.records);
    let gone = |record: &&PublishedRecord| {
        let Some((selector, _)) = record.name.split_once(DOMAIN_KEY) else {
            return false;
        };
        if record.value.trim_end().ends_with("p=") {
            return false;
        }
        !observation
            .keys
            .iter()
            .any(|key| key.selector.as_str() == selector)
            && !wanted.iter().any(|other| other.name == record.name)
    };
    before.iter().filter(gone).cloned().collect()
}

#[cfg(test)]
mod tests {
    use postrider_crds::{PublishedStatus, RecordState};

    use super::*;
    use crate::sending_domain::{observe::UnusableKey, plan::tests::fresh};

    fn key_record(selector: &str) -> RecordStatus {
        RecordStatus {
            r#type: RecordType::TXT,
            name: format!("{selector}._domainkey.example.com"),
            wanted: "v=DKIM1; k=rsa; p=AQID".into(),
            seen: None,
            state: RecordState::Missing,
            purpose: RecordPurpose::DKIM,
            message: String::new(),
        }
    }

    fn names(records: &[PublishedRecord]) -> Vec<String> {
        records
            .iter()
            .map(|r| format!("{:?} {}", r.r#type, r.name))
            .collect()
    }

    #[test]
    fn keys_and_return_path_are_wanted_and_nothing_else() {
        let mut policy = key_record("x");
        policy.purpose = RecordPurpose::DMARC;
        policy.name = "_dmarc.example.com".into();
        let found = wanted(&fresh(), &[key_record("pr-1"), policy]).unwrap();
        let expected = [
            "TXT pr-1._domainkey.example.com",
            "TXT bounce.example.com",
            "MX bounce.example.com",
        ];
        assert_eq!(names(&found), expected);
        assert_eq!(found[1].value, "v=spf1 ip4:203.0.113.10 -all");
        assert_eq!(found[2].value, "10 mail.example.net.");
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let mut no_pool = fresh();
        no_pool.pool = None;
        assert_eq!(wanted(&no_pool, &[]), None);
        let mut unreadable = fresh();
        unreadable.unusable_keys = vec![UnusableKey {
            secret: "x".into(),
            problem: "is no key".into(),
        }];
        assert_eq!(wanted(&unreadable, &[]), None);
        let mut rival = fresh();
        rival.rival = Some("older".into());
        assert_eq!(wanted(&rival, &[]), Some(Vec::new()));
    }

    #[test]
    fn the_record_of_a_key_whose_secret_is_gone_stays() {
        let mut observation = fresh();
        let record = |selector: &str| PublishedRecord {
            r#type: RecordType::TXT,
            name: format!("{selector}._domainkey.example.com"),
            value: "v=DKIM1; p=AQID".into(),
        };
        let mut revoked = record("pr-revoked");
        revoked.value = "v=DKIM1; k=rsa; p=".into();
        let mut bounce = record("x");
        bounce.name = "old-bounce.example.com".into();
        observation.previous.published = Some(PublishedStatus {
            records: vec![record("pr-gone"), bounce, revoked],
            ..PublishedStatus::default()
        });
        let found = wanted(&observation, &[]).unwrap();
        assert!(found.contains(&record("pr-gone")));
        assert!(
            names(&found)
                .iter()
                .all(|n| !n.contains("old-bounce") && !n.contains("revoked"))
        );
    }
}
