//! Hands records over to whoever publishes them, and tells what has come of it.
//!
//! Guarantees: what may be in a zone is written into the status before it is put there, and the finalizer
//! before that, so that an operator that ends in between still knows what to take out.

use kube::ResourceExt as _;
use postrider_crds::{
    PublishedRecord, PublishedStatus, RecordStatus, Rfc2136, SendingDomain, SendingDomainStatus,
    condition::reasons,
};

use super::{
    FINALIZER, Outcome,
    endpoint::{self, Applied},
    fact::{has, is_verified, published, seen, with_outside},
    rfc2136, same_target, server,
};
use crate::{
    Context, Error,
    conditions::{Fact, Status},
    names::DOMAIN_MANAGER,
    sending_domain::{observe::Observation, plan::Plan},
};

/// What there is to hand over.
pub(super) struct Work<'a> {
    pub(super) domain: &'a SendingDomain,
    pub(super) observation: &'a Observation,
    pub(super) plan: &'a Plan,
    pub(super) wanted: &'a [PublishedRecord],
    pub(super) ctx: &'a Context,
}

impl Work<'_> {
    /// By a DNSEndpoint.
    pub(super) async fn by_endpoint(&self) -> Result<Outcome, Error> {
        let name = endpoint::name(self.domain);
        let applied = endpoint::apply(self.domain, self.wanted, self.ctx).await?;
        let (reason, message) = match applied {
            Applied::Done => {
                let place = format!("DNSEndpoint {name}");
                let fact = seen(&self.plan.status.records, self.wanted, &place);
                let now_published = PublishedStatus {
                    dns_endpoint: Some(name),
                    rfc2136: None,
                    records: self.wanted.to_vec(),
                };
                return Ok(Outcome { fact, published: Some(now_published) });
            }
            Applied::NotInstalled => (
                reasons::PUBLISHER_NOT_INSTALLED,
                "the cluster has no kind DNSEndpoint; install external-dns with its CRD, or take spec.publish.dnsEndpoint out".to_owned(),
            ),
            Applied::Refused(refusal) => (reasons::PUBLISHER_REFUSED, refusal.message),
            Applied::Foreign => (
                reasons::RECORD_CONFLICT,
                format!("DNSEndpoint {name} is not ours; delete or rename it"),
            ),
        };
        let fact = published(Status::False, reason, message);
        let published = self.observation.previous.published.clone();
        Ok(Outcome { fact, published })
    }

    /// By updates of a zone.
    pub(super) async fn by_update(
        &self,
        settings: &Rfc2136,
        before: &PublishedStatus,
    ) -> Result<Outcome, Error> {
        // What a former target held has been taken out of it.
        let former = before.rfc2136.as_ref();
        let before = match former.is_some_and(|former| same_target(former, settings)) {
            true => before.records.as_slice(),
            false => &[],
        };
        let (own, outside) = self.divided(settings, before);
        let unwanted = before
            .iter()
            .filter(|old| !has(&own, old))
            .cloned()
            .collect();
        let work = Zone {
            settings,
            own,
            outside,
            unwanted,
        };
        let records = &self.plan.status.records;
        let is_there = |record| before.contains(record) && is_verified(records, record);
        if work.unwanted.is_empty() && work.own.iter().all(is_there) {
            return Ok(Outcome {
                fact: work.seen(records),
                published: Some(work.published()),
            });
        }
        match rfc2136::open(self.domain, settings, self.ctx).await {
            Ok(server) => self.hand_over(&server, &work).await,
            Err(trouble) => Ok(Outcome {
                fact: published(Status::False, trouble.reason, trouble.message),
                published: self.observation.previous.published.clone(),
            }),
        }
    }

    async fn hand_over(&self, server: &server::Server, work: &Zone<'_>) -> Result<Outcome, Error> {
        let mut noted = work.published();
        noted.records.extend(work.unwanted.iter().cloned());
        self.note(&noted).await?;
        let put = rfc2136::put(server, &work.own, &work.unwanted, self.ctx).await;
        if let Some(trouble) = put.trouble {
            return Ok(Outcome {
                fact: published(Status::False, trouble.reason, trouble.message),
                published: Some(noted),
            });
        }
        let fact = match put.conflicts.split_first() {
            Some((first, [])) => published(Status::False, reasons::RECORD_CONFLICT, first.clone()),
            Some((first, more)) => {
                let message = format!("{first} (and {} more)", more.len());
                published(Status::False, reasons::RECORD_CONFLICT, message)
            }
            None => work.seen(&self.plan.status.records),
        };
        Ok(Outcome {
            fact,
            published: Some(work.published()),
        })
    }

    /// What is ours to publish, and what is not in the zone. A record that does its duty already
    /// although we have not published it is somebody else's.
    fn divided(
        &self,
        settings: &Rfc2136,
        before: &[PublishedRecord],
    ) -> (Vec<PublishedRecord>, Vec<PublishedRecord>) {
        let zone = format!(".{}", settings.zone);
        let inside = |record: &PublishedRecord| {
            record.name == settings.zone.as_str() || record.name.ends_with(&zone)
        };
        let (own, outside): (Vec<_>, Vec<_>) = self.wanted.iter().cloned().partition(inside);
        let records = &self.plan.status.records;
        let theirs =
            |record: &PublishedRecord| is_verified(records, record) && !has(before, record);
        (
            own.into_iter().filter(|record| !theirs(record)).collect(),
            outside,
        )
    }

    /// Writes down what may be in DNS from now on, before it is, and what keeps the object until it
    /// has been taken out.
    async fn note(&self, published: &PublishedStatus) -> Result<(), Error> {
        if !self.domain.finalizers().iter().any(|f| f == FINALIZER) {
            let mut finalizers = self.domain.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            self.ctx.writer.finalizers(self.domain, &finalizers).await?;
        }
        let previous = &self.observation.previous;
        if previous.published.as_ref() == Some(published) {
            return Ok(());
        }
        let current = self.domain.status.as_ref();
        let noted = SendingDomainStatus {
            published: Some(published.clone()),
            ..previous.clone()
        };
        let writer = &self.ctx.writer;
        writer
            .status(DOMAIN_MANAGER, self.domain, current, &noted)
            .await?;
        Ok(())
    }
}

/// What there is to do in a zone.
struct Zone<'a> {
    settings: &'a Rfc2136,
    /// Records to have there.
    own: Vec<PublishedRecord>,
    /// Records that would be wanted and are not in the zone.
    outside: Vec<PublishedRecord>,
    /// Records to take out.
    unwanted: Vec<PublishedRecord>,
}

impl Zone<'_> {
    fn published(&self) -> PublishedStatus {
        PublishedStatus {
            dns_endpoint: None,
            rfc2136: Some(self.settings.clone()),
            records: self.own.clone(),
        }
    }

    fn seen(&self, records: &[RecordStatus]) -> Fact {
        let fact = seen(records, &self.own, &format!("zone {}", self.settings.zone));
        with_outside(fact, records, &self.outside, self.settings)
    }
}
