//! What there is to know about one SendingDomain: itself, its pool, its keys, its senders, and what
//! DNS says.
//!
//! [`Observation`] is plain data, so that a plan can be made from a test table or, without a
//! cluster, from a manifest. [`gather`] fills it from the caches, [`look`] asks DNS.

use std::collections::{BTreeMap, BTreeSet};

use futures::future;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{
    DomainName, Duration, EgressRange, RecordType, RelayPool, Requirement, Selector, SendingDomain,
    SendingDomainSpec, SendingDomainStatus, relay_config::KeyAlgorithm,
};

use super::{
    answers::{self, Answers},
    closing::Wait,
    plan::fails,
};
use crate::{
    Context, Error,
    conditions::Fact,
    dns::{
        Finding, PolicyHosts, Resolver, Sight,
        confirm::{Question, confirmed},
        dkim,
        dkim::PublicKey,
        dmarc, return_path, spf,
    },
    keys::{self, KeyState, Life},
    relay_pool::{
        credentials::{self, SenderProblem, senders},
        domains,
        loaded::{PoolKey, Reach},
        reverse,
    },
    stores::{
        self, Stores, Term,
        keys::{KeptKey, UsableKey},
    },
};

/// Names at which a DMARC policy may be, from the domain's own upwards, that name servers are asked
/// about.
const MAX_ABOVE: usize = 4;

/// All that a plan is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The spec.
    pub spec: SendingDomainSpec,
    /// The status as it is stored.
    pub previous: SendingDomainStatus,
    /// The pool, if it exists.
    pub pool: Option<PoolFacts>,
    /// Name of an older SendingDomain of the same domain and pool.
    pub rival: Option<String>,
    /// The domain's keys.
    pub keys: Vec<KeyFacts>,
    /// Key Secrets that cannot be used.
    pub unusable_keys: Vec<UnusableKey>,
    /// Senders who cannot log in, in the order of the spec.
    pub sender_problems: Vec<SenderProblem>,
    /// How far the pool's relays are with the domain.
    pub reach: Reach,
    /// What the pool has found of the names of its addresses; `None`: nothing yet.
    pub reverse: Option<Fact>,
    /// What DNS says about everything but keys.
    pub findings: Findings,
    /// What DNS says where the records of keys are, if the domain's names are aliases.
    pub delegated: BTreeMap<Selector, Finding>,
    /// Version of the Secret that updates of DNS are signed with; `None`: there is none.
    pub tsig: Option<String>,
    /// What its deletion waits for; `None`: it is not being deleted.
    pub closing: Option<Wait>,
    /// Seconds between a key's record on every name server and the key's use, at least.
    pub floor: u32,
    /// Seconds after which the resolver's word is taken for a key's record where no name server can be
    /// reached; `None`: never.
    pub trust_resolver_after: Option<u32>,
}

/// A key Secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableKey {
    /// Its name.
    pub secret: String,
    /// What is wrong with it, in a sentence that names it.
    pub problem: String,
}

/// What a domain needs to know of its pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolFacts {
    /// `spec.hostname`.
    pub hostname: String,
    /// `spec.egress.addresses`.
    pub egress: Vec<EgressRange>,
    /// `spec.delivery.expireAfter`: how long mail may wait.
    pub expire_after: Duration,
}

/// A key and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The Secret that keeps it.
    pub secret: String,
    /// Its selector.
    pub selector: Selector,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// How far it is.
    pub life: Life,
    /// The Secret as it was read: `metadata.uid` and `metadata.resourceVersion`.
    pub read: Read,
    /// Its public half.
    pub public: PublicKey,
    /// Whether every pod of the pool has it.
    pub loaded: bool,
    /// Whether no pod of the pool has it any more.
    pub released: bool,
    /// Pods that have not reported the keyring with it, some of them when there are many.
    pub lagging: Vec<String>,
    /// What DNS says about its record; `None`: not looked yet.
    pub finding: Option<Finding>,
    /// What the name servers say about its record.
    pub sight: Sight,
}

/// Which version of an object was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
}

/// What DNS says; `None`: not looked, because it is not asked for or what is needed is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// SPF of the return path.
    pub spf: Option<Finding>,
    /// The DMARC policy.
    pub dmarc: Option<Finding>,
    /// The MX of the return path.
    pub return_path: Option<Finding>,
    /// The domains that answers go to.
    pub answers: Answers,
}

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
    /// What a manifest alone tells of `domain`, whose pool is `pool`: no keys, no status.
    #[must_use]
    pub fn of_manifest(domain: &SendingDomain, pool: Option<&RelayPool>) -> Self {
        Self {
            name: domain.name_any(),
            uid: domain.uid().unwrap_or_default(),
            generation: domain.metadata.generation.unwrap_or_default(),
            spec: domain.spec.clone(),
            previous: SendingDomainStatus::default(),
            pool: pool.map(pool_facts),
            rival: None,
            keys: Vec::new(),
            unusable_keys: Vec::new(),
            sender_problems: Vec::new(),
            reach: Reach::default(),
            reverse: pool.and_then(reverse::stated),
            findings: Findings::default(),
            delegated: BTreeMap::new(),
            tsig: None,
            closing: None,
            floor: 0,
            trust_resolver_after: None,
        }
    }

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

    /// True when a person has changed the spec since the stored status was written.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        let observed = self.previous.observed_generation;
        observed.is_some_and(|observed| observed >= 0 && observed != self.generation)
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

/// Everything but DNS, from the caches of `ctx`.
///
/// # Errors
///
/// When the object lacks what every stored object has.
pub fn gather(domain: &SendingDomain, ctx: &Context) -> Result<Observation, Error> {
    let incomplete = |field| Error::Incomplete {
        object: format!("SendingDomain {}", domain.name_any()),
        field,
    };
    let uid = domain.uid().ok_or_else(|| incomplete("metadata.uid"))?;
    let namespace = domain
        .namespace()
        .ok_or_else(|| incomplete("metadata.namespace"))?;
    let pool_name = &domain.spec.pool_ref.name;
    let pool = stores::get(&ctx.stores.pools, &namespace, pool_name);
    let claim = Term::Domain(domain.spec.domain.clone());
    let claims: Vec<_> = ctx.stores.domains_with(&namespace, &claim).collect();
    let rival = domains::rival(domain, &claims).map(|rival| rival.name_any());
    let sender_problems = match rival {
        Some(_) => Vec::new(),
        None => sender_problems(domain, &namespace, &ctx.stores),
    };
    let pool_key = PoolKey {
        namespace: namespace.clone(),
        name: pool_name.clone(),
    };
    let generation = domain.metadata.generation.unwrap_or_default();
    let reach = ctx
        .loaded
        .reach(&pool_key, &domain.spec.domain, &uid, generation);
    let (keys, unusable_keys) = own_keys(domain, &namespace, &uid, ctx, &pool_key);
    Ok(Observation {
        name: domain.name_any(),
        uid,
        generation,
        spec: domain.spec.clone(),
        previous: domain.status.clone().unwrap_or_default(),
        reverse: pool.as_deref().and_then(reverse::stated),
        pool: pool.map(|pool| pool_facts(&pool)),
        rival,
        keys,
        unusable_keys,
        sender_problems,
        reach,
        findings: Findings::default(),
        delegated: BTreeMap::new(),
        tsig: tsig(domain, &namespace, &ctx.stores),
        closing: None,
        floor: seconds(ctx.settings.dns.propagation_minimum),
        trust_resolver_after: ctx.settings.dns.trust_resolver_after.map(seconds),
    })
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The version of the Secret that `spec.publish.rfc2136` names.
fn tsig(domain: &SendingDomain, namespace: &str, stores: &Stores) -> Option<String> {
    let publish = domain.spec.publish.as_ref()?;
    let name = &publish.rfc2136.as_ref()?.tsig_secret_ref.name;
    let secret = stores::get(&stores.secrets, namespace, name)?;
    secret.resource_version()
}

/// What is wrong with the senders of `domain`, which its pool serves.
fn sender_problems(domain: &SendingDomain, namespace: &str, stores: &Stores) -> Vec<SenderProblem> {
    let secret = |name: &str| stores::get(&stores.secrets, namespace, name);
    let own = domain.spec.senders.iter();
    let own: Vec<&str> = own.map(|s| s.secret_ref.name.as_str()).collect();
    let likes: BTreeSet<String> = own
        .iter()
        .filter_map(|name| credentials::username(secret(name)?.as_ref()))
        .flat_map(|username| {
            let term = Term::Username(username);
            stores.secrets_by.find(namespace, &term)
        })
        .map(|secret| secret.name_any())
        .filter(|name| serves_sender(&domain.spec.pool_ref.name, name, namespace, stores))
        .collect();
    let mut names: BTreeSet<&str> = likes.iter().map(String::as_str).collect();
    names.extend(&own);
    let problems = senders(names, secret).problems;
    own.iter()
        .filter_map(|name| problems.get(*name).cloned())
        .collect()
}

/// True when `pool` serves a domain that names `sender`.
fn serves_sender(pool: &str, sender: &str, namespace: &str, stores: &Stores) -> bool {
    let naming = Term::Sender(sender.to_owned());
    // One user may send as each of thousands of domains; any of them will do.
    stores.domains_with(namespace, &naming).any(|domain| {
        let claim = Term::Domain(domain.spec.domain.clone());
        let claims = || stores.domains_with(namespace, &claim).collect::<Vec<_>>();
        domain.spec.pool_ref.name == pool && domains::rival(&domain, &claims()).is_none()
    })
}

fn pool_facts(pool: &RelayPool) -> PoolFacts {
    PoolFacts {
        hostname: pool.spec.hostname.clone(),
        egress: pool.spec.egress.addresses.clone(),
        expire_after: pool.spec.delivery.expire_after,
    }
}

/// Keys this very object owns, by algorithm and selector, and what is wrong with the Secrets that hold none. A
/// Secret of a deleted SendingDomain of the same name has another owner and is none of ours.
fn own_keys(
    domain: &SendingDomain,
    namespace: &str,
    uid: &str,
    ctx: &Context,
    pool: &PoolKey,
) -> (Vec<KeyFacts>, Vec<UnusableKey>) {
    let owned = ctx.stores.keys.owned(namespace, &domain.name_any(), uid);
    let (mut keys, mut unusable) = (Vec::new(), Vec::new());
    for kept in owned {
        match &kept.key {
            Ok(usable) => {
                let mut key = key_facts(&kept, usable);
                let selector = &key.selector;
                let domain = &domain.spec.domain;
                key.loaded = ctx
                    .loaded
                    .selector_loaded_everywhere(pool, domain, selector);
                key.released = ctx
                    .loaded
                    .selector_released_everywhere(pool, domain, selector);
                key.lagging = ctx.loaded.lagging(pool, domain);
                keys.push(key);
            }
            Err(problem) => unusable.push(UnusableKey {
                secret: kept.secret.to_string(),
                problem: problem.clone(),
            }),
        }
    }
    keys.sort_by(|a, b| (a.algorithm, &a.selector).cmp(&(b.algorithm, &b.selector)));
    unusable.sort_by(|a, b| a.secret.cmp(&b.secret));
    (keys, unusable)
}

/// True when `secret` keeps, by its label and owner, a key of `domain` and is there to stay.
pub(super) fn owns(domain: &SendingDomain, uid: &str, secret: &Secret) -> bool {
    secret.labels().get(keys::DOMAIN_LABEL) == Some(&domain.name_any())
        && secret
            .owner_references()
            .iter()
            .any(|owner| owner.uid == uid)
        && secret.metadata.deletion_timestamp.is_none()
}

fn key_facts(kept: &KeptKey, usable: &UsableKey) -> KeyFacts {
    let key = &usable.key;
    KeyFacts {
        secret: key.secret.clone(),
        selector: key.selector.clone(),
        algorithm: key.algorithm,
        life: key.life.clone(),
        read: Read {
            uid: kept.uid.to_string(),
            version: kept.version.to_string(),
        },
        public: usable.public.clone(),
        loaded: false,
        released: false,
        lagging: Vec::new(),
        finding: None,
        sight: Sight::NotLooked,
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
    let pool = observation
        .pool
        .as_ref()
        .filter(|pool| !pool.egress.is_empty())?;
    if observation.spec.verification.spf == Requirement::Off {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn domain(name: &str, domain: &str, pool: &str, sender: &str) -> SendingDomain {
        serde_json::from_value(json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": name, "namespace": "mail"},
            "spec": {"domain": domain, "poolRef": {"name": pool},
                     "senders": [{"secretRef": {"name": sender}}]},
        }))
        .unwrap()
    }

    fn login(name: &str, created: &str, username: &str) -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "mail", "creationTimestamp": created},
            "data": {"username": username, "password": "cGFzc3dvcmQ="},
        }))
        .unwrap()
    }

    /// "same" and "else", as Secrets hold them.
    const SAME: &str = "c2FtZQ==";
    const ELSE: &str = "ZWxzZQ==";

    /// What each domain is told of its senders is what the pool, which looks at all, comes to.
    #[test]
    fn a_domain_and_its_pool_agree_on_senders() {
        let domains = [
            domain("a", "a.example", "one", "young"),
            domain("b", "b.example", "one", "old"),
            domain("c", "c.example", "one", "other"),
            domain("d", "d.example", "one", "missing"),
            domain("e", "e.example", "two", "oldest"),
            domain("f", "f.example", "two", "young"),
            // Its rival "a" has the domain, so what it names does not count.
            domain("z", "a.example", "one", "oldest"),
        ];
        let secrets = [
            login("young", "2026-03-01T00:00:00Z", SAME),
            login("old", "2026-02-01T00:00:00Z", SAME),
            login("oldest", "2026-01-01T00:00:00Z", SAME),
            login("other", "2026-01-01T00:00:00Z", ELSE),
        ];
        let stores = Stores::holding(&domains, &secrets);
        let all: Vec<_> = domains.iter().cloned().map(Arc::new).collect();
        let mut conflicts = 0;
        for domain in &domains[..6] {
            let served = domains::served(&domain.spec.pool_ref.name, &all);
            let secret = |name: &str| stores::get(&stores.secrets, "mail", name);
            let pool = senders(credentials::named(&served), secret);
            let own = &domain.spec.senders[0].secret_ref.name;
            let expected: Vec<_> = pool.problems.get(own).cloned().into_iter().collect();
            let told = sender_problems(domain, "mail", &stores);
            assert_eq!(told, expected, "{}", domain.name_any());
            conflicts += told.len();
        }
        assert_eq!(conflicts, 3, "young in both pools, and the missing one");
    }
}
