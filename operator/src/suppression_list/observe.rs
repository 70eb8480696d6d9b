//! Reads the world of one list from the caches. Nothing is decided here.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use postrider_crds::{
    RelayPool, SuppressionList, SuppressionSource,
    relay_config::{SUPPRESSION_SHARDS, layout},
};

use crate::{
    Context, names,
    relay_pool::{
        loaded::PoolState,
        observe::{in_namespace, key},
    },
    stores,
};

/// All that a list's plan depends on.
#[derive(Clone)]
pub struct Observation {
    /// Wall time.
    pub now: Timestamp,
    /// The list.
    pub list: Arc<SuppressionList>,
    /// Its sources, in the order of the spec.
    pub sources: Vec<Source>,
    /// Pools that name it, by name.
    pub pools: Vec<PoolView>,
}

/// A source as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Kind, name and key, for people.
    pub title: String,
    /// Its text, or why there is none.
    pub text: Result<String, SourceProblem>,
}

/// Why a source has no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceProblem {
    /// There is no such object.
    Missing,
    /// It has no such key.
    KeyMissing,
    /// It is not UTF-8.
    NotText,
}

/// A pool that names the list.
#[derive(Clone)]
pub struct PoolView {
    /// The pool.
    pub pool: Arc<RelayPool>,
    /// What its Secrets hold of the list now, by shard.
    pub held: BTreeMap<u32, String>,
    /// What its relays report.
    pub state: PoolState,
}

/// Reads the caches for `list`.
#[must_use]
pub fn observe(ctx: &Context, list: Arc<SuppressionList>) -> Observation {
    let (namespace, name) = (list.namespace().unwrap_or_default(), list.name_any());
    let naming = |pool: &RelayPool| {
        let lists = &pool.spec.suppression_lists;
        pool.metadata.deletion_timestamp.is_none() && lists.iter().any(|l| l.name == name)
    };
    let mut pools: Vec<PoolView> = in_namespace(&ctx.stores.pools, &namespace)
        .into_iter()
        .filter(|pool| naming(pool))
        .map(|pool| PoolView {
            held: held(ctx, &pool, &name),
            state: ctx.loaded.state(&key(&pool)),
            pool,
        })
        .collect();
    pools.sort_by_key(|view| view.pool.name_any());
    let sources = list.spec.sources.iter();
    Observation {
        now: ctx.now(),
        sources: sources.filter_map(|s| source(ctx, &namespace, s)).collect(),
        pools,
        list,
    }
}

fn held(ctx: &Context, pool: &RelayPool, list: &str) -> BTreeMap<u32, String> {
    let namespace = pool.namespace().unwrap_or_default();
    let shard = |shard| {
        let secret = names::suppression_secret(&pool.name_any(), shard);
        let secret = stores::get(&ctx.stores.secrets, &namespace, &secret)?;
        let text = value(&secret, &data_key(list, shard)).ok()?;
        Some((shard, text))
    };
    (0..SUPPRESSION_SHARDS).filter_map(shard).collect()
}

/// Key of the list's shard in its Secret: the file's name.
#[must_use]
pub fn data_key(list: &str, shard: u32) -> String {
    let path = layout::suppression(list, shard);
    path.rsplit('/').next().unwrap_or(&path).to_owned()
}

fn source(ctx: &Context, namespace: &str, source: &SuppressionSource) -> Option<Source> {
    if let Some(reference) = &source.config_map_ref {
        let map = stores::get(&ctx.stores.config_maps, namespace, &reference.name);
        let text = map.ok_or(SourceProblem::Missing).and_then(|map| {
            let text = map.data.as_ref().and_then(|data| data.get(&reference.key));
            text.cloned().ok_or(SourceProblem::KeyMissing)
        });
        let title = format!("ConfigMap {} key {}", reference.name, reference.key);
        return Some(Source { title, text });
    }
    let reference = source.secret_ref.as_ref()?;
    let secret = stores::get(&ctx.stores.secrets, namespace, &reference.name);
    let text = secret
        .ok_or(SourceProblem::Missing)
        .and_then(|secret| value(&secret, &reference.key));
    let title = format!("Secret {} key {}", reference.name, reference.key);
    Some(Source { title, text })
}

fn value(secret: &Secret, key: &str) -> Result<String, SourceProblem> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    let bytes = bytes.ok_or(SourceProblem::KeyMissing)?;
    String::from_utf8(bytes.0.clone()).map_err(|_| SourceProblem::NotText)
}
