//! A look at DNS: what it depends on, what it asks, and what is kept of it until the next.

use std::collections::BTreeMap;

use futures::future;
use postrider_crds::{DomainName, RecordType, Requirement, Selector, SendingDomainSpec};

use super::{Findings, KeyFacts, Observation, PoolFacts};
use crate::{
    dns::{
        Finding, PolicyHosts, Resolver, Sight,
        confirm::{Question, confirmed},
        dkim::{self, PublicKey},
        dmarc, return_path, spf,
    },
    keys::KeyState,
    sending_domain::{answers, plan::fails},
};

/// Names at which a DMARC policy may be, from the domain's own upwards, that name servers are asked
/// about.
const MAX_ABOVE: usize = 4;

/// What a look at DNS, and what is published after it, depend on besides DNS. A look is good for as long
/// as this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inputs {
    generation: i64,
    pool: Option<PoolFacts>,
    keys: Vec<(Selector, PublicKey, KeyState)>,
    tsig: Option<String>,
}

/// One look at DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    findings: Findings,
    /// A map would take room for eleven keys in each of thousands of looks.
    keys: Box<[KeyLook]>,
    delegated: BTreeMap<Selector, Finding>,
}

/// A look at the record of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyLook {
    selector: Selector,
    /// Without the record seen if it is the wanted one to the letter: a key in base64 would be most of
    /// each of thousands of looks.
    finding: Finding,
    is_as_wanted: bool,
    sight: Sight,
}

impl KeyLook {
    fn new(key: &KeyFacts, (mut finding, sight): (Finding, Sight)) -> Self {
        let seen = finding.seen.take_if(|seen| *seen == key.public.record());
        Self {
            selector: key.selector.clone(),
            finding,
            is_as_wanted: seen.is_some(),
            sight,
        }
    }

    /// What was found of the record of `key`, which this is a look at.
    fn finding(&self, key: &KeyFacts) -> Finding {
        let mut finding = self.finding.clone();
        if self.is_as_wanted {
            finding.seen = Some(key.public.record());
        }
        finding
    }
}

impl Observation {
    /// What a look at DNS depends on.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| (key.selector.clone(), key.public.clone(), key.life.state))
            .collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Inputs {
            generation: self.generation,
            pool: self.pool.clone(),
            keys,
            tsig: self.tsig.clone(),
        }
    }

    /// The same observation with what `look` saw.
    #[must_use]
    pub fn with_look(mut self, look: &Look) -> Self {
        self.findings = look.findings.clone();
        self.delegated.clone_from(&look.delegated);
        for key in &mut self.keys {
            let mut looked = look.keys.iter();
            if let Some(look) = looked.find(|look| look.selector == key.selector) {
                key.finding = Some(look.finding(key));
                key.sight = look.sight.clone();
            }
        }
        self
    }
}

/// Asks DNS for everything `observation` is about, and the hosts of MTA-STS policies, all at once.
pub async fn look(
    resolver: &dyn Resolver,
    policies: &dyn PolicyHosts,
    observation: &Observation,
) -> Look {
    let spec = &observation.spec;
    let hostname = observation.pool.as_ref().map(|pool| pool.hostname.as_str());
    let answers = answers::look(resolver, policies, spec, hostname);
    let return_path = spec.return_path_domain();
    let keys = observation
        .keys
        .iter()
        .map(|key| async { KeyLook::new(key, look_at_key(resolver, &spec.domain, key).await) });
    let delegated = observation.keys.iter().map(|key| async {
        let name = spec.delegated_name(&key.selector)?;
        let finding = dkim::check_at(resolver, &name, &key.public).await;
        Some((key.selector.clone(), finding))
    });
    let (keys, answers, spf, dmarc, return_path) = future::join5(
        future::join(future::join_all(keys), future::join_all(delegated)),
        answers,
        look_at_spf(resolver, observation, &return_path),
        look_at_dmarc(resolver, spec, &return_path),
        look_at_return_path(resolver, observation, &return_path),
    )
    .await;
    let (keys, delegated) = keys;
    Look {
        findings: Findings {
            spf,
            dmarc,
            return_path,
            answers,
        },
        keys: keys.into(),
        delegated: delegated.into_iter().flatten().collect(),
    }
}

/// Asks the resolver, and the name servers themselves where a step depends on all of them: for a key
/// on its way to sign, and for one that signs when the resolver does not see its record.
async fn look_at_key(
    resolver: &dyn Resolver,
    domain: &DomainName,
    key: &KeyFacts,
) -> (Finding, Sight) {
    let selector = &key.selector;
    if key.life.state == KeyState::Withdrawn {
        let finding = dkim::check_withdrawn(resolver, selector, domain).await;
        return (finding, Sight::NotLooked);
    }
    let finding = dkim::check(resolver, selector, domain, &key.public).await;
    let ask_servers = match key.life.state {
        KeyState::Generated | KeyState::Published | KeyState::Visible | KeyState::Loaded => true,
        KeyState::Active | KeyState::Retiring => fails(finding.state),
        KeyState::Withdrawn => false,
    };
    if !ask_servers {
        return (finding, Sight::NotLooked);
    }
    let sight = dkim::sight(resolver, selector, domain, &key.public).await;
    (dkim::corrected(finding, &sight, &key.public), sight)
}

async fn look_at_spf(
    resolver: &dyn Resolver,
    observation: &Observation,
    return_path: &DomainName,
) -> Option<Finding> {
    let pool = observation.pool_for_spf()?;
    let expected = spf::Expectation {
        return_path,
        egress: &pool.egress,
        helo: &return_path::pool_host(&pool.hostname),
    };
    let finding = spf::check(resolver, expected).await;
    let question = Question {
        names: vec![return_path.to_string()],
        kind: RecordType::TXT,
        mark: "v=spf1",
    };
    Some(confirmed(resolver, finding, &question).await)
}

async fn look_at_dmarc(
    resolver: &dyn Resolver,
    spec: &SendingDomainSpec,
    return_path: &DomainName,
) -> Option<Finding> {
    if spec.verification.dmarc == Requirement::Off {
        return None;
    }
    let expected = dmarc::Expectation {
        domain: &spec.domain,
        return_path,
        minimum: spec.verification.minimum_dmarc_policy,
    };
    let finding = dmarc::check(resolver, expected).await;
    let labels: Vec<&str> = spec.domain.labels().collect();
    let above = (0..labels.len().saturating_sub(1)).take(MAX_ABOVE);
    let parents = above.filter_map(|first| labels.get(first..));
    let question = Question {
        names: parents
            .map(|labels| format!("_dmarc.{}", labels.join(".")))
            .collect(),
        kind: RecordType::TXT,
        mark: "v=DMARC1",
    };
    Some(confirmed(resolver, finding, &question).await)
}

async fn look_at_return_path(
    resolver: &dyn Resolver,
    observation: &Observation,
    return_path: &DomainName,
) -> Option<Finding> {
    let pool = observation.pool.as_ref()?;
    let finding = return_path::check(resolver, return_path, &pool.hostname).await;
    let question = Question {
        names: vec![return_path.to_string()],
        kind: RecordType::MX,
        mark: "",
    };
    Some(confirmed(resolver, finding, &question).await)
}
