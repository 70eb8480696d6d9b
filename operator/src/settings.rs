//! The command line: every way to set up an operator process.
//!
//! Promises: a flag exists only when it works; a bad value is refused by name before anything is
//! opened.

use std::net::SocketAddr;

use clap::{Args, Parser, ValueEnum};

use crate::dns::authority::{AuthoritySettings, DNS_PORT, ZoneServer};

/// Arguments of `postrider-operator`.
#[derive(Clone, Debug, Parser)]
#[command(name = "postrider-operator", version, about = "The Postrider operator")]
pub struct Settings {
    /// Namespace to watch; may be given several times. None: all namespaces.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// Image of the relay pods.
    #[arg(long, value_name = "IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub relay_image: String,
    /// Secret, in the namespace of each RelayPool, with which its pods pull their image; may be given
    /// several times.
    #[arg(long = "relay-image-pull-secret", value_name = "NAME", value_parser = object_name)]
    pub relay_image_pull_secrets: Vec<String>,
    /// DNS server, as ADDRESS:PORT, that domains are verified through and relays deliver by; may
    /// be given several times. None: those of /etc/resolv.conf.
    #[arg(long = "resolver", value_name = "ADDRESS:PORT")]
    pub resolvers: Vec<SocketAddr>,
    /// How the name servers of zones are asked.
    #[command(flatten)]
    pub dns: DnsSettings,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9090")]
    pub metrics_address: SocketAddr,
    /// How this process proves to be the only one at work.
    #[command(flatten)]
    pub election: ElectionSettings,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How the name servers of zones are asked.
#[derive(Clone, Debug, Args)]
pub struct DnsSettings {
    /// Port of the name servers that zones name.
    #[arg(long, value_name = "PORT", default_value_t = DNS_PORT)]
    pub authority_port: u16,
    /// Name server to ask about a zone and all below in place of those the zone names, as
    /// ZONE=ADDRESS:PORT: where those the world asks cannot be reached from here. May be given several
    /// times, also for one zone.
    #[arg(long = "authority", value_name = "ZONE=ADDRESS:PORT")]
    pub authorities: Vec<ZoneServer>,
    /// Shortest time between a DKIM record on every name server and the use of its key; longer where
    /// a TTL asks for it.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub propagation_minimum: postrider_crds::Duration,
    /// Where none of a zone's name servers can be reached, take the resolver's word for a DKIM record
    /// once it has had it for this long, and for as long as any cache may have something else. A
    /// server that is behind the others may go unnoticed. Absent: wait for the name servers.
    #[arg(long, value_name = "DURATION", value_parser = longer_than_nothing)]
    pub trust_resolver_after: Option<postrider_crds::Duration>,
}

fn longer_than_nothing(value: &str) -> Result<postrider_crds::Duration, String> {
    let duration: postrider_crds::Duration = value.parse().map_err(|error| format!("{error}"))?;
    match duration.as_secs() {
        0 => Err("must be longer than 0s; leave it out to wait for the name servers".into()),
        _ => Ok(duration),
    }
}

impl DnsSettings {
    /// The same for the resolver.
    #[must_use]
    pub fn authority(&self) -> AuthoritySettings {
        AuthoritySettings {
            port: self.authority_port,
            servers: self.authorities.clone(),
        }
    }
}

/// How this process proves to be the only one at work.
#[derive(Clone, Debug, Args)]
pub struct ElectionSettings {
    /// Wait for a Lease before working, so that several replicas may run.
    #[arg(long, requires = "lease_namespace")]
    pub leader_elect: bool,
    /// Namespace of the Lease.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "postrider-operator")]
    pub lease_name: String,
    /// Who this process is, in the Lease and in events: the pod's name.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "postrider-operator",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub identity: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A namespace name (RFC 1123 label).
fn namespace(value: &str) -> Result<String, String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=63).contains(&value.len())
        && value.chars().all(label)
        && !value.starts_with('-')
        && !value.ends_with('-');
    if good {
        Ok(value.to_owned())
    } else {
        Err("is no namespace name; use at most 63 lower-case letters, digits, hyphens".into())
    }
}

/// A name of an object (RFC 1123 subdomain).
fn object_name(value: &str) -> Result<String, String> {
    let good = value.len() <= 253 && value.split('.').all(|label| namespace(label).is_ok());
    match good {
        true => Ok(value.to_owned()),
        false => Err(
            "is no name of a Secret; use at most 253 lower-case letters, digits, hyphens and dots"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, clap::Error> {
        Settings::try_parse_from([&["postrider-operator"], arguments].concat())
    }

    #[test]
    fn repeated_flags_add_up() {
        let settings = parse(&[
            "--relay-image=relay:1",
            "--watch-namespace=a",
            "--watch-namespace=b",
            "--relay-image-pull-secret=mirror",
            "--relay-image-pull-secret=registry.example",
            "--resolver=10.0.0.10:53",
            "--authority=example.com=10.0.0.53:53",
            "--authority=example.com=[2001:db8::53]:5353",
        ])
        .unwrap();
        assert_eq!(settings.watch_namespaces, ["a", "b"]);
        let secrets = ["mirror", "registry.example"];
        assert_eq!(settings.relay_image_pull_secrets, secrets);
        assert_eq!(settings.resolvers.len(), 1);
        let authority = settings.dns.authority();
        assert_eq!((authority.port, authority.servers.len()), (53, 2));
        assert_eq!(settings.dns.propagation_minimum.as_secs(), 60);
        assert_eq!(settings.dns.trust_resolver_after, None);
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (arguments, part) in [
            (&["--watch-namespace=A_b", "--relay-image=x"][..], "A_b"),
            (&["--relay-image="][..], "relay-image"),
            (
                &["--relay-image=x", "--relay-image-pull-secret=a/b"][..],
                "is no name of a Secret",
            ),
            (
                &["--relay-image=x", "--resolver=10.0.0.10"][..],
                "10.0.0.10",
            ),
            (
                &["--relay-image=x", "--authority=example.com:53"][..],
                "write ZONE=ADDRESS:PORT",
            ),
            (
                &["--relay-image=x", "--authority=example.com=ns1"][..],
                "\"ns1\" is no ADDRESS:PORT",
            ),
            (&["--relay-image=x", "--propagation-minimum=1x"][..], "1x"),
            (
                &["--relay-image=x", "--trust-resolver-after=0s"][..],
                "longer than 0s",
            ),
            (&[][..], "--relay-image"),
        ] {
            let error = parse(arguments).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
