//! Our own relay: the program that was built beside the benchmark.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use postrider_crds::{
    DomainName,
    relay_config::{
        Admission, Credential, Credentials, DOCUMENT_VERSION, Delivery, Document as _, DomainEntry,
        Intake, KeyAlgorithm, Keyring, Limits, Listeners, PoolName, RelayConfig, Retry, Sender,
        SigningKey, SigningState, TlsMode, TrustedClient, layout,
    },
    scram::ScramVerifier,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{Contender, Dkim, Launch};
use crate::{
    error::{Error, OnPath as _, OnSocket as _},
    load::{Login, tls_trusting},
    world::{FROM, PORT, World},
};

const HOSTNAME: &str = "relay.bench.example";
const USER: &str = "bench";
const PASSWORD: &str = "bench-password";
/// Port of its metrics.
const METRICS: u16 = 9090;
/// How long an endpoint may take.
const ENDPOINT: Duration = Duration::from_secs(30);
/// Connections to one site: what Postfix takes too (`default_destination_concurrency_limit`).
const CONNECTIONS: u32 = 20;

/// Where the program is, and what it is.
#[derive(Debug, Clone)]
pub struct Build {
    /// The program.
    pub program: PathBuf,
    /// How it was compiled, for the report.
    pub profile: String,
}

/// Our relay.
#[derive(Debug)]
pub struct Postrider {
    build: Build,
    authority: CertifiedIssuer<'static, KeyPair>,
    login: Login,
    retry: &'static str,
}

impl Postrider {
    /// The relay of `build`.
    ///
    /// # Errors
    /// When it does not exist, or no certificate can be made.
    pub fn new(build: Build) -> Result<Self, Error> {
        if !build.program.exists() {
            return Err(Error::Usage {
                field: "--relay",
                value: build.program.display().to_string(),
                remedy: "there is no such file; build postrider-relay first".to_owned(),
            });
        }
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let tls = tls_trusting(&authority.pem()).at(|| "the relay's certificate".to_owned())?;
        let login = Login {
            server: HOSTNAME.to_owned(),
            tls,
            user: USER.to_owned(),
            password: PASSWORD.to_owned(),
        };
        Ok(Self {
            build,
            authority,
            login,
            retry: "1m",
        })
    }

    /// The same, which tries deferred mail again only after hours.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.retry = "6h";
        self
    }

    /// The sum of the series whose name, with its labels, begins with `name`.
    ///
    /// # Errors
    /// When the endpoint does not answer.
    pub fn metric(&self, world: &World, name: &str) -> Result<f64, Error> {
        let text = get(SocketAddr::new(self.address(world), METRICS), "/metrics")?;
        Ok(sum(&text, name))
    }

    fn address(&self, world: &World) -> std::net::IpAddr {
        world.address(1)
    }

    fn configuration(&self, world: &World) -> Result<RelayConfig, Error> {
        Ok(RelayConfig {
            version: DOCUMENT_VERSION,
            pool: PoolName {
                namespace: "bench".into(),
                name: "default".into(),
            },
            hostname: HOSTNAME.into(),
            listeners: Listeners {
                submission: Some(PORT),
                submissions: None,
            },
            limits: Limits {
                message_bytes: 52_428_800,
                recipients: 100,
                sessions: 500,
            },
            delivery: Delivery {
                retry: Retry {
                    initial: duration(self.retry)?,
                    maximum: duration("12h")?,
                },
                expire_after: duration("5d")?,
                delay_warning_after: duration("2d")?,
                tls: TlsMode::Opportunistic,
                port: PORT,
                connections_per_site: CONNECTIONS,
            },
            resolvers: vec![world.name_server()],
            trusted_clients: vec![TrustedClient {
                address: Ipv4Addr::LOCALHOST.into(),
                username: USER.into(),
            }],
        })
    }

    /// Writes every document of the configuration directory.
    fn write_documents(&self, world: &World, dir: &Path, dkim: Dkim) -> Result<(), Error> {
        let config = self.configuration(world)?;
        let keyring = Keyring {
            version: DOCUMENT_VERSION,
            domains: vec![domain(dkim)?],
        };
        let credentials = Credentials {
            version: DOCUMENT_VERSION,
            credentials: vec![Credential {
                username: USER.into(),
                tenant: "bench/bench".into(),
                verifier: ScramVerifier::derive(PASSWORD.as_bytes(), USER.as_bytes()),
            }],
        };
        let key = KeyPair::generate()?;
        let params = CertificateParams::new([HOSTNAME.to_owned()])?;
        let certificate = params.signed_by(&key, &self.authority)?.pem();
        let (key, authority) = (key.serialize_pem(), self.authority.pem());
        for (path, text) in [
            (layout::RELAY_CONFIG, config.to_yaml()),
            (layout::keyring(0).as_str(), keyring.to_yaml()),
            (layout::CREDENTIALS, credentials.to_yaml()),
            (layout::TLS_CERTIFICATE, certificate.clone()),
            (layout::TLS_KEY, key.clone()),
            (layout::ADMIN_CERTIFICATE, certificate),
            (layout::ADMIN_KEY, key),
            (layout::ADMIN_CA, authority),
        ] {
            let path = dir.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).on("create", folder)?;
            }
            fs::write(&path, text).on("write", &path)?;
        }
        Ok(())
    }
}

impl Contender for Postrider {
    fn name(&self) -> String {
        let (version, profile) = (env!("CARGO_PKG_VERSION"), &self.build.profile);
        format!("Postrider {version} ({profile})")
    }

    fn key(&self) -> &'static str {
        "postrider"
    }

    fn setting(&self) -> &'static str {
        "loopback trusted, in the clear, like all; events to a pipe that is read"
    }

    fn signs(&self, _: Dkim) -> bool {
        true
    }

    fn door(&self, world: &World) -> SocketAddr {
        SocketAddr::new(self.address(world), PORT)
    }

    fn login(&self) -> Option<Login> {
        Some(self.login.clone())
    }

    fn prepare(&self, world: &World, dkim: Dkim) -> Result<Launch, Error> {
        let state = world.dir().join(self.state());
        let dir = state.join("config");
        self.write_documents(world, &dir, dkim)?;
        let text = |path: PathBuf| path.display().to_string();
        Ok(Launch {
            program: self.build.program.clone(),
            args: vec![
                "--config-dir".to_owned(),
                text(dir),
                "--spool".to_owned(),
                text(state.join("spool")),
                "--listen-address".to_owned(),
                self.address(world).to_string(),
            ],
            env: Vec::new(),
            mounts: Vec::new(),
        })
    }

    fn queued(&self, world: &World) -> Result<u64, Error> {
        Ok(self.metric(world, "postrider_queue_messages{")? as u64)
    }

    fn syncs(&self, world: &World) -> Result<Option<u64>, Error> {
        let count = self.metric(world, "postrider_spool_sync_seconds_count")?;
        Ok(Some(count as u64))
    }

    fn is_ready(&self, world: &World) -> bool {
        let metrics = SocketAddr::new(self.address(world), METRICS);
        get(metrics, "/readyz").is_ok() && super::greets(self.door(world))
    }
}

fn domain(dkim: Dkim) -> Result<DomainEntry, Error> {
    let keys = match dkim {
        Dkim::Off => Vec::new(),
        Dkim::Rsa2048 => vec![key(KeyAlgorithm::RSA2048, &rcgen::PKCS_RSA_SHA256)?],
        Dkim::Ed25519 => vec![key(KeyAlgorithm::Ed25519, &rcgen::PKCS_ED25519)?],
    };
    Ok(DomainEntry {
        domain: name(FROM)?,
        return_path: name(&format!("bounce.{FROM}"))?,
        admission: Admission::Send,
        reason: String::new(),
        intake: Intake::Open,
        keys,
        senders: vec![Sender {
            username: USER.into(),
            addresses: Vec::new(),
        }],
    })
}

fn key(
    algorithm: KeyAlgorithm,
    kind: &'static rcgen::SignatureAlgorithm,
) -> Result<SigningKey, Error> {
    Ok(SigningKey {
        selector: SELECTOR.parse().map_err(|_| usage("selector", SELECTOR))?,
        algorithm,
        state: SigningState::Active,
        private_key: KeyPair::generate_for(kind)?.serialize_pem(),
    })
}

const SELECTOR: &str = "bench";

fn name(text: &str) -> Result<DomainName, Error> {
    text.parse().map_err(|_| usage("domain", text))
}

fn duration(text: &str) -> Result<postrider_crds::Duration, Error> {
    text.parse().map_err(|_| usage("duration", text))
}

fn usage(field: &'static str, value: &str) -> Error {
    Error::Usage {
        field,
        value: value.to_owned(),
        remedy: "the relay's configuration does not take it".to_owned(),
    }
}

/// The body of a GET that is answered 200.
fn get(at: SocketAddr, path: &str) -> Result<String, Error> {
    let what = || format!("GET {path} of {at}");
    let mut stream = TcpStream::connect(at).at(what)?;
    stream.set_read_timeout(Some(ENDPOINT)).at(what)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).at(what)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).at(what)?;
    let good = answer.starts_with("HTTP/1.1 200");
    let body = answer.split_once("\r\n\r\n").filter(|_| good);
    let body = body.ok_or_else(|| {
        let line = answer.lines().next().unwrap_or_default();
        std::io::Error::other(line.to_owned())
    });
    body.map(|(_, body)| body.to_owned()).at(what)
}

/// The sum of the series in `text` that begin with `name`.
fn sum(text: &str, name: &str) -> f64 {
    let series = text.lines().filter(|line| line.starts_with(name));
    let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed() {
        let text = "# HELP a b\na{x=\"1\"} 2\na{x=\"2\"} 3.5\nab 7\n";
        assert!((sum(text, "a{") - 5.5).abs() < f64::EPSILON);
        assert!((sum(text, "ab ") - 7.0).abs() < f64::EPSILON);
    }
}
