//! SendingDomains as they are cached: thousands of them, of whose statuses, the largest part by far,
//! hardly anything is read but when a domain itself is reconciled.
//!
//! Promises: [`KeptDomain::whole`] is what the watch told, without what nobody reads.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    runtime::{reflector::store::Writer, watcher::Event},
};
use postrider_crds::{
    PublishedStatus, SendingDomain, SendingDomainStatus, condition::types, relay_config::Admission,
};

use super::{
    Change, Index,
    cache::{Cache, Keeps},
    packed::Packed,
};

/// A SendingDomain as it is cached.
#[derive(Clone, Debug)]
pub struct KeptDomain {
    /// The object. Its status has no more than others than the domain go by: what relays do with its
    /// mail and, if they do not send it, why; which pools it has left; and where its records have been
    /// published.
    pub object: Arc<SendingDomain>,
    status: Option<Packed<SendingDomainStatus>>,
}

impl KeptDomain {
    /// The object with all of its status.
    #[must_use]
    pub fn whole(&self) -> SendingDomain {
        let mut domain = self.object.as_ref().clone();
        domain.status = self.status.as_ref().map(Packed::unpack);
        domain
    }
}

impl From<SendingDomain> for KeptDomain {
    fn from(mut domain: SendingDomain) -> Self {
        let status = domain.status.take();
        let named = &domain.spec.pool_ref.name;
        domain.status = status.as_ref().map(|status| read_by_others(status, named));
        Self {
            object: Arc::new(domain),
            status: status.as_ref().map(Packed::pack),
        }
    }
}

/// Of `status`, that of a domain that names the pool `named`, what pools and indexes go by.
fn read_by_others(status: &SendingDomainStatus, named: &str) -> SendingDomainStatus {
    let told = status.admission != Some(Admission::Send);
    let conditions = status.conditions.iter();
    let published = status.published.as_ref();
    SendingDomainStatus {
        admission: status.admission,
        conditions: conditions
            .filter(|condition| told && condition.type_ == types::READY)
            .cloned()
            .collect(),
        pools: status
            .pools
            .iter()
            .filter(|p| p.name != named)
            .cloned()
            .collect(),
        published: published.map(|published| PublishedStatus {
            records: Vec::new(),
            ..published.clone()
        }),
        ..SendingDomainStatus::default()
    }
}

/// It is a SendingDomain wherever it is asked what it is.
impl Resource for KeptDomain {
    type DynamicType = ();
    type Scope = <SendingDomain as Resource>::Scope;

    fn kind(of: &()) -> Cow<'_, str> {
        SendingDomain::kind(of)
    }

    fn group(of: &()) -> Cow<'_, str> {
        SendingDomain::group(of)
    }

    fn version(of: &()) -> Cow<'_, str> {
        SendingDomain::version(of)
    }

    fn plural(of: &()) -> Cow<'_, str> {
        SendingDomain::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.object.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        Arc::make_mut(&mut self.object).meta_mut()
    }
}

/// The writing end of the cache of SendingDomains.
pub(super) struct DomainCache(Cache<KeptDomain>);

impl DomainCache {
    pub(super) fn new(writer: Writer<KeptDomain>, index: &Index<KeptDomain>) -> Self {
        Self(Cache::indexed(writer, index))
    }
}

impl Keeps<SendingDomain> for DomainCache {
    fn before(&self, event: &Event<SendingDomain>) -> Option<Arc<SendingDomain>> {
        match event {
            Event::Apply(domain) => self.0.kept(domain.meta()).map(|kept| kept.object.clone()),
            Event::Init | Event::InitApply(_) | Event::InitDone | Event::Delete(_) => None,
        }
    }

    fn apply(&mut self, event: &Event<SendingDomain>) -> Change {
        let kept = |domain: &SendingDomain| KeptDomain::from(domain.clone());
        self.0.apply(&match event {
            Event::Init => Event::Init,
            Event::InitApply(domain) => Event::InitApply(kept(domain)),
            Event::InitDone => Event::InitDone,
            Event::Apply(domain) => Event::Apply(kept(domain)),
            Event::Delete(domain) => Event::Delete(kept(domain)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stores::{Stores, Term, get};

    /// A SendingDomain with everything a status may have.
    fn domain(admission: &str) -> SendingDomain {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "R", "message": "\"m\" \u{e9}",
                "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let key = |state: &str| {
            json!({"selector": "pr-1", "algorithm": "Ed25519", "secret": "s", "state": state,
                "since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"})
        };
        let rfc2136 = json!({"server": "192.0.2.53", "zone": "a.example",
            "tsigSecretRef": {"name": "dns"}});
        let object = json!({
            "apiVersion": "postrider.dev/v1alpha1", "kind": "SendingDomain",
            "metadata": {"name": "a", "namespace": "mail", "uid": "u", "resourceVersion": "7"},
            "spec": {"domain": "a.example", "poolRef": {"name": "p"}},
            "status": {
                "observedGeneration": 2, "admission": admission,
                "conditions": [condition("Ready", "False"), condition("SPFVerified", "True")],
                "records": [
                    {"type": "TXT", "name": "a.example", "wanted": "w", "seen": "w",
                     "state": "Verified", "purpose": "SPF", "message": "m"},
                    {"type": "MX", "name": "b.a.example", "wanted": "10 mx.example",
                     "state": "Missing", "purpose": "ReturnPath"},
                ],
                "dkim": {"active": [key("Active")], "pending": [key("Loaded")],
                    "retiring": [key("Retiring")], "nextRotation": "2026-03-01T00:00:00Z",
                    "trigger": "t"},
                "pools": [{"name": "left", "leftAt": "2026-01-01T00:00:00Z"}, {"name": "p"}],
                "published": {"rfc2136": rfc2136, "records":
                    [{"type": "TXT", "name": "a.example", "value": "v"}]},
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_kept_domain_is_whole_again() {
        let mut without_status = domain("Send");
        without_status.status = None;
        for domain in [domain("Send"), domain("Hold"), without_status] {
            assert_eq!(KeptDomain::from(domain.clone()).whole(), domain);
        }
    }

    #[test]
    fn others_see_what_they_go_by_and_no_more() {
        let seen = |admission| {
            let kept = KeptDomain::from(domain(admission));
            kept.object.status.clone().unwrap()
        };
        let held = seen("Hold");
        assert_eq!(held.conditions.len(), 1, "why mail is held");
        assert_eq!(held.conditions[0].type_, "Ready");
        let sent = seen("Send");
        assert_eq!(sent.admission, Some(Admission::Send));
        assert!(sent.conditions.is_empty() && sent.records.is_empty());
        let pools: Vec<&str> = sent.pools.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(pools, ["left"], "the other is in the spec");
        let published = sent.published.unwrap();
        assert!(published.rfc2136.is_some() && published.records.is_empty());
    }

    #[test]
    fn what_is_cached_is_found_by_its_status_and_is_whole() {
        let (stores, writers) = Stores::new();
        let mut cache = DomainCache::new(writers.domains, &stores.domains_by);
        cache.apply(&Event::Init);
        cache.apply(&Event::InitApply(domain("Hold")));
        cache.apply(&Event::InitDone);
        let whole = |name: &str| get(&stores.domains, "mail", name).map(|kept| kept.whole());
        assert_eq!(whole("a"), Some(domain("Hold")));
        let by_secret = Term::Tsig("dns".into());
        assert_eq!(stores.domains_with("mail", &by_secret).count(), 1);
        assert_eq!(cache.apply(&Event::Apply(domain("Send"))), Change::Any);
        assert_eq!(whole("a"), Some(domain("Send")));
        cache.apply(&Event::Delete(domain("Send")));
        assert_eq!(whole("a"), None);
    }
}
