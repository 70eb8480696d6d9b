//! The conditions of a pool, besides those about DNS.

use kube::ResourceExt as _;
use postrider_crds::{
    MemberConfig, MemberStatus,
    condition::{reasons, types},
    relay_config::{RefusedDocument, Report},
};

use super::members::{config_of, refused_of};
use crate::{
    conditions::{Fact, Progress, Status},
    names,
    refusal::cut,
    relay_pool::{certificates::Submission, loaded::Rendered, observe::Observation},
};

/// What the conditions are made from.
pub(super) struct View<'a> {
    pub(super) seen: &'a Observation,
    pub(super) too_large: &'a [String],
    pub(super) rendered: &'a Rendered,
    pub(super) replicas: i32,
    pub(super) ready_replicas: i32,
    pub(super) members: &'a [MemberStatus],
}

impl View<'_> {
    pub(super) fn available(&self) -> Fact {
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

    pub(super) fn progressing(&self) -> Fact {
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

    pub(super) fn config_applied(&self) -> Fact {
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
    pub(super) fn ready(&self, facts: &[Fact]) -> (Fact, Progress) {
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
        if let Some(unread) = self.unread() {
            return (unread, Progress::Stalled);
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

    /// `Ready` of a pool that depends on what cannot be decoded.
    fn unread(&self) -> Option<Fact> {
        let (first, more) = self.seen.undecodable.objects.split_first()?;
        let (kind, name, error) = first;
        let more = match more.len() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let message = format!(
            "{kind} {name}{more} is of a form that this operator does not know: {}; what relays have of it \
             stays as it is; run an operator as new as the definitions, or change the object",
            cut(error.clone())
        );
        let reason = reasons::OBJECT_UNREADABLE;
        Some(Fact::new(types::READY, Status::False, reason, message))
    }

    /// `Ready` of a pool some of whose members do not accept mail, and what it waits for.
    fn short_of_members(&self) -> Option<(Fact, Progress)> {
        let (ready, wanted) = (self.ready_replicas, self.replicas);
        if ready >= wanted {
            return None;
        }
        if let Some(refusal) = &self.seen.hindered_pods {
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
