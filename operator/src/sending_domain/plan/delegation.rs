//! A key's record where the domain's name is an alias: the alias, which its owner publishes, and the
//! text it leads to, which is in the zone we publish in.
//!
//! Promises: the alias is Verified only when following it ends at the key. While the text itself is
//! not there nobody can tell an alias from none, so the alias is Unknown then and not Missing.

use postrider_crds::{RecordState, RecordStatus, RecordType};

use crate::dns::Finding;

/// Splits `record`, what was found by following the name in the domain, into the alias and the text
/// at `target`. `at_target` is what was found there; `None`: the same.
pub(super) fn split(
    record: RecordStatus,
    target: String,
    at_target: Option<&Finding>,
) -> [RecordStatus; 2] {
    let followed = record.state;
    let wanted = format!("{target}.");
    let mut text = RecordStatus {
        name: target,
        ..record.clone()
    };
    if let Some(finding) = at_target.filter(|_| followed != RecordState::Verified) {
        text.state = finding.state;
        text.seen.clone_from(&finding.seen);
        text.message.clone_from(&finding.message);
    }
    let there = text.state == RecordState::Verified;
    let (state, message) = match followed {
        RecordState::Verified => (RecordState::Verified, record.message.clone()),
        RecordState::Unknown => (RecordState::Unknown, record.message.clone()),
        RecordState::Missing if there => (
            RecordState::Missing,
            "publish this alias, or once for all keys a DNAME at _domainkey below the domain"
                .into(),
        ),
        RecordState::Missing => (
            RecordState::Unknown,
            "what the alias leads to is not published yet".into(),
        ),
        RecordState::Mismatch | RecordState::Conflict => (
            followed,
            "the name does not lead to the key's record; replace what is there by this alias"
                .into(),
        ),
    };
    let alias = RecordStatus {
        r#type: RecordType::CNAME,
        wanted,
        state,
        message,
        ..record
    };
    [alias, text]
}

#[cfg(test)]
mod tests {
    use postrider_crds::RecordPurpose;

    use super::*;

    fn record(state: RecordState) -> RecordStatus {
        RecordStatus {
            r#type: RecordType::TXT,
            name: "pr-1._domainkey.example.com".into(),
            wanted: "v=DKIM1; k=rsa; p=AQID".into(),
            seen: None,
            state,
            purpose: RecordPurpose::DKIM,
            message: "found by following".into(),
        }
    }

    #[test]
    fn the_alias_is_judged_by_where_it_leads() {
        use RecordState::{Mismatch, Missing, Unknown, Verified};
        let verified = Finding::verified("v=DKIM1; k=rsa; p=AQID", String::new());
        let missing = Finding::missing("publish this record".into());
        for (followed, at_target, alias, text) in [
            (Verified, &verified, Verified, Verified),
            (Verified, &missing, Verified, Verified),
            (Missing, &verified, Missing, Verified),
            (Missing, &missing, Unknown, Missing),
            (Unknown, &verified, Unknown, Verified),
            (Mismatch, &verified, Mismatch, Verified),
            (Mismatch, &missing, Mismatch, Missing),
        ] {
            let target = "pr-1._domainkey.example.com.keys.example.net".to_owned();
            let [found_alias, found_text] =
                split(record(followed), target.clone(), Some(at_target));
            assert_eq!(
                (found_alias.state, found_text.state),
                (alias, text),
                "{followed:?}"
            );
            assert_eq!(found_alias.r#type, RecordType::CNAME);
            assert_eq!(found_alias.wanted, format!("{target}."));
            assert_eq!(
                (found_text.name, found_text.r#type),
                (target, RecordType::TXT)
            );
        }
    }
}
