//! SendingDomains beside live DNS, through the operator's own look and plan.
//!
//! Promises: what is found is what the operator would find with the same answers. The records of
//! DKIM keys cannot be known: the keys are made in the cluster. They are told of as not checked.

use std::{net::SocketAddr, sync::Arc};

use futures::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use postrider_crds::{
    RecordPurpose, RecordState, RecordStatus, Requirement, SendingDomain, SendingDomainStatus,
    condition::{reasons, types},
};
use postrider_operator::{
    clock::{Clock as _, SystemClock},
    dns::{HickoryResolver, Resolver},
    keys::algorithm_name,
    metrics::Metrics,
    sending_domain::{
        observe::{self, Observation},
        plan,
    },
};

use super::{
    object::{Kind, Object},
    references,
    report::{Item, Outcome},
};
use crate::error::Error;

/// Domains looked at in one go: each asks some ten questions, and resolvers are shared.
const AT_ONCE: usize = 8;

/// Looks at every SendingDomain among `objects`, with the pools among them.
///
/// # Errors
///
/// When no resolver can be set up.
pub(crate) async fn verify(
    objects: &[Object],
    resolvers: &[SocketAddr],
) -> Result<Vec<Item>, Error> {
    let domains: Vec<(&Object, &SendingDomain)> = objects
        .iter()
        .filter_map(|object| match &object.kind {
            Kind::Domain(domain) => Some((object, domain.as_ref())),
            Kind::Pool(_) | Kind::List(_) => None,
        })
        .collect();
    if domains.is_empty() {
        return Ok(Vec::new());
    }
    let metrics = Metrics::new().map_err(|error| Error::Resolver(error.to_string()))?;
    let resolver = HickoryResolver::new(resolvers, Arc::new(metrics))
        .map_err(|error| Error::Resolver(error.to_string()))?;
    let progress = progress(domains.len());
    let looks = stream::iter(&domains).map(|(object, domain)| {
        let (resolver, progress) = (&resolver, &progress);
        async move {
            progress.set_message(domain.spec.domain.to_string());
            let pool = references::pool(objects, object, &domain.spec.pool_ref.name);
            let observation = Observation::of_manifest(domain, pool);
            let items = look(resolver, object, observation).await;
            progress.inc(1);
            items
        }
    });
    let found: Vec<Vec<Item>> = looks.buffered(AT_ONCE).collect().await;
    progress.finish_and_clear();
    Ok(found.into_iter().flatten().collect())
}

/// On a terminal, how far it is; elsewhere nothing.
fn progress(domains: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(domains).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} domains  {wide_msg}");
    bar.with_style(style.expect("the template is sound"))
}

async fn look(resolver: &dyn Resolver, object: &Object, observation: Observation) -> Vec<Item> {
    let look = observe::look(resolver, &observation).await;
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
        RecordPurpose::EHLO => ("EHLO", Requirement::Warn),
    };
    let outcome = match (record.state, requirement) {
        // A remark on a record that does its duty.
        (RecordState::Verified, _) if !record.message.is_empty() => Outcome::Warning,
        (RecordState::Verified, _) => Outcome::Passed,
        (_, Requirement::Warn | Requirement::Off) => Outcome::Warning,
        (_, Requirement::Required) => Outcome::Failed,
    };
    Item {
        subject: format!("{:?} {}", record.r#type, record.name),
        wanted: Some(record.wanted.clone()),
        seen: record.seen.clone(),
        message: record.message.clone(),
        ..object.item(check, outcome)
    }
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
