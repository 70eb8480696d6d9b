//! Tables of the checks that only some ask for: names of addresses, MTA-STS, TLSRPT.

use postrider_crds::{DomainName, RecordPurpose, Requirement};

use super::*;
use crate::sending_domain::answers::Looked;

fn looked(findings: [(&str, Finding); 2]) -> Option<Looked> {
    let domain = |name: &str| name.parse::<DomainName>().unwrap();
    Some(
        findings
            .map(|(name, finding)| (domain(name), finding))
            .to_vec(),
    )
}

fn answers(own: Finding, bounces: Finding) -> Option<Looked> {
    looked([("example.com", own), ("bounce.example.com", bounces)])
}

fn stated(status: Status, reason: &'static str) -> Fact {
    Fact::new(
        types::PTR_VERIFIED,
        status,
        reason,
        "203.0.113.10 has no name",
    )
}

#[test]
fn the_names_of_addresses_count_as_much_as_is_asked() {
    use Requirement::{Off, Required, Warn};
    let missing = || Some(stated(Status::False, reasons::RECORD_MISSING));
    let unknown = || Some(stated(Status::Unknown, reasons::DNS_UNAVAILABLE));
    let good = || Some(stated(Status::True, reasons::VERIFIED));
    for (requirement, found, condition_is, ready_is) in [
        (Required, good(), ("True", reasons::VERIFIED), "True"),
        (
            Required,
            missing(),
            ("False", reasons::RECORD_MISSING),
            "False",
        ),
        (
            Required,
            unknown(),
            ("Unknown", reasons::DNS_UNAVAILABLE),
            "Unknown",
        ),
        (Required, None, ("Unknown", reasons::PENDING), "Unknown"),
        (Warn, missing(), ("False", reasons::RECORD_MISSING), "True"),
        (Warn, None, ("Unknown", reasons::PENDING), "True"),
        (Off, missing(), ("True", reasons::NOT_REQUIRED), "True"),
    ] {
        let mut observation = verified(KeyState::Active, true);
        observation.spec.verification.ptr = requirement;
        observation.reverse = found;
        let step = plan(&observation, at(0));
        let (status, reason, message) = condition(&step, types::PTR_VERIFIED);
        assert_eq!((status, reason), condition_is, "{requirement:?}");
        assert_eq!(ready(&step).0, ready_is, "{requirement:?}");
        if requirement == Required && status == "False" {
            assert_eq!(message, "RelayPool default: 203.0.113.10 has no name");
            assert_eq!(
                ready(&step).2,
                message,
                "the pool's records are no domain's to publish"
            );
        }
        // Looking here more often would not cure it.
        if ready_is == "True" {
            assert_eq!(step.next_look, Duration::from_secs(600));
        }
        assert!(
            step.status
                .records
                .iter()
                .all(|r| r.purpose != RecordPurpose::PTR)
        );
    }
}

#[test]
fn what_a_pool_has_lost_is_told_of_the_pool_and_holds_the_mail_of_who_asks_for_it() {
    let mut observation = verified(KeyState::Active, true);
    observation.spec.verification.ptr = Requirement::Required;
    observation.reverse = Some(stated(Status::True, reasons::VERIFIED));
    let before = plan(&observation, at(0));
    assert_eq!(before.status.admission, Some(Admission::Send));
    let mut world = after(observation, &before);
    world.reverse = Some(stated(Status::False, reasons::RECORD_MISSING));
    let step = plan(&world, at(1));
    assert_eq!(step.status.admission, Some(Admission::Hold));
    let about: Vec<_> = step.notices.iter().map(|n| n.note.as_str()).collect();
    assert!(
        about.iter().all(|note| !note.starts_with("PTRVerified")),
        "{about:?}"
    );
}

#[test]
fn trouble_of_a_pool_takes_nothing_back() {
    for (status, reason) in [
        (Status::True, reasons::VERIFIED),
        (Status::False, reasons::RECORD_MISSING),
    ] {
        let mut observation = verified(KeyState::Active, true);
        observation.spec.verification.ptr = Requirement::Required;
        observation.reverse = Some(stated(status, reason));
        let before = plan(&observation, at(0));
        let mut world = after(observation, &before);
        world.reverse = Some(stated(Status::Unknown, reasons::DNS_UNAVAILABLE));
        let during = plan(&world, at(1));
        assert_eq!(during.status, before.status, "nothing is written");
    }
}

#[test]
fn a_pool_without_addresses_has_no_names_either() {
    let mut observation = verified(KeyState::Active, true);
    observation.pool.as_mut().unwrap().egress.clear();
    let step = plan(&observation, at(0));
    let (status, reason, message) = condition(&step, types::PTR_VERIFIED);
    assert_eq!((status, reason), ("False", reasons::NO_EGRESS_ADDRESSES));
    assert!(message.contains("spec.egress.addresses of RelayPool default"));
}

#[test]
fn the_worse_of_two_domains_decides() {
    use RecordState::{Missing, Unknown, Verified};
    let good = || finding(Verified);
    for (own, bounces, condition_is, ready_is, part) in [
        (good(), good(), "True", "True", "do their duty"),
        (
            good(),
            finding(Missing),
            "False",
            "False",
            "_mta-sts.bounce.example.com: publish",
        ),
        (
            finding(Unknown),
            finding(Missing),
            "False",
            "False",
            "_mta-sts.bounce.example.com",
        ),
        (
            finding(Unknown),
            good(),
            "Unknown",
            "Unknown",
            "_mta-sts.example.com: the lookup",
        ),
    ] {
        let mut observation = verified(KeyState::Active, true);
        observation.spec.verification.mta_sts = Requirement::Required;
        observation.findings.answers.mta_sts = answers(own, bounces);
        let step = plan(&observation, at(0));
        let (status, _, message) = condition(&step, types::MTA_STS_VERIFIED);
        assert_eq!(
            (status, ready(&step).0),
            (condition_is, ready_is),
            "{message}"
        );
        assert!(message.contains(part), "{message}");
        let records = step.status.records.iter();
        let names: Vec<_> = records
            .filter(|record| record.purpose == RecordPurpose::MTASTS)
            .map(|record| record.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["_mta-sts.example.com", "_mta-sts.bounce.example.com"]
        );
        // The other check is not asked for.
        assert_eq!(
            condition(&step, types::TLS_RPT_VERIFIED).1,
            reasons::NOT_REQUIRED
        );
    }
}

#[test]
fn what_to_do_is_told_of_records_and_of_policies() {
    let mut observation = verified(KeyState::Active, true);
    observation.spec.verification.tls_rpt = Requirement::Required;
    let missing = || finding(RecordState::Missing);
    observation.findings.answers.tls_rpt = answers(missing(), missing());
    let step = plan(&observation, at(0));
    let (_, reason, message) = ready(&step);
    assert_eq!(reason, reasons::RECORDS_MISSING);
    assert_eq!(
        message,
        "publish TXT _smtp._tls.example.com \"v=TLSRPTv1; rua=mailto:postmaster@example.com\" and 1 more record, see status.records"
    );
    let mut observation = verified(KeyState::Active, true);
    observation.spec.verification.mta_sts = Requirement::Required;
    let policy = Finding::mismatch(
        reasons::POLICY_INVALID,
        "v=STSv1; id=1",
        "mta-sts.example.com answers 404".into(),
    );
    let policy = policy.wanting("v=STSv1; id=1");
    observation.findings.answers.mta_sts = answers(policy, finding(RecordState::Verified));
    let step = plan(&observation, at(0));
    let (_, reason, message) = ready(&step);
    assert_eq!(reason, reasons::POLICY_INVALID);
    assert_eq!(
        message,
        "_mta-sts.example.com: mta-sts.example.com answers 404"
    );
}

#[test]
fn a_domain_that_takes_no_mail_has_nothing_to_protect() {
    let mut observation = verified(KeyState::Active, true);
    observation.spec.verification.mta_sts = Requirement::Required;
    observation.findings.answers.mta_sts = Some(Vec::new());
    let step = plan(&observation, at(0));
    assert_eq!(condition(&step, types::MTA_STS_VERIFIED).0, "True");
    assert_eq!(ready(&step).0, "True");
    observation.findings.answers.mta_sts = None;
    assert_eq!(
        condition(&plan(&observation, at(0)), types::MTA_STS_VERIFIED).1,
        reasons::PENDING
    );
}

#[test]
fn trouble_keeps_each_domain_the_text_it_had() {
    let mut observation = verified(KeyState::Active, true);
    observation.spec.verification.mta_sts = Requirement::Warn;
    let record = |id: &str| finding(RecordState::Missing).wanting(&format!("v=STSv1; id={id}"));
    observation.findings.answers.mta_sts = answers(record("one"), record("two"));
    let before = plan(&observation, at(0));
    let mut world = after(observation, &before);
    let unknown = || finding(RecordState::Unknown);
    world.findings.answers.mta_sts = answers(unknown(), unknown());
    let step = plan(&world, at(1));
    let records = step.status.records.iter();
    let wanted: Vec<_> = records
        .filter(|record| record.purpose == RecordPurpose::MTASTS)
        .map(|record| record.wanted.as_str())
        .collect();
    assert_eq!(wanted, ["v=STSv1; id=one", "v=STSv1; id=two"]);
}
