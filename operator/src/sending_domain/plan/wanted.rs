//! Every record to publish, wanted beside seen, in a fixed order: keys in the order of the spec, those
//! that sign no more last, SPF, DMARC, the return path's MX, MTA-STS, TLSRPT.

use postrider_crds::{RecordPurpose, RecordState, RecordStatus, RecordType, Requirement};

use crate::{
    dns::{Finding, dmarc, return_path, spf},
    keys::{KeyState, Life},
    sending_domain::{
        observe::{KeyFacts, Observation},
        plan::{answers, delegation},
        rotation,
    },
};

/// The records of `observation`, whose keys now have the lives `advanced`.
#[must_use]
pub fn records(observation: &Observation, advanced: &[Life]) -> Vec<RecordStatus> {
    if observation.rival.is_some() {
        return Vec::new();
    }
    let mut records = key_records(observation, advanced);
    records.extend(spf_record(observation));
    records.extend(dmarc_record(observation));
    records.extend(return_path_record(observation));
    records.extend(answers::records(observation));
    records
}

/// Records of keys that are on their way, sign or are retiring, and what is left of those that were
/// withdrawn.
fn key_records(observation: &Observation, advanced: &[Life]) -> Vec<RecordStatus> {
    let position = |key: &KeyFacts| {
        let mut specs = observation.spec.dkim.keys.iter();
        specs
            .position(|spec| spec.algorithm == key.algorithm)
            .unwrap_or(usize::MAX)
    };
    let mut keys: Vec<(&KeyFacts, &Life)> = observation.keys.iter().zip(advanced).collect();
    keys.sort_by_key(|(key, life)| {
        let past = life.state > KeyState::Active;
        (past, position(key), key.selector.clone())
    });
    keys.into_iter()
        .flat_map(|(key, life)| {
            let record = key_record(observation, key, life);
            let target = observation.spec.delegated_name(&key.selector);
            let finding = observation.delegated.get(&key.selector);
            // A withdrawn key is looked at through the alias alone.
            let finding = finding.filter(|_| life.state != KeyState::Withdrawn);
            match (record, target) {
                (Some(record), Some(target)) => delegation::split(record, target, finding).to_vec(),
                (record, _) => record.into_iter().collect(),
            }
        })
        .collect()
}

fn key_record(observation: &Observation, key: &KeyFacts, life: &Life) -> Option<RecordStatus> {
    let withdrawn = life.state == KeyState::Withdrawn;
    let wanted = Wanted {
        kind: RecordType::TXT,
        name: key.selector.record_name(&observation.spec.domain),
        text: if withdrawn {
            key.public.revocation()
        } else {
            key.public.record()
        },
        purpose: RecordPurpose::DKIM,
    };
    // Until it is looked at as what it is now, there is nothing to say about it.
    let looked = withdrawn == (key.life.state == KeyState::Withdrawn);
    let finding = key.finding.as_ref().filter(|_| looked);
    let gone = finding.is_some_and(|finding| finding.state == RecordState::Verified);
    if withdrawn && (gone || finding.is_none()) {
        return None;
    }
    let mut record = wanted.beside(finding, observation);
    if life.state == KeyState::Retiring && record.message.is_empty() {
        record.message = match rotation::until(observation, key, life) {
            Some(until) => format!(
                "keep this record until {until}: mail signed with the key may be on its way"
            ),
            None => "keep this record: mail signed with the key may be on its way".to_owned(),
        };
    }
    Some(record)
}

fn spf_record(observation: &Observation) -> Option<RecordStatus> {
    let pool = observation.pool_for_spf()?;
    let wanted = Wanted {
        kind: RecordType::TXT,
        name: observation.spec.return_path_domain().to_string(),
        text: spf::wanted(&pool.egress),
        purpose: RecordPurpose::SPF,
    };
    Some(wanted.beside(observation.findings.spf.as_ref(), observation))
}

fn dmarc_record(observation: &Observation) -> Option<RecordStatus> {
    let verification = &observation.spec.verification;
    if verification.dmarc == Requirement::Off {
        return None;
    }
    let wanted = Wanted {
        kind: RecordType::TXT,
        name: dmarc::record_name(&observation.spec.domain),
        text: dmarc::wanted(verification.minimum_dmarc_policy),
        purpose: RecordPurpose::DMARC,
    };
    Some(wanted.beside(observation.findings.dmarc.as_ref(), observation))
}

fn return_path_record(observation: &Observation) -> Option<RecordStatus> {
    let pool = observation.pool.as_ref()?;
    let wanted = Wanted {
        kind: RecordType::MX,
        name: observation.spec.return_path_domain().to_string(),
        text: return_path::wanted(&pool.hostname),
        purpose: RecordPurpose::ReturnPath,
    };
    Some(wanted.beside(observation.findings.return_path.as_ref(), observation))
}

/// A record to publish on empty ground.
pub(super) struct Wanted {
    pub(super) kind: RecordType,
    pub(super) name: String,
    pub(super) text: String,
    pub(super) purpose: RecordPurpose,
}

impl Wanted {
    /// This record beside what was found. While DNS gives no answer, name and text stay as they
    /// were: what was there before may have been worth keeping.
    pub(super) fn beside(
        self,
        finding: Option<&Finding>,
        observation: &Observation,
    ) -> RecordStatus {
        let (state, seen, message) = match finding {
            Some(finding) => (finding.state, finding.seen.clone(), finding.message.clone()),
            None => (RecordState::Unknown, None, "not looked up yet".to_owned()),
        };
        let (mut name, mut wanted) = (self.name, self.text);
        if state == RecordState::Unknown && self.purpose != RecordPurpose::DKIM {
            // A policy may have been found at a parent.
            let same = |record: &&RecordStatus| {
                record.purpose == self.purpose
                    && (self.purpose == RecordPurpose::DMARC || record.name == name)
            };
            let mut before = observation.previous.records.iter();
            if let Some(known) = before.find(same) {
                (name, wanted) = (known.name.clone(), known.wanted.clone());
            }
        }
        RecordStatus {
            r#type: self.kind,
            name: finding.and_then(|f| f.found_at.clone()).unwrap_or(name),
            wanted: finding.and_then(|f| f.wanted.clone()).unwrap_or(wanted),
            seen,
            state,
            purpose: self.purpose,
            message,
        }
    }
}
