//! Updates of a zone (RFC 2136) that touch nothing but what is ours: pure decisions and messages.
//!
//! Every record we publish has a registry record beside it, a TXT at `_postrider-<type>.<name>` that
//! names the SendingDomain by its UID and the record by a digest. A record is ours while the registry
//! says so *and* the digest is that of a record that is there. Every message carries the state it
//! was decided on as prerequisites (§2.4), so that whoever was quicker makes it fail as a whole.
//!
//! Promises: a record set without our registry record is never added to, replaced or removed. Of a
//! record set with one, exactly the record it names is. Two SendingDomains never share a record.

use hickory_proto::{
    op::{Message, OpCode, Query, UpdateMessage as _},
    rr::{DNSClass, Name, RData, Record, RecordType as WireType, rdata},
};
use postrider_crds::{PublishedRecord, RecordType, digest};

/// Longest string in a TXT record, in octets (RFC 1035 §3.3).
const MAX_STRING: usize = 255;
/// What the text of a registry record starts with.
const HERITAGE: &str = "heritage=postrider";

/// What a server has at the name of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The record set of the type, as text.
    pub values: Vec<String>,
    /// Whether there is a CNAME.
    pub alias: bool,
    /// The registry record set, as text.
    pub registry: Vec<String>,
}

/// What to do about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it must be.
    Nothing,
    /// Add the record. `registry`: the text of our registry record that is there already.
    Add {
        /// Our registry record, if there is one.
        registry: Option<String>,
    },
    /// Put the record in the place of ours.
    Replace {
        /// The text of ours.
        old: String,
        /// Its registry record.
        registry: String,
    },
    /// Remove ours.
    Remove {
        /// The text of ours; `None`: it is gone already, the registry record is not.
        old: Option<String>,
        /// Its registry record.
        registry: String,
    },
    /// Something of somebody else is in the way.
    Conflict(String),
}

/// What to do so that `wanted` of the SendingDomain `owner` (a UID) is there.
#[must_use]
pub fn publish(wanted: &PublishedRecord, owner: &str, seen: &Seen) -> Step {
    let value = &wanted.value;
    match ownership(owner, seen) {
        Ownership::Ours { registry, current } => match current {
            Some(current) if current == *value => Step::Nothing,
            Some(old) => Step::Replace { old, registry },
            None if seen.values.is_empty() => Step::Add {
                registry: Some(registry),
            },
            None if seen.values.contains(value) => Step::Nothing,
            None => Step::Conflict(format!(
                "what was published was changed to {}; remove that, or correct it to {value:?}",
                quoted(&seen.values)
            )),
        },
        Ownership::Other => Step::Conflict(format!(
            "it belongs to another SendingDomain, says the registry record {}; delete that one's record and registry record if it is gone",
            quoted(&seen.registry)
        )),
        Ownership::Nobody if seen.alias => {
            Step::Conflict("the name is an alias (CNAME); remove the alias".to_owned())
        }
        Ownership::Nobody if seen.values.is_empty() => Step::Add { registry: None },
        // Somebody published it by hand: well done, and not ours to withdraw.
        Ownership::Nobody if seen.values == [value.clone()] => Step::Nothing,
        Ownership::Nobody => Step::Conflict(format!(
            "there is {} that Postrider has not published; remove it, or publish {value:?} by hand",
            quoted(&seen.values)
        )),
    }
}

/// What to do so that nothing of the SendingDomain `owner` is there.
#[must_use]
pub fn withdraw(owner: &str, seen: &Seen) -> Step {
    match ownership(owner, seen) {
        Ownership::Ours { registry, current } => Step::Remove {
            old: current,
            registry,
        },
        Ownership::Other | Ownership::Nobody => Step::Nothing,
    }
}

/// The update that takes `step`; `None` where there is none to take, or a name is no name.
#[must_use]
pub fn message(
    zone: &Name,
    record: &PublishedRecord,
    owner: &str,
    ttl: u32,
    step: &Step,
) -> Option<Message> {
    let name = name(&record.name)?;
    let beside = name_of_registry(record)?;
    let kind = wire_type(record.r#type);
    let data = |value: &str| rdata(record.r#type, value);
    let text = |value: &str| rdata(RecordType::TXT, value);
    let new_registry = text(&registry(record, owner))?;
    let mut update = Update::of(zone);
    match step {
        Step::Nothing | Step::Conflict(_) => return None,
        Step::Add { registry } => {
            update.must_be_empty(&name, kind);
            update.must_be_empty(&name, WireType::CNAME);
            match registry {
                None => update.must_be_empty(&beside, WireType::TXT),
                Some(old) => update.swap(&beside, text(old)?),
            }
            update.add(&name, ttl, data(&record.value)?);
            update.add(&beside, ttl, new_registry);
        }
        Step::Replace { old, registry } => {
            update.swap(&beside, text(registry)?);
            update.delete(&name, data(old)?);
            update.add(&name, ttl, data(&record.value)?);
            update.add(&beside, ttl, new_registry);
        }
        Step::Remove { old, registry } => {
            update.swap(&beside, text(registry)?);
            if let Some(old) = old {
                update.delete(&name, data(old)?);
            }
        }
    }
    Some(update.0)
}

/// The owner name of the registry record of `record`.
#[must_use]
pub fn name_of_registry(record: &PublishedRecord) -> Option<Name> {
    let kind = match record.r#type {
        RecordType::TXT => "txt",
        RecordType::MX => "mx",
        RecordType::CNAME => "cname",
        RecordType::A => "a",
        RecordType::AAAA => "aaaa",
        RecordType::PTR => "ptr",
    };
    name(&format!("_postrider-{kind}.{}", record.name))
}

/// A name without trailing dot as a full one.
#[must_use]
pub fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The type as it is sent.
#[must_use]
pub fn wire_type(kind: RecordType) -> WireType {
    match kind {
        RecordType::TXT => WireType::TXT,
        RecordType::MX => WireType::MX,
        RecordType::CNAME => WireType::CNAME,
        RecordType::A => WireType::A,
        RecordType::AAAA => WireType::AAAA,
        RecordType::PTR => WireType::PTR,
    }
}

/// The data of a record as the text it is compared by.
#[must_use]
pub fn value(data: &RData) -> Option<String> {
    match data {
        RData::TXT(txt) => {
            let octets: Vec<u8> = txt
                .txt_data
                .iter()
                .flat_map(|s| s.iter().copied())
                .collect();
            Some(String::from_utf8_lossy(&octets).into_owned())
        }
        RData::MX(mx) => {
            let host = mx.exchange.to_ascii().to_ascii_lowercase();
            Some(format!("{} {host}", mx.preference))
        }
        _ => None,
    }
}

fn rdata(kind: RecordType, value: &str) -> Option<RData> {
    match kind {
        RecordType::TXT => {
            let strings = value.as_bytes().chunks(MAX_STRING).collect();
            Some(RData::TXT(rdata::TXT::from_bytes(strings)))
        }
        RecordType::MX => {
            let (preference, host) = value.split_once(' ')?;
            let host = name(host.trim_end_matches('.'))?;
            Some(RData::MX(rdata::MX::new(preference.parse().ok()?, host)))
        }
        RecordType::CNAME => {
            let target = name(value.trim_end_matches('.'))?;
            Some(RData::CNAME(rdata::CNAME(target)))
        }
        RecordType::A => Some(RData::A(rdata::A(value.parse().ok()?))),
        RecordType::AAAA => Some(RData::AAAA(rdata::AAAA(value.parse().ok()?))),
        RecordType::PTR => {
            let target = name(value.trim_end_matches('.'))?;
            Some(RData::PTR(rdata::PTR(target)))
        }
    }
}

/// Whose the record set is.
enum Ownership {
    /// Ours, with the registry record and the record it names, if that is there.
    Ours {
        registry: String,
        current: Option<String>,
    },
    /// Another SendingDomain's.
    Other,
    /// Nobody has registered it.
    Nobody,
}

fn ownership(owner: &str, seen: &Seen) -> Ownership {
    let registered = seen.registry.iter().find(|text| text.starts_with(HERITAGE));
    let Some(registry) = registered else {
        return Ownership::Nobody;
    };
    let ours = format!("{HERITAGE},owner={owner},sha256=");
    let Some(digest) = registry
        .strip_prefix(&ours)
        .filter(|_| seen.registry.len() == 1)
    else {
        return Ownership::Other;
    };
    let mut values = seen.values.iter();
    Ownership::Ours {
        registry: registry.clone(),
        current: values
            .find(|value| digest::of(value.as_bytes()) == digest)
            .cloned(),
    }
}

fn registry(record: &PublishedRecord, owner: &str) -> String {
    let digest = digest::of(record.value.as_bytes());
    format!("{HERITAGE},owner={owner},sha256={digest}")
}

fn quoted(values: &[String]) -> String {
    let mut sorted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    // Servers rotate the order of records; messages must not change with it.
    sorted.sort();
    sorted.join(" and ")
}

/// An update under construction.
struct Update(Message);

impl Update {
    fn of(zone: &Name) -> Self {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        let mut section = Query::new();
        section.set_name(zone.clone()).set_query_type(WireType::SOA);
        message.add_zone(section);
        Self(message)
    }

    /// RFC 2136 §2.4.3: no such record set.
    fn must_be_empty(&mut self, name: &Name, kind: WireType) {
        let mut record = Record::update0(name.clone(), 0, kind);
        record.dns_class = DNSClass::NONE;
        self.0.add_pre_requisite(record);
    }

    /// §2.4.2: exactly this record set; §2.5.4: and it goes.
    fn swap(&mut self, name: &Name, old: RData) {
        self.0
            .add_pre_requisite(Record::from_rdata(name.clone(), 0, old.clone()));
        self.delete(name, old);
    }

    /// §2.5.1.
    fn add(&mut self, name: &Name, ttl: u32, data: RData) {
        self.0
            .add_update(Record::from_rdata(name.clone(), ttl, data));
    }

    /// §2.5.4: exactly this record.
    fn delete(&mut self, name: &Name, data: RData) {
        let mut record = Record::from_rdata(name.clone(), 0, data);
        record.dns_class = DNSClass::NONE;
        self.0.add_update(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str) -> PublishedRecord {
        PublishedRecord {
            r#type: RecordType::TXT,
            name: "pr-1._domainkey.example.com".into(),
            value: value.into(),
        }
    }

    fn seen(values: &[&str], registry: &[String]) -> Seen {
        Seen {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            alias: false,
            registry: registry.to_vec(),
        }
    }

    #[test]
    fn only_what_is_registered_as_ours_is_touched() {
        let ours = registry(&record("old"), "u1");
        let theirs = registry(&record("old"), "u2");
        let conflict = |step: Step| matches!(step, Step::Conflict(_));
        let publish = |seen: &Seen| publish(&record("new"), "u1", seen);
        assert_eq!(publish(&seen(&[], &[])), Step::Add { registry: None });
        assert_eq!(publish(&seen(&["new"], &[])), Step::Nothing);
        assert!(conflict(publish(&seen(&["foreign"], &[]))));
        assert!(conflict(publish(&seen(&["new", "foreign"], &[]))));
        assert!(conflict(publish(&seen(
            &["old"],
            std::slice::from_ref(&theirs)
        ))));
        assert!(conflict(publish(&seen(
            &["old"],
            &[ours.clone(), theirs.clone()]
        ))));
        assert!(conflict(publish(&seen(
            &["edited"],
            std::slice::from_ref(&ours)
        ))));
        let mut alias = seen(&[], &[]);
        alias.alias = true;
        assert!(conflict(publish(&alias)));
        let replace = Step::Replace {
            old: "old".into(),
            registry: ours.clone(),
        };
        assert_eq!(
            publish(&seen(&["old", "foreign"], std::slice::from_ref(&ours))),
            replace
        );
        let again = Step::Add {
            registry: Some(ours.clone()),
        };
        assert_eq!(publish(&seen(&[], std::slice::from_ref(&ours))), again);
        let done = registry(&record("new"), "u1");
        assert_eq!(publish(&seen(&["new", "foreign"], &[done])), Step::Nothing);

        assert_eq!(withdraw("u1", &seen(&["old"], &[])), Step::Nothing);
        assert_eq!(withdraw("u1", &seen(&["old"], &[theirs])), Step::Nothing);
        let remove = |old: Option<&str>| Step::Remove {
            old: old.map(str::to_owned),
            registry: ours.clone(),
        };
        assert_eq!(
            withdraw(
                "u1",
                &seen(&["old", "foreign"], std::slice::from_ref(&ours))
            ),
            remove(Some("old"))
        );
        assert_eq!(
            withdraw("u1", &seen(&["edited"], std::slice::from_ref(&ours))),
            remove(None)
        );
    }

    #[test]
    fn messages_carry_what_they_were_decided_on() {
        let zone = name("example.com").unwrap();
        let make = |step: &Step| message(&zone, &record(&"k".repeat(300)), "u1", 300, step);
        assert!(make(&Step::Nothing).is_none());
        let add = make(&Step::Add { registry: None }).unwrap();
        assert_eq!((add.prerequisites().len(), add.updates().len()), (3, 2));
        assert!(
            add.prerequisites()
                .iter()
                .all(|r| r.dns_class == DNSClass::NONE)
        );
        let ours = registry(&record("old"), "u1");
        let remove = make(&Step::Remove {
            old: Some("old".into()),
            registry: ours,
        })
        .unwrap();
        assert_eq!(
            (remove.prerequisites().len(), remove.updates().len()),
            (1, 2)
        );
        assert!(
            remove
                .updates()
                .iter()
                .all(|r| r.dns_class == DNSClass::NONE)
        );
        let back = Message::from_vec(&add.to_vec().unwrap()).unwrap();
        let text = value(&back.updates()[0].data).unwrap();
        assert_eq!(text, "k".repeat(300));
    }

    #[test]
    fn mail_exchanges_are_compared_as_text() {
        let data = rdata(RecordType::MX, "10 Mail.example.net.").unwrap();
        assert_eq!(value(&data).unwrap(), "10 mail.example.net.");
    }
}
