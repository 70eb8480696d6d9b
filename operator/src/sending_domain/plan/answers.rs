//! Records and conditions of the domains that answers go to ([`crate::sending_domain::answers`]), and
//! the condition about the names of the pool's addresses.

use postrider_crds::{
    DomainName, RecordPurpose, RecordState, RecordStatus, RecordType, Requirement,
    condition::{reasons, types},
};

use super::{
    fails,
    verdict::{no_egress, no_pool, not_required},
    wanted::Wanted,
};
use crate::{
    conditions::{Fact, Status},
    dns::{Finding, mta_sts, tls_rpt},
    relay_pool::reverse,
    sending_domain::{answers::Looked, observe::Observation},
};

/// The records of both kinds.
pub(super) fn records(observation: &Observation) -> Vec<RecordStatus> {
    let answers = &observation.findings.answers;
    let mta_sts = answers.mta_sts.iter().flatten().map(|(domain, finding)| {
        let wanted = Wanted {
            kind: RecordType::TXT,
            name: mta_sts::record_name(domain),
            text: mta_sts::wanted_of_unknown(),
            purpose: RecordPurpose::MTASTS,
        };
        wanted.beside(Some(finding), observation)
    });
    let tls_rpt = answers.tls_rpt.iter().flatten().map(|(domain, finding)| {
        let wanted = Wanted {
            kind: RecordType::TXT,
            name: tls_rpt::record_name(domain),
            text: tls_rpt::wanted(&observation.spec.domain),
            purpose: RecordPurpose::TLSRPT,
        };
        wanted.beside(Some(finding), observation)
    });
    mta_sts.chain(tls_rpt).collect()
}

/// The condition about MTA-STS.
pub(super) fn mta_sts(observation: &Observation) -> Fact {
    let looked = observation.findings.answers.mta_sts.as_ref();
    match observation.spec.verification.mta_sts {
        Requirement::Off => not_required(types::MTA_STS_VERIFIED, "spec.verification.mtaSts"),
        Requirement::Required | Requirement::Warn => {
            worst(types::MTA_STS_VERIFIED, looked, mta_sts::record_name)
        }
    }
}

/// The condition about reports on TLS.
pub(super) fn tls_rpt(observation: &Observation) -> Fact {
    let looked = observation.findings.answers.tls_rpt.as_ref();
    match observation.spec.verification.tls_rpt {
        Requirement::Off => not_required(types::TLS_RPT_VERIFIED, "spec.verification.tlsRpt"),
        Requirement::Required | Requirement::Warn => {
            worst(types::TLS_RPT_VERIFIED, looked, tls_rpt::record_name)
        }
    }
}

/// The worst of what is known.
fn worst(type_: &'static str, looked: Option<&Looked>, name: fn(&DomainName) -> String) -> Fact {
    let fact = |status, reason, message: String| Fact::new(type_, status, reason, message);
    let Some(looked) = looked else {
        let message = "not looked up yet".to_owned();
        return fact(Status::Unknown, reasons::PENDING, message);
    };
    let told = |(domain, finding): &(DomainName, Finding)| {
        format!("{}: {}", name(domain), finding.message)
    };
    let first = |wanted: fn(RecordState) -> bool| looked.iter().find(|(_, f)| wanted(f.state));
    if let Some(failing) = first(fails) {
        return fact(Status::False, failing.1.reason, told(failing));
    }
    if let Some(unknown) = first(|state| state == RecordState::Unknown) {
        return fact(Status::Unknown, unknown.1.reason, told(unknown));
    }
    let remarks: Vec<String> = looked
        .iter()
        .filter(|(_, finding)| !finding.message.is_empty())
        .map(told)
        .collect();
    let message = match (looked.is_empty(), remarks.is_empty()) {
        (true, _) => "neither the domain nor its return path takes mail".to_owned(),
        (false, true) => "the published records do their duty".to_owned(),
        (false, false) => remarks.join("; "),
    };
    fact(Status::True, reasons::VERIFIED, message)
}

/// The condition about the names of addresses: what the pool has found.
pub(super) fn ptr(observation: &Observation) -> Fact {
    let fact =
        |status, reason, message: String| Fact::new(types::PTR_VERIFIED, status, reason, message);
    if observation.spec.verification.ptr == Requirement::Off {
        return not_required(types::PTR_VERIFIED, "spec.verification.ptr");
    }
    let Some(pool) = &observation.pool else {
        return fact(
            Status::Unknown,
            reasons::POOL_NOT_FOUND,
            no_pool(observation),
        );
    };
    if pool.egress.is_empty() {
        let message = no_egress(observation);
        return fact(Status::False, reasons::NO_EGRESS_ADDRESSES, message);
    }
    let name = &observation.spec.pool_ref.name;
    match &observation.reverse {
        None => {
            let message = format!("RelayPool {name} has not been looked at yet");
            fact(Status::Unknown, reasons::PENDING, message)
        }
        Some(found) => match known_before(observation, found) {
            Some(before) => before,
            None => {
                let message = format!("RelayPool {name}: {}", found.message);
                fact(found.status, found.reason, message)
            }
        },
    }
}

/// What was known of the names of addresses, while nobody answers: trouble of a pool is told there, and
/// takes nothing back of its thousands of domains.
fn known_before(observation: &Observation, found: &Fact) -> Option<Fact> {
    let before = reverse::read(&observation.previous.conditions)?;
    let known = [
        reasons::VERIFIED,
        reasons::RECORD_MISSING,
        reasons::RECORD_MISMATCH,
    ];
    let kept = found.status == Status::Unknown && known.contains(&before.reason);
    kept.then_some(before)
}
