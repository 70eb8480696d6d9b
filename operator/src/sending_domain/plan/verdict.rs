//! The conditions, and what relays do with the domain's mail.

use postrider_crds::{
    RecordPurpose, RecordState, RecordStatus, Requirement, Unverified,
    condition::{reasons, types},
    relay_config::Admission,
};

use super::{answers, fails};
use crate::{
    conditions::{Fact, Progress, Status},
    dns::Finding,
    keys::{KeyState, Life, algorithm_name},
    sending_domain::{
        closing, moving,
        observe::{KeyFacts, Observation},
        records::{one_line, record_line},
        rotation::counts,
    },
};

/// Characters of a published text that are repeated in a condition.
const MAX_RECORD: usize = 800;

/// What the facts come to.
pub(super) struct Verdict {
    /// The conditions.
    pub(super) facts: Vec<Fact>,
    /// What is waited for.
    pub(super) progress: Progress,
    /// What relays do.
    pub(super) admission: Admission,
}

/// How far the domain's keys are.
pub(super) struct Rotation {
    /// Keys that sign or are to sign are being made.
    pub(super) generating: bool,
    /// The condition `Rotating`.
    pub(super) rotating: Fact,
}

/// The checks besides `Ready`, each with what it is worth.
struct Checks {
    keys: Fact,
    spf: Fact,
    dkim: Fact,
    dmarc: Fact,
    return_path: Fact,
    ptr: Fact,
    mta_sts: Fact,
    tls_rpt: Fact,
    rotating: Fact,
}

/// Judges `observation`, whose keys now have the lives `advanced`.
pub(super) fn judge(
    observation: &Observation,
    advanced: &[Life],
    records: &[RecordStatus],
    rotation: Rotation,
) -> Verdict {
    let verification = &observation.spec.verification;
    let checks = Checks {
        keys: keys(observation, rotation.generating),
        spf: spf(observation),
        dkim: dkim(observation),
        dmarc: required(
            types::DMARC_VERIFIED,
            verification.dmarc,
            "spec.verification.dmarc",
            observation.findings.dmarc.as_ref(),
        ),
        return_path: return_path(observation),
        ptr: answers::ptr(observation),
        mta_sts: answers::mta_sts(observation),
        tls_rpt: answers::tls_rpt(observation),
        rotating: rotation.rotating,
    };
    let (mut ready, mut progress) = ready(observation, advanced, records, &checks);
    // Decided before Ready waits for relays: what they have to load is this very admission.
    let admission = admission(observation, advanced, &checks, ready.status);
    if ready.status == Status::True
        && let Some(waiting) = awaits_relays(observation)
    {
        (ready, progress) = (waiting, Progress::Reconciling);
    }
    let moving = moving::moving(observation, admission, &ready.message);
    if let Some(waits) = &observation.closing {
        (ready, progress) = (
            closing::ready(waits, observation, admission, &ready),
            Progress::Reconciling,
        );
    }
    for problem in &observation.sender_problems {
        ready.message = format!("{}; {problem}", ready.message);
    }
    let mut facts = vec![
        ready,
        checks.keys,
        checks.spf,
        checks.dkim,
        checks.dmarc,
        checks.return_path,
        checks.ptr,
        checks.mta_sts,
        checks.tls_rpt,
        checks.rotating,
    ];
    facts.extend(moving);
    Verdict {
        facts,
        progress,
        admission,
    }
}

fn keys(observation: &Observation, generating: bool) -> Fact {
    let fact =
        |status, reason, message: String| Fact::new(types::KEYS_READY, status, reason, message);
    if let Some(problem) = observation.unusable_keys.first() {
        return fact(Status::False, reasons::KEY_INVALID, problem.problem.clone());
    }
    if observation.rival.is_some() {
        let message = "no keys are made for a domain that another SendingDomain has";
        return fact(Status::False, reasons::DOMAIN_CONFLICT, message.into());
    }
    if observation.closing.is_some() && !complete(observation) {
        let message = "no keys are made for a domain that is being deleted";
        return fact(Status::False, reasons::PENDING, message.into());
    }
    if generating {
        return fact(
            Status::False,
            reasons::PENDING,
            "keys are being made".into(),
        );
    }
    let names: Vec<&str> = observation
        .spec
        .dkim
        .keys
        .iter()
        .map(|spec| algorithm_name(spec.algorithm))
        .collect();
    let message = format!("a key exists for each of: {}", names.join(", "));
    fact(Status::True, reasons::KEYS_GENERATED, message)
}

/// True when there is a key of each listed algorithm.
fn complete(observation: &Observation) -> bool {
    let mut specs = observation.spec.dkim.keys.iter();
    specs.all(|spec| {
        let mut keys = observation.keys.iter();
        keys.any(|key| key.algorithm == spec.algorithm)
    })
}

fn spf(observation: &Observation) -> Fact {
    let requirement = observation.spec.verification.spf;
    let fact = |status, reason, message| Fact::new(types::SPF_VERIFIED, status, reason, message);
    if requirement != Requirement::Off {
        match &observation.pool {
            None => {
                return fact(
                    Status::Unknown,
                    reasons::POOL_NOT_FOUND,
                    no_pool(observation),
                );
            }
            Some(pool) if pool.egress.is_empty() => {
                let message = no_egress(observation);
                return fact(Status::False, reasons::NO_EGRESS_ADDRESSES, message);
            }
            Some(_) => {}
        }
    }
    required(
        types::SPF_VERIFIED,
        requirement,
        "spec.verification.spf",
        observation.findings.spf.as_ref(),
    )
}

fn return_path(observation: &Observation) -> Fact {
    if observation.pool.is_none() {
        return Fact::new(
            types::RETURN_PATH_VERIFIED,
            Status::Unknown,
            reasons::POOL_NOT_FOUND,
            no_pool(observation),
        );
    }
    let finding = observation.findings.return_path.as_ref();
    from_finding(types::RETURN_PATH_VERIFIED, finding)
}

/// The worst of what is known of the wanted keys' records.
fn dkim(observation: &Observation) -> Fact {
    let keys = || {
        observation
            .keys
            .iter()
            .filter(|key| counts(observation, key))
    };
    let fact =
        |status, reason, message: String| Fact::new(types::DKIM_VERIFIED, status, reason, message);
    let about = |key: &KeyFacts, finding: &Finding| {
        let name = key.selector.record_name(&observation.spec.domain);
        format!("{name}: {}", finding.message)
    };
    let found = |wanted: fn(RecordState) -> bool| {
        keys().find_map(|key| {
            let finding = key
                .finding
                .as_ref()
                .filter(|finding| wanted(finding.state))?;
            Some((key, finding))
        })
    };
    if let Some((key, finding)) = found(fails) {
        return fact(Status::False, finding.reason, about(key, finding));
    }
    if let Some((_, finding)) = found(|state| state == RecordState::Unknown) {
        return fact(Status::Unknown, finding.reason, finding.message.clone());
    }
    let complete = observation
        .spec
        .dkim
        .keys
        .iter()
        .all(|spec| keys().any(|key| key.algorithm == spec.algorithm && key.finding.is_some()));
    if !complete {
        return fact(
            Status::Unknown,
            reasons::PENDING,
            "not looked up yet".into(),
        );
    }
    fact(
        Status::True,
        reasons::VERIFIED,
        "the records of all keys match".into(),
    )
}

/// A check that the spec may switch off.
fn required(
    type_: &'static str,
    requirement: Requirement,
    field: &str,
    finding: Option<&Finding>,
) -> Fact {
    match requirement {
        Requirement::Off => not_required(type_, field),
        Requirement::Required | Requirement::Warn => from_finding(type_, finding),
    }
}

/// What is said of a check that the spec switches off.
pub(super) fn not_required(type_: &'static str, field: &str) -> Fact {
    let message = format!("not checked: {field} is Skip");
    Fact::new(type_, Status::True, reasons::NOT_REQUIRED, message)
}

fn from_finding(type_: &'static str, finding: Option<&Finding>) -> Fact {
    let Some(finding) = finding else {
        return Fact::new(
            type_,
            Status::Unknown,
            reasons::PENDING,
            "not looked up yet",
        );
    };
    let status = match finding.state {
        RecordState::Verified => Status::True,
        RecordState::Unknown => Status::Unknown,
        RecordState::Missing | RecordState::Mismatch | RecordState::Conflict => Status::False,
    };
    let message = match (status, finding.message.as_str()) {
        (Status::True, "") => "the published record does its duty",
        (_, message) => message,
    };
    Fact::new(type_, status, finding.reason, message)
}

/// What to do about a pool that says nothing of its addresses.
pub(super) fn no_egress(observation: &Observation) -> String {
    let name = &observation.spec.pool_ref.name;
    format!(
        "spec.egress.addresses of RelayPool {name} is empty; list there the addresses that receivers see"
    )
}

/// What to do about a pool that does not exist.
pub(super) fn no_pool(observation: &Observation) -> String {
    let name = &observation.spec.pool_ref.name;
    format!(
        "RelayPool {name} does not exist in this namespace; create it or change spec.poolRef.name"
    )
}

/// The checks that decide.
fn deciding<'a>(observation: &Observation, checks: &'a Checks) -> Vec<&'a Fact> {
    let verification = &observation.spec.verification;
    let checks = [
        (Requirement::Required, &checks.dkim),
        (verification.spf, &checks.spf),
        (verification.dmarc, &checks.dmarc),
        (Requirement::Required, &checks.return_path),
        (verification.ptr, &checks.ptr),
        (verification.mta_sts, &checks.mta_sts),
        (verification.tls_rpt, &checks.tls_rpt),
    ];
    checks
        .into_iter()
        .filter(|(requirement, _)| *requirement == Requirement::Required)
        .map(|(_, fact)| fact)
        .collect()
}

fn ready(
    observation: &Observation,
    advanced: &[Life],
    records: &[RecordStatus],
    checks: &Checks,
) -> (Fact, Progress) {
    let not = |reason, message: String, progress| {
        (
            Fact::new(types::READY, Status::False, reason, message),
            progress,
        )
    };
    if let Some(rival) = &observation.rival {
        let domain = &observation.spec.domain;
        let message = format!("{domain} belongs to the older SendingDomain {rival}; delete one");
        return not(reasons::DOMAIN_CONFLICT, message, Progress::Stalled);
    }
    if observation.pool.is_none() {
        return not(
            reasons::POOL_NOT_FOUND,
            no_pool(observation),
            Progress::Reconciling,
        );
    }
    if checks.keys.status == Status::False {
        let progress = match checks.keys.reason {
            reasons::KEY_INVALID => Progress::Stalled,
            _ => Progress::Reconciling,
        };
        return not(checks.keys.reason, checks.keys.message.clone(), progress);
    }
    let senders = &observation.spec.senders;
    if !senders.is_empty() && observation.sender_problems.len() == senders.len() {
        let message = "no sender of spec.senders can log in".to_owned();
        return not(reasons::REFERENCE_NOT_FOUND, message, Progress::Reconciling);
    }
    let deciding = deciding(observation, checks);
    if let Some(failed) = deciding.iter().find(|fact| fact.status == Status::False) {
        let (reason, message) = to_publish(observation, records, failed);
        return not(reason, message, Progress::Reconciling);
    }
    if let Some(open) = deciding.iter().find(|fact| fact.status == Status::Unknown) {
        let fact = Fact::new(
            types::READY,
            Status::Unknown,
            open.reason,
            open.message.clone(),
        );
        return (fact, Progress::Reconciling);
    }
    match waiting(observation, advanced, &checks.rotating) {
        Some((reason, message)) => not(reason, message, Progress::Reconciling),
        None => (all_well(observation, advanced), Progress::Settled),
    }
}

/// What to publish first, and how much more there is.
fn to_publish(
    observation: &Observation,
    records: &[RecordStatus],
    failed: &Fact,
) -> (&'static str, String) {
    let verification = &observation.spec.verification;
    let decides = |purpose| match purpose {
        RecordPurpose::DKIM | RecordPurpose::ReturnPath => true,
        RecordPurpose::SPF => verification.spf == Requirement::Required,
        RecordPurpose::DMARC => verification.dmarc == Requirement::Required,
        RecordPurpose::MTASTS => verification.mta_sts == Requirement::Required,
        RecordPurpose::TLSRPT => verification.tls_rpt == Requirement::Required,
        RecordPurpose::EHLO | RecordPurpose::PTR => false,
    };
    // A policy may be at fault whose record is as it should be.
    let published = |record: &RecordStatus| record.seen.as_ref() == Some(&record.wanted);
    // The records of a successor and of a key that is retiring hold nothing up.
    let beside: Vec<String> = observation
        .keys
        .iter()
        .filter(|key| !counts(observation, key))
        .map(|key| key.selector.record_name(&observation.spec.domain))
        .collect();
    let mut open = records.iter().filter(|record| {
        fails(record.state)
            && decides(record.purpose)
            && !published(record)
            && !beside.contains(&record.name)
    });
    let Some(first) = open.next() else {
        return (failed.reason, failed.message.clone());
    };
    let line: String = one_line(&record_line(first))
        .chars()
        .take(MAX_RECORD)
        .collect();
    let more = match open.count() {
        0 => String::new(),
        1 => " and 1 more record, see status.records".to_owned(),
        count => format!(" and {count} more records, see status.records"),
    };
    (reasons::RECORDS_MISSING, format!("publish {line}{more}"))
}

/// What the first keys wait for before they sign; a successor is waited for by `Rotating` alone.
fn waiting(
    observation: &Observation,
    advanced: &[Life],
    rotating: &Fact,
) -> Option<(&'static str, String)> {
    let mut counting = observation
        .keys
        .iter()
        .zip(advanced)
        .filter(|(key, _)| counts(observation, key));
    if counting.all(|(_, life)| life.state == KeyState::Active) {
        return None;
    }
    let reason = match rotating.reason {
        reasons::WAITING_FOR_RELAYS => reasons::KEYS_LOADING,
        reason => reason,
    };
    Some((reason, rotating.message.clone()))
}

/// Why a domain of which everything is verified is not Ready yet: a relay that has not loaded that
/// its mail may be sent would hold or refuse it.
///
/// Asked once for each generation of the spec. A domain that has been Ready since its spec last
/// changed stays so whatever pods come and go: a pod loads all there is before it accepts mail, and
/// a restarted operator, who has not asked the relays yet, knows nothing against it either.
fn awaits_relays(observation: &Observation) -> Option<Fact> {
    let (previous, reach) = (&observation.previous, &observation.reach);
    let was_ready = previous.observed_generation == Some(observation.generation)
        && previous
            .conditions
            .iter()
            .any(|c| c.type_ == types::READY && c.status == Status::True.as_str());
    if was_ready {
        return None;
    }
    let pool = &observation.spec.pool_ref.name;
    let not = |reason, message| Some(Fact::new(types::READY, Status::False, reason, message));
    let told = reach.admission == Some(Admission::Send);
    if told && reach.members == 0 {
        let message = format!(
            "all is verified, but RelayPool {pool} is scaled to zero; set its spec.replicas to 1 or more"
        );
        return not(reasons::SCALED_TO_ZERO, message);
    }
    if told && reach.awaited == 0 {
        return None;
    }
    // The same however far they are: each step would be a write for each of thousands of domains. The
    // pool tells the steps, once for all of them.
    let message = format!(
        "all is verified; every relay of RelayPool {pool} has to load that mail may be sent, and ConfigApplied of the pool names those that have not"
    );
    not(reasons::WAITING_FOR_MEMBERS, message)
}

fn all_well(observation: &Observation, advanced: &[Life]) -> Fact {
    let selectors: Vec<&str> = observation
        .keys
        .iter()
        .zip(advanced)
        .filter(|(_, life)| life.state == KeyState::Active)
        .map(|(key, _)| key.selector.as_str())
        .collect();
    let message = format!("mail is signed with {}", selectors.join(", "));
    Fact::new(types::READY, Status::True, reasons::READY, message)
}

/// What relays do with the domain's mail. Once it is sent it goes on being sent for as long as
/// nothing that decides is known to fail and a key signs whose record is not known to fail: neither
/// an answer that does not come, nor a new key on its way, nor a sender's password stops it. Of a
/// domain that is being deleted the key alone counts: its records may go before its last mail has,
/// and mail that is held then would be held until it bounces.
fn admission(
    observation: &Observation,
    advanced: &[Life],
    checks: &Checks,
    ready: Status,
) -> Admission {
    if ready == Status::True {
        return Admission::Send;
    }
    let leaving = observation.closing.is_some();
    // Where its Secrets went before it, it signs with what relays have.
    let kept = leaving && observation.keys.is_empty();
    let signs = kept
        || observation.keys.iter().zip(advanced).any(|(key, life)| {
            let failing = key
                .finding
                .as_ref()
                .is_some_and(|finding| fails(finding.state));
            life.state == KeyState::Active && !failing
        });
    let mut deciding = deciding(observation, checks).into_iter();
    let failed =
        deciding.any(|fact| fact.status == Status::False && fact.type_ != types::DKIM_VERIFIED);
    let sent_before = observation.previous.admission == Some(Admission::Send);
    if sent_before && signs && (leaving || !failed) && observation.rival.is_none() {
        return Admission::Send;
    }
    match observation.spec.unverified {
        Unverified::Hold => Admission::Hold,
        Unverified::Reject => Admission::Reject,
        Unverified::Send => Admission::Send,
    }
}
