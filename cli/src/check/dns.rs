//! SendingDomains beside live DNS, through the operator's own look and plan; [`pools`] does the same
//! for RelayPools.
//!
//! Promises: what is found is what the operator would find with the same answers. The records of
//! DKIM keys cannot be known: the keys are made in the cluster. They are told of as not checked.

use std::{net::SocketAddr, sync::Arc};

use futures::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use postrider_crds::{
    RecordPurpose, RecordStatus, Requirement, SendingDomainStatus,
    condition::{reasons, types},
};
use postrider_operator::{
    clock::{Clock as _, SystemClock},
    dns::{HickoryResolver, HttpsPolicyHosts, PolicyHosts, Resolver},
    keys::algorithm_name,
    metrics::Metrics,
    sending_domain::{
        observe::{self, Observation},
        plan,
    },
};

use super::{
    object::{Kind, Object},
    pools, references,
    report::{Item, Outcome},
};
use crate::error::Error;

/// Objects looked at in one go: each asks some ten questions, and resolvers are shared.
const AT_ONCE: usize = 8;

/// Looks at every SendingDomain and RelayPool among `objects`.
///
/// # Errors
///
/// When no resolver can be set up.
pub(crate) async fn verify(
    objects: &[Object],
    resolvers: &[SocketAddr],
) -> Result<Vec<Item>, Error> {
    let looked_at = |object: &&Object| match &object.kind {
        Kind::Domain(_) | Kind::Pool(_) => true,
        Kind::List(_) => false,
    };
    let all: Vec<&Object> = objects.iter().filter(looked_at).collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let metrics = Metrics::new().map_err(|error| Error::Resolver(error.to_string()))?;
    let resolver = HickoryResolver::new(resolvers, Arc::new(metrics))
        .map_err(|error| Error::Resolver(error.to_string()))?;
    let policies = HttpsPolicyHosts::public();
    let progress = progress(all.len());
    let looks = stream::iter(&all).map(|object| {
        let (resolver, policies, progress) = (&resolver, &policies, &progress);
        async move {
            progress.set_message(object.title());
            let items = match &object.kind {
                Kind::Domain(domain) => {
                    let pool = references::pool(objects, object, &domain.spec.pool_ref.name);
                    let observation = Observation::of_manifest(domain, pool);
                    look(resolver, policies, object, observation).await
                }
                Kind::Pool(pool) => pools::verify(resolver, objects, object, pool).await,
                Kind::List(_) => Vec::new(),
            };
            progress.inc(1);
            items
        }
    });
    let found: Vec<Vec<Item>> = looks.buffered(AT_ONCE).collect().await;
    progress.finish_and_clear();
    Ok(found.into_iter().flatten().collect())
}

/// On a terminal, how far it is; elsewhere nothing.
fn progress(objects: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(objects).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {wide_msg}");
    bar.with_style(style.expect("the template is sound"))
}

async fn look(
    resolver: &dyn Resolver,
    policies: &dyn PolicyHosts,
    object: &Object,
    observation: Observation,
) -> Vec<Item> {
    let look = observe::look(resolver, policies, &observation).await;
    let observation = observation.with_look(&look);
    let plan = plan::plan(&observation, SystemClock::new().now());
    let mut items = keys(object, &observation);
    let records = plan.status.records.iter();
    items.extend(records.map(|record| of_record(object, &observation, record)));
    items.extend(no_egress(object, &observation, &plan.status));
    items
}

/// One item a key: its record depends on a key that is not made yet or lies in the cluster.
fn keys(object: &Object, observation: &Observation) -> Vec<Item> {
    let spec = &observation.spec;
    let keys = spec.dkim.keys.iter();
    keys.map(|key| Item {
        subject: format!(
            "TXT {}-..._domainkey.{} ({})",
            spec.dkim.selector_prefix,
            spec.domain,
            algorithm_name(key.algorithm)
        ),
        message: format!(
            "the key is made in the cluster; see its record there with: postrider records {}",
            observation.name
        ),
        ..object.item("DKIM", Outcome::NotChecked)
    })
    .collect()
}

fn of_record(object: &Object, observation: &Observation, record: &RecordStatus) -> Item {
    let verification = &observation.spec.verification;
    let (check, requirement) = match record.purpose {
        RecordPurpose::DKIM => ("DKIM", Requirement::Required),
        RecordPurpose::SPF => ("SPF", verification.spf),
        RecordPurpose::DMARC => ("DMARC", verification.dmarc),
        RecordPurpose::ReturnPath => ("ReturnPath", Requirement::Required),
        RecordPurpose::MTASTS => ("MTASTS", verification.mta_sts),
        RecordPurpose::TLSRPT => ("TLSRPT", verification.tls_rpt),
        // Those are the pool's.
        RecordPurpose::EHLO => ("EHLO", Requirement::Warn),
        RecordPurpose::PTR => ("PTR", verification.ptr),
    };
    pools::of_record(object, check, requirement, record)
}

/// SPF has no record to look at when the pool names no address; the plan says so in a condition.
fn no_egress(
    object: &Object,
    observation: &Observation,
    status: &SendingDomainStatus,
) -> Option<Item> {
    let mut conditions = status.conditions.iter();
    let spf = conditions.find(|c| c.type_ == types::SPF_VERIFIED)?;
    if spf.reason != reasons::NO_EGRESS_ADDRESSES {
        return None;
    }
    let outcome = match observation.spec.verification.spf {
        Requirement::Required => Outcome::Failed,
        Requirement::Warn | Requirement::Off => Outcome::Warning,
    };
    Some(Item {
        subject: format!("TXT {}", observation.spec.return_path_domain()),
        message: spf.message.clone(),
        ..object.item("SPF", outcome)
    })
}
