//! Every record to publish, wanted beside seen, in a fixed order: keys in the order of the spec,
//! SPF, DMARC, the return path's MX.

use postrider_crds::{RecordPurpose, RecordState, RecordStatus, RecordType, Requirement};

use super::keys::is_wanted;
use crate::{
    dns::{Finding, dmarc, return_path, spf},
    keys::KeyState,
    sending_domain::observe::{KeyFacts, Observation},
};

/// The records of `observation`, whose keys are now in the states `advanced`.
#[must_use]
pub fn records(observation: &Observation, advanced: &[KeyState]) -> Vec<RecordStatus> {
    if observation.rival.is_some() {
        return Vec::new();
    }
    let mut records = key_records(observation, advanced);
    records.extend(spf_record(observation));
    records.extend(dmarc_record(observation));
    records.extend(return_path_record(observation));
    records
}

/// Records of wanted keys, and of those that sign although they are no longer wanted.
fn key_records(observation: &Observation, advanced: &[KeyState]) -> Vec<RecordStatus> {
    let position = |key: &KeyFacts| {
        let mut specs = observation.spec.dkim.keys.iter();
        specs
            .position(|spec| spec.algorithm == key.algorithm)
            .unwrap_or(usize::MAX)
    };
    let mut keys: Vec<&KeyFacts> = observation
        .keys
        .iter()
        .zip(advanced)
        .filter(|(key, state)| is_wanted(observation, key) || **state == KeyState::Active)
        .map(|(key, _)| key)
        .collect();
    keys.sort_by_key(|key| (position(key), key.selector.clone()));
    keys.into_iter()
        .map(|key| {
            let wanted = Wanted {
                kind: RecordType::TXT,
                name: key.selector.record_name(&observation.spec.domain),
                text: key.public.record(),
                purpose: RecordPurpose::DKIM,
            };
            wanted.beside(key.finding.as_ref(), observation)
        })
        .collect()
}

fn spf_record(observation: &Observation) -> Option<RecordStatus> {
    let pool = observation
        .pool
        .as_ref()
        .filter(|pool| !pool.egress.is_empty())?;
    if observation.spec.verification.spf == Requirement::Off {
        return None;
    }
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

struct Wanted {
    kind: RecordType,
    name: String,
    text: String,
    purpose: RecordPurpose,
}

impl Wanted {
    /// This record beside what was found. While DNS gives no answer, name and text stay as they
    /// were: what was there before may have been worth keeping.
    fn beside(self, finding: Option<&Finding>, observation: &Observation) -> RecordStatus {
        let (state, seen, message) = match finding {
            Some(finding) => (finding.state, finding.seen.clone(), finding.message.clone()),
            None => (RecordState::Unknown, None, "not looked up yet".to_owned()),
        };
        let (mut name, mut wanted) = (self.name, self.text);
        if state == RecordState::Unknown && self.purpose != RecordPurpose::DKIM {
            let mut before = observation.previous.records.iter();
            if let Some(known) = before.find(|record| record.purpose == self.purpose) {
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
