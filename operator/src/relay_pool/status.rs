//! Judges how a pool is doing: its status, by the rules of kstatus, and what to tell. Pure.
//!
//! Promises: Ready is True only when every wanted member accepts mail and runs the rendered
//! configuration. The depth of the queue is written at most once a minute. Messages change only
//! when facts do.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use postrider_crds::{
    MemberConfig, MemberState, MemberStatus, QueueStatus, RelayPoolStatus,
    condition::{reasons, types},
    relay_config::{RefusedDocument, Report},
};

use super::{
    build::SPOOL, certificates::Submission, dns::Shown, loaded::Rendered, observe::Observation,
};
use crate::{
    conditions::{Fact, Progress, Status, has, merge, with_progress},
    events::{Notice, Severity},
    names,
    refusal::Refusal,
};

/// The depth of the queue is written no more often.
const QUEUE_PERIOD: Duration = Duration::from_secs(60);

/// A status, what to tell, and when the depth of the queue may be written.
pub(super) struct Verdict {
    pub(super) status: RelayPoolStatus,
    pub(super) notices: Vec<Notice>,
    /// `Some`: the depth has changed and may be written after this long.
    pub(super) queue_in: Option<Duration>,
}

/// Judges `seen` in the light of what was just rendered, and of what has come of writing it.
pub(super) fn judge(
    seen: &Observation,
    too_large: &[String],
    rendered: &Rendered,
    refusal: Option<&Refusal>,
) -> Verdict {
    let replicas = seen.pool.spec.replicas;
    let before = seen.pool.status.clone().unwrap_or_default();
    let members = members(seen, rendered);
    let ready = members
        .iter()
        .filter(|m| m.state != MemberState::Starting)
        .count();
    let ready_replicas = i32::try_from(ready).unwrap_or(i32::MAX);
    let retained = retained(seen, replicas);
    let view = View {
        seen,
        too_large,
        rendered,
        replicas,
        ready_replicas,
        members: &members,
    };

    let Shown { records, facts } = seen.look.shown(&seen.pool, &before, seen.now);
    let [ehlo, ptr] = facts;
    let facts = vec![
        view.available(),
        view.progressing(),
        view.config_applied(),
        spools_retained(&retained),
        ehlo,
        ptr,
    ];
    let (ready, progress) = match refusal {
        Some(refusal) => (refusal.ready(), refusal.progress),
        None => view.ready(&facts),
    };
    let told = refusal.or(seen.refused_pods.as_ref());
    let told = told.filter(|refusal| refusal.message == ready.message);
    let facts = with_progress([vec![ready], facts].concat(), progress);
    let generation = seen.pool.metadata.generation.unwrap_or(0);
    let conditions = merge(&before.conditions, &facts, generation, seen.now);
    let (queue, queue_in) = queue(seen, &before);
    let mut notices = notices(&before, &facts);
    let untold = told.filter(|refusal| !refusal.is_told(&before.conditions));
    notices.extend(untold.map(Refusal::notice));
    let status = RelayPoolStatus {
        observed_generation: Some(generation),
        conditions,
        replicas: i32::try_from(seen.pods.len()).unwrap_or(i32::MAX),
        ready_replicas,
        selector: selector(&seen.pool.name_any()),
        queue,
        members,
        retained_spools: retained,
        records,
    };
    Verdict {
        status,
        notices,
        queue_in,
    }
}

/// What the conditions are made from.
struct View<'a> {
    seen: &'a Observation,
    too_large: &'a [String],
    rendered: &'a Rendered,
    replicas: i32,
    ready_replicas: i32,
    members: &'a [MemberStatus],
}

impl View<'_> {
    fn available(&self) -> Fact {
        let (ready, wanted) = (self.ready_replicas, self.replicas);
        let fact = |status, reason, message| Fact::new(types::AVAILABLE, status, reason, message);
        if ready > 0 {
            let message = format!("{ready} of {wanted} members accept mail");
            fact(Status::True, reasons::MEMBERS_AVAILABLE, message)
        } else if wanted == 0 {
            let message = "scaled to zero: no mail is accepted".to_owned();
            fact(Status::False, reasons::SCALED_TO_ZERO, message)
        } else {
            let message = format!("none of {wanted} members accepts mail{}", self.not_ready());
            fact(Status::False, reasons::NO_MEMBERS, message)
        }
    }

    /// Why members say they accept no mail, as a suffix.
    fn not_ready(&self) -> String {
        let why = self.members.iter().find_map(|member| {
            let why = self.report(&member.name)?.not_ready.as_ref()?;
            Some(format!(": {} says: {why}", member.name))
        });
        why.unwrap_or_default()
    }

    fn progressing(&self) -> Fact {
        let fact = |status, reason, message| Fact::new(types::PROGRESSING, status, reason, message);
        let spec = self.seen.stateful_set.as_ref();
        let status = spec.and_then(|set| set.status.as_ref());
        let current = spec.is_some_and(|set| {
            let observed = status.and_then(|status| status.observed_generation);
            observed.is_some() && observed == set.metadata.generation
        });
        let updated = status
            .and_then(|status| status.updated_replicas)
            .unwrap_or(0);
        let existing = i32::try_from(self.seen.pods.len()).unwrap_or(i32::MAX);
        if current && updated == self.replicas && existing == self.replicas {
            let message = "nothing is being changed".to_owned();
            return fact(Status::False, reasons::STABLE, message);
        }
        let wanted = self.replicas;
        let message =
            format!("{existing} members exist and {updated} are up to date, {wanted} are wanted");
        fact(Status::True, reasons::ROLLING_OUT, message)
    }

    fn config_applied(&self) -> Fact {
        let fact =
            |status, reason, message| Fact::new(types::CONFIG_APPLIED, status, reason, message);
        if let Some((pod, refused)) = self.refused() {
            let (path, error) = (&refused.path, &refused.error);
            let message = format!("{pod} refused {path} and keeps what it has: {error}");
            return fact(Status::False, reasons::REFUSED, message);
        }
        let waiting: Vec<&str> = self
            .rendered
            .members
            .keys()
            .filter(|name| !self.applied(name))
            .map(String::as_str)
            .collect();
        if waiting.is_empty() {
            let message = "every member runs the rendered configuration".to_owned();
            return fact(Status::True, reasons::APPLIED, message);
        }
        let message = format!(
            "waiting for {} to report the rendered configuration",
            waiting.join(", ")
        );
        fact(Status::False, reasons::WAITING_FOR_MEMBERS, message)
    }

    /// `Ready`, and what a pool that is not ready waits for.
    fn ready(&self, facts: &[Fact]) -> (Fact, Progress) {
        let fact = |status, reason, message| Fact::new(types::READY, status, reason, message);
        if let Submission::Unusable(problem) = &self.seen.certificates.submission {
            let progress = match problem.reason() {
                reasons::REFERENCE_NOT_FOUND => Progress::Reconciling,
                _ => Progress::Stalled,
            };
            return (
                fact(Status::False, problem.reason(), problem.to_string()),
                progress,
            );
        }
        if !self.too_large.is_empty() {
            let message = format!(
                "{} does not fit its object of 1 MiB and stays as it was; spread the domains over \
                 more pools",
                self.too_large.join(", ")
            );
            return (
                fact(Status::False, reasons::TOO_LARGE, message),
                Progress::Stalled,
            );
        }
        let find = |type_| facts.iter().find(|fact| fact.type_ == type_).cloned();
        let config = find(types::CONFIG_APPLIED).filter(|fact| fact.status != Status::True);
        if let Some(config) = config
            .clone()
            .filter(|fact| fact.reason == reasons::REFUSED)
        {
            return (
                fact(Status::False, config.reason, config.message),
                Progress::Stalled,
            );
        }
        if let Some(waiting) = self.short_of_members() {
            return waiting;
        }
        let (ready, wanted) = (self.ready_replicas, self.replicas);
        let rolling = find(types::PROGRESSING).filter(|fact| fact.status == Status::True);
        if let Some(waiting) = rolling.or(config) {
            let waiting = fact(Status::False, waiting.reason, waiting.message);
            return (waiting, Progress::Reconciling);
        }
        if wanted == 0 {
            let message = "scaled to zero: no mail is accepted";
            let zero = fact(Status::True, reasons::SCALED_TO_ZERO, message.into());
            return (zero, Progress::Settled);
        }
        let message = format!(
            "{ready} of {wanted} members accept mail{}",
            self.own_certificate()
        );
        (
            fact(Status::True, reasons::READY, message),
            Progress::Settled,
        )
    }

    /// `Ready` of a pool some of whose members do not accept mail, and what it waits for.
    fn short_of_members(&self) -> Option<(Fact, Progress)> {
        let (ready, wanted) = (self.ready_replicas, self.replicas);
        if ready >= wanted {
            return None;
        }
        if let Some(refusal) = &self.seen.refused_pods {
            return Some((refusal.ready(), refusal.progress));
        }
        let message = format!(
            "{ready} of {wanted} members accept mail{}",
            self.not_ready()
        );
        let reason = reasons::MEMBERS_STARTING;
        let starting = Fact::new(types::READY, Status::False, reason, message);
        Some((starting, Progress::Reconciling))
    }

    fn own_certificate(&self) -> String {
        match self.seen.certificates.submission {
            Submission::Own => format!(
                "; clients verify the pool's own certificate with ca.crt of Secret {}",
                names::tls_secret(&self.seen.pool.name_any())
            ),
            Submission::Referenced | Submission::Unusable(_) => String::new(),
        }
    }

    fn report(&self, pod: &str) -> Option<&Report> {
        let uid = self.rendered.members.get(pod)?.as_ref()?;
        self.seen.state.report(pod, uid)
    }

    fn applied(&self, pod: &str) -> bool {
        let report = self.report(pod);
        report.is_some_and(|report| config_of(report, self.rendered) == MemberConfig::Applied)
    }

    /// A rendered document that a member has refused.
    fn refused(&self) -> Option<(&str, &RefusedDocument)> {
        self.rendered.members.keys().find_map(|pod| {
            let refused = refused_of(self.report(pod)?, self.rendered)?;
            Some((pod.as_str(), refused))
        })
    }
}

/// The refusal in `report` of something that is rendered now; older refusals are history.
fn refused_of<'a>(report: &'a Report, rendered: &Rendered) -> Option<&'a RefusedDocument> {
    report.refused.iter().find(|refused| {
        let wanted = rendered.documents.get(&refused.path);
        let wanted = wanted.or_else(|| rendered.certificates.get(&refused.path));
        wanted == Some(&refused.digest)
    })
}

/// Whether a relay runs what is rendered. Certificates count only when the relay reports them.
pub(super) fn config_of(report: &Report, rendered: &Rendered) -> MemberConfig {
    if refused_of(report, rendered).is_some() {
        return MemberConfig::Refused;
    }
    let documents = rendered.documents.iter();
    let loaded = documents
        .clone()
        .all(|(path, digest)| report.documents.get(path) == Some(digest));
    let certified = rendered.certificates.iter().all(|(path, digest)| {
        report
            .documents
            .get(path)
            .is_none_or(|reported| reported == digest)
    });
    if loaded && certified {
        MemberConfig::Applied
    } else {
        MemberConfig::Pending
    }
}

fn members(seen: &Observation, rendered: &Rendered) -> Vec<MemberStatus> {
    let prefix = format!("{}-", seen.pool.name_any());
    let mut members: Vec<MemberStatus> = seen
        .pods
        .iter()
        .filter_map(|pod| {
            let name = pod.name_any();
            let ordinal = name.strip_prefix(&prefix)?.parse().ok()?;
            let uid = pod.uid().unwrap_or_default();
            let asked = seen
                .state
                .reports
                .get(&name)
                .filter(|entry| entry.uid == uid);
            let report = asked.and_then(|entry| entry.report.as_ref());
            let state = match (is_ready(pod), asked, report) {
                (false, _, _) => MemberState::Starting,
                (true, Some(_), None) => MemberState::Lost,
                (true, _, _) => MemberState::Active,
            };
            let config = report.map_or(MemberConfig::Unknown, |r| config_of(r, rendered));
            Some(MemberStatus {
                name,
                ordinal,
                state,
                config,
            })
        })
        .collect();
    members.sort_by_key(|member| member.ordinal);
    members
}

/// True when the pod's Ready condition holds and it is not on its way out.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    });
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Names of the volumes of members that are no longer wanted, lowest ordinal first.
fn retained(seen: &Observation, replicas: i32) -> Vec<String> {
    let prefix = format!("{SPOOL}-{}-", seen.pool.name_any());
    let mut retained: Vec<(i32, String)> = seen
        .claims
        .iter()
        .filter_map(|claim| {
            let name = claim.name_any();
            let ordinal: i32 = name.strip_prefix(&prefix)?.parse().ok()?;
            (ordinal >= replicas).then_some((ordinal, name))
        })
        .collect();
    retained.sort();
    retained.into_iter().map(|(_, name)| name).collect()
}

fn spools_retained(retained: &[String]) -> Fact {
    if retained.is_empty() {
        let message = "no volumes are kept besides those in use";
        return Fact::new(
            types::SPOOLS_RETAINED,
            Status::False,
            reasons::NONE_RETAINED,
            message,
        );
    }
    let message = format!(
        "{} kept, because former members may have left mail there; scale up to deliver it",
        retained.join(", ")
    );
    Fact::new(
        types::SPOOLS_RETAINED,
        Status::True,
        reasons::VOLUMES_RETAINED,
        message,
    )
}

/// The depth to write, and when a depth that has changed may be written.
fn queue(seen: &Observation, before: &RelayPoolStatus) -> (Option<QueueStatus>, Option<Duration>) {
    let reports: Vec<&Report> = seen
        .state
        .reports
        .values()
        .filter_map(|entry| entry.report.as_ref())
        .collect();
    if reports.is_empty() {
        return (before.queue.clone(), None);
    }
    let sum = |count: fn(&Report) -> u64| reports.iter().map(|report| count(report)).sum::<u64>();
    let (due, deferred) = (sum(|r| r.queue.due), sum(|r| r.queue.deferred));
    let (suspended, held) = (sum(|r| r.queue.suspended), sum(|r| r.queue.held));
    let oldest = reports
        .iter()
        .map(|r| r.queue.oldest_due_seconds)
        .max()
        .unwrap_or(0);
    let now = QueueStatus {
        queued: due + deferred + suspended + held,
        due,
        deferred,
        suspended,
        held,
        oldest_due: coarse(oldest),
    };
    if before.queue.as_ref() == Some(&now) {
        return (Some(now), None);
    }
    let since = seen.queue_written_at.map(|at| seen.now.duration_since(at));
    let since = since.map(|since| Duration::try_from(since).unwrap_or_default());
    match since.and_then(|since| QUEUE_PERIOD.checked_sub(since)) {
        Some(wait) if !wait.is_zero() => (before.queue.clone(), Some(wait)),
        _ => (Some(now), None),
    }
}

/// Whole minutes, below one minute steps of 10 seconds; none for nothing due.
fn coarse(seconds: u64) -> Option<postrider_crds::Duration> {
    let step = if seconds < 60 { 10 } else { 60 };
    let coarse = seconds - seconds % step;
    (coarse > 0).then(|| postrider_crds::Duration::from_secs(coarse))
}

/// The selector of the pods as text, for the scale subresource.
fn selector(pool: &str) -> String {
    let labels = names::pool_selector(pool);
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// What became different: condition type, new status, reason.
const TOLD: [(&str, Status, &str, Severity); 6] = [
    (
        types::AVAILABLE,
        Status::True,
        reasons::MEMBERS_AVAILABLE,
        Severity::Normal,
    ),
    (
        types::AVAILABLE,
        Status::False,
        reasons::NO_MEMBERS,
        Severity::Warning,
    ),
    (
        types::CONFIG_APPLIED,
        Status::False,
        reasons::REFUSED,
        Severity::Warning,
    ),
    (
        types::SPOOLS_RETAINED,
        Status::True,
        reasons::VOLUMES_RETAINED,
        Severity::Warning,
    ),
    (
        types::READY,
        Status::False,
        reasons::REFERENCE_NOT_FOUND,
        Severity::Warning,
    ),
    (
        types::READY,
        Status::False,
        reasons::REFERENCE_INVALID,
        Severity::Warning,
    ),
];

fn notices(before: &RelayPoolStatus, facts: &[Fact]) -> Vec<Notice> {
    // A pool that has just been made has no members yet: that is no event.
    let first = before.conditions.is_empty();
    let told = TOLD
        .iter()
        .filter(|(type_, status, reason, _)| {
            let starting = first && *reason == reasons::NO_MEMBERS;
            !starting && !has(&before.conditions, type_, *status, reason)
        })
        .filter_map(|(type_, status, reason, severity)| {
            let fact = facts.iter().find(|fact| {
                fact.type_ == *type_ && fact.status == *status && fact.reason == *reason
            })?;
            Some(Notice {
                severity: *severity,
                reason,
                action: "Reconcile",
                note: fact.message.clone(),
            })
        });
    told.chain(facts.iter().filter_map(|fact| lost(before, fact)))
        .collect()
}

/// A record that did its duty and does no more.
fn lost(before: &RelayPoolStatus, fact: &Fact) -> Option<Notice> {
    let ours = [types::EHLO_VERIFIED, types::PTR_VERIFIED].contains(&fact.type_);
    let was = before.conditions.iter().find(|c| c.type_ == fact.type_)?;
    let was_true = was.status == Status::True.as_str();
    (ours && was_true && fact.status == Status::False).then(|| Notice {
        severity: Severity::Warning,
        reason: fact.reason,
        action: "Verify",
        note: format!("{} is False: {}", fact.type_, fact.message),
    })
}
