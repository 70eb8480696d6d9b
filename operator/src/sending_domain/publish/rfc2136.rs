//! Records put into a zone by updates (RFC 2136), and taken out again.
//!
//! Flow: for each record ask the server what it has, decide ([`update`]), update, ask again. What
//! is to be put there is noted in the status before the first update, so that whatever happens in
//! between is found and taken out when the SendingDomain goes.
//!
//! Guarantees: nothing of others is touched; repeating it does no harm.

use std::net::{IpAddr, SocketAddr};

use kube::ResourceExt as _;
use postrider_crds::{PublishedRecord, Rfc2136, SendingDomain, condition::reasons};

use super::{
    server::{Key, Server, ServerError, Updated},
    update::{self, Step},
};
use crate::{Context, dns::Answer, stores};

/// Port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Longest time a record may be cached, in seconds (RFC 2181 §8).
const MAX_TTL: u32 = i32::MAX.unsigned_abs();

/// Why records are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One of [`reasons`].
    pub(super) reason: &'static str,
    /// For a person.
    pub(super) message: String,
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Self {
        let reason = match &error {
            ServerError::Unreachable { .. } | ServerError::BadAnswer { .. } => {
                reasons::PUBLISHER_UNREACHABLE
            }
            ServerError::Key { .. } | ServerError::Refused { .. } | ServerError::Name { .. } => {
                reasons::PUBLISHER_REFUSED
            }
        };
        Self {
            reason,
            message: error.to_string(),
        }
    }
}

/// The server of `settings` with its key.
pub(super) async fn open(
    domain: &SendingDomain,
    settings: &Rfc2136,
    ctx: &Context,
) -> Result<Server, Trouble> {
    let namespace = domain.namespace().unwrap_or_default();
    let name = &settings.tsig_secret_ref.name;
    let secret = stores::get(&ctx.stores.secrets, &namespace, name).ok_or_else(|| Trouble {
        reason: reasons::REFERENCE_NOT_FOUND,
        message: format!("Secret {name} of spec.publish.rfc2136.tsigSecretRef does not exist; create it with the keys name and secret"),
    })?;
    let key = Key::from_secret(&secret).map_err(|message| Trouble {
        reason: reasons::REFERENCE_INVALID,
        message,
    })?;
    let zone = update::name(settings.zone.as_str());
    Ok(Server {
        address: address(&settings.server, ctx).await?,
        label: settings.server.clone(),
        zone: zone.ok_or_else(|| unusable(&settings.server))?,
        key,
        owner: domain.uid().unwrap_or_default(),
        ttl: u32::try_from(settings.ttl.as_secs()).map_or(MAX_TTL, |ttl| ttl.min(MAX_TTL)),
    })
}

/// The address of `server`, which is an address or a host name, with or without port.
async fn address(server: &str, ctx: &Context) -> Result<SocketAddr, Trouble> {
    if let Ok(address) = server.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| unusable(server))?),
        None => (server, DNS_PORT),
    };
    let host = host.trim_end_matches('.');
    let found = match ctx.resolver.ipv4(host).await {
        Answer::NoData => ctx.resolver.ipv6(host).await,
        answer => answer,
    };
    match found {
        Answer::Found { records, .. } => records
            .first()
            .map(|ip| SocketAddr::new(*ip, port))
            .ok_or_else(|| unusable(server)),
        Answer::NoData | Answer::NxDomain => Err(unusable(server)),
        Answer::Unavailable(failure) => Err(Trouble {
            reason: reasons::DNS_UNAVAILABLE,
            message: format!("the lookup of the name server {host} failed: {failure}"),
        }),
    }
}

fn unusable(server: &str) -> Trouble {
    Trouble {
        reason: reasons::PUBLISHER_UNREACHABLE,
        message: format!(
            "the name server {server:?} of spec.publish.rfc2136.server has no address; correct it"
        ),
    }
}

/// What came of putting records in.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// What is in the way of a record, each with the record.
    pub(super) conflicts: Vec<String>,
    /// What went wrong with the server.
    pub(super) trouble: Option<Trouble>,
}

/// Puts `wanted` into the zone and takes `unwanted` out.
pub(super) async fn put(
    server: &Server,
    wanted: &[PublishedRecord],
    unwanted: &[PublishedRecord],
    ctx: &Context,
) -> Put {
    let mut put = Put::default();
    if let Err(trouble) = take_out(server, unwanted, ctx).await {
        put.trouble = Some(trouble);
        return put;
    }
    for record in wanted {
        match put_one(server, record, ctx).await {
            Ok(None) => {}
            Ok(Some(conflict)) => {
                put.conflicts
                    .push(format!("{:?} {}: {conflict}", record.r#type, record.name));
            }
            Err(trouble) => {
                put.trouble = Some(trouble);
                return put;
            }
        }
    }
    put
}

/// Puts one record in and sees that it is there; a sentence on what is in the way, if so.
async fn put_one(
    server: &Server,
    record: &PublishedRecord,
    ctx: &Context,
) -> Result<Option<String>, Trouble> {
    let seen = server.seen(record, ctx.now()).await?;
    let step = update::publish(record, &server.owner, &seen);
    if let Step::Conflict(why) = step {
        return Ok(Some(why));
    }
    if step == Step::Nothing {
        return Ok(None);
    }
    if server.take(record, &step, ctx.now()).await? == Updated::Overtaken {
        return Ok(Some(
            "somebody changed it at the same time; it is tried again".to_owned(),
        ));
    }
    // An update may be dropped in silence (RFC 2136 §3.4.2.2, where there is an alias).
    let seen = server.seen(record, ctx.now()).await?;
    let there = seen.values.contains(&record.value);
    Ok((!there).then(|| {
        "the server took the update and does not have the record; look into its log".to_owned()
    }))
}

/// Takes those of `records` that are ours out of the zone.
pub(super) async fn take_out(
    server: &Server,
    records: &[PublishedRecord],
    ctx: &Context,
) -> Result<(), Trouble> {
    for record in records {
        let seen = server.seen(record, ctx.now()).await?;
        let step = update::withdraw(&server.owner, &seen);
        if server.take(record, &step, ctx.now()).await? == Updated::Overtaken {
            return Err(Trouble {
                reason: reasons::RECORD_CONFLICT,
                message: format!(
                    "{:?} {} was changed at the same time; it is tried again",
                    record.r#type, record.name
                ),
            });
        }
        let left = update::withdraw(&server.owner, &server.seen(record, ctx.now()).await?);
        if left != Step::Nothing {
            return Err(Trouble {
                reason: reasons::PUBLISHER_REFUSED,
                message: format!(
                    "the name server {} took the update and still has {:?} {}; look into its log",
                    server.label, record.r#type, record.name
                ),
            });
        }
    }
    Ok(())
}
