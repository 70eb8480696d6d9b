//! The configuration directory of a test.

use std::{fs, net::IpAddr, path::Path};

use postrider_crds::{
    DomainName, Duration,
    relay_config::{
        Admission, Credential, Credentials, DOCUMENT_VERSION, Delivery, Document as _, DomainEntry,
        Intake, KeyAlgorithm, Keyring, Limits, Listeners, PoolName, RelayConfig, Retry, Sender,
        SigningKey, SigningState, TlsMode, layout,
    },
    scram::ScramVerifier,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::{NameServer, Relay, Sink, Volume, own_address, sink};

/// The password of every user.
pub(crate) const PASSWORD: &str = "correct horse";
/// Who has one.
const USERS: [&str; 2] = ["ann", "bob"];

/// Everything around a relay.
pub(crate) struct World {
    pub(crate) address: IpAddr,
    pub(crate) name_server: NameServer,
    pub(crate) sink: Sink,
    pub(crate) root: TempDir,
    pub(crate) relay_config: RelayConfig,
    pub(crate) ca: CertifiedIssuer<'static, KeyPair>,
    /// The volume of the spool, where it is not a directory of `root`.
    pub(crate) volume: Option<Volume>,
}

impl World {
    /// A world with a name server, a receiver and a good configuration for `domains`, of which ann
    /// may send as each.
    pub(crate) async fn new(domains: Vec<DomainEntry>) -> Self {
        let address = own_address();
        let name_server = NameServer::start(address).await;
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let relay_config = RelayConfig {
            version: DOCUMENT_VERSION,
            pool: PoolName {
                namespace: "mail".into(),
                name: "default".into(),
            },
            hostname: "mail-{ordinal}.example.net".into(),
            listeners: Listeners {
                submission: Some(2587),
                submissions: Some(2465),
            },
            limits: Limits {
                message_bytes: 100_000,
                recipients: 100,
                sessions: 50,
            },
            delivery: Delivery {
                retry: Retry {
                    initial: "1s".parse().unwrap(),
                    maximum: "2s".parse().unwrap(),
                },
                expire_after: "5d".parse().unwrap(),
                delay_warning_after: "4h".parse().unwrap(),
                tls: TlsMode::Opportunistic,
                port: sink::PORT,
                connections_per_site: 4,
            },
            resolvers: vec![name_server.address()],
            trusted_clients: Vec::new(),
        };
        let world = Self {
            address,
            name_server,
            sink: Sink::serve(address).await,
            root: tempfile::tempdir().unwrap(),
            relay_config,
            ca,
            volume: None,
        };
        world.write_all(domains);
        world
    }

    /// The same where what is deferred waits an hour.
    pub(crate) async fn of_patience(domains: Vec<DomainEntry>) -> Self {
        let mut world = Self::new(domains).await;
        let hour: Duration = "1h".parse().unwrap();
        world.relay_config.delivery.retry = Retry {
            initial: hour,
            maximum: hour,
        };
        world.write_relay_config();
        world
    }

    /// A relay started on it, ready.
    pub(crate) async fn relay(&self) -> Relay {
        let relay = Relay::start(self).await;
        relay.ready().await;
        relay
    }

    pub(crate) fn config_dir(&self) -> std::path::PathBuf {
        self.root.path().join("config")
    }

    pub(crate) fn spool(&self) -> std::path::PathBuf {
        self.root.path().join("spool")
    }

    /// Replaces a document as a whole, as a mounted volume does.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.config_dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_file_name(".new");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, &path).unwrap();
    }

    pub(crate) fn write_relay_config(&self) {
        self.write(layout::RELAY_CONFIG, &self.relay_config.to_yaml());
    }

    pub(crate) fn write_domains(&self, domains: Vec<DomainEntry>) {
        let keyring = Keyring {
            version: DOCUMENT_VERSION,
            domains,
        };
        self.write(&layout::keyring(0), &keyring.to_yaml());
    }

    /// The credentials of these users, by username and password.
    pub(crate) fn write_credentials(&self, users: &[(&str, &str)]) {
        let credentials = users.iter();
        let credentials = credentials.map(|(user, password)| credential(user, password));
        let credentials = Credentials {
            version: DOCUMENT_VERSION,
            credentials: credentials.collect(),
        };
        self.write(layout::CREDENTIALS, &credentials.to_yaml());
    }

    /// A certificate of the CA, for `name` where it is given, with its key, PEM.
    pub(crate) fn certificate(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn write_all(&self, domains: Vec<DomainEntry>) {
        self.write_relay_config();
        self.write_domains(domains);
        self.write_credentials(&USERS.map(|user| (user, PASSWORD)));
        for (certificate, key) in [
            (layout::TLS_CERTIFICATE, layout::TLS_KEY),
            (layout::ADMIN_CERTIFICATE, layout::ADMIN_KEY),
        ] {
            let (pem, key_pem) = self.certificate("mail.example.net");
            self.write(certificate, &pem);
            self.write(key, &key_pem);
        }
        self.write(layout::ADMIN_CA, &self.ca.pem());
        assert!(Path::new(&self.config_dir()).is_dir());
    }
}

/// A domain with two keys that ann may send as.
pub(crate) fn domain(name: &str, admission: Admission) -> DomainEntry {
    let domain: DomainName = name.parse().unwrap();
    DomainEntry {
        return_path: domain.child("bounce").unwrap(),
        domain,
        admission,
        reason: match admission {
            Admission::Send => String::new(),
            Admission::Hold | Admission::Reject => "DKIM record is missing".into(),
        },
        intake: Intake::Open,
        keys: vec![
            key("rsa", KeyAlgorithm::RSA2048, &rcgen::PKCS_RSA_SHA256),
            key("ed", KeyAlgorithm::Ed25519, &rcgen::PKCS_ED25519),
        ],
        senders: vec![Sender {
            username: "ann".into(),
            addresses: Vec::new(),
        }],
    }
}

fn key(
    selector: &str,
    algorithm: KeyAlgorithm,
    kind: &'static rcgen::SignatureAlgorithm,
) -> SigningKey {
    SigningKey {
        selector: selector.parse().unwrap(),
        algorithm,
        state: SigningState::Active,
        private_key: KeyPair::generate_for(kind).unwrap().serialize_pem(),
    }
}

fn credential(user: &str, password: &str) -> Credential {
    Credential {
        username: user.into(),
        tenant: format!("apps/{user}"),
        verifier: ScramVerifier::derive(password.as_bytes(), user.as_bytes()),
    }
}
