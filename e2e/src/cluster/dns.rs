//! CoreDNS: the cluster's name server and the authoritative server of the test zones, one process
//! on the machine. Pods reach it at the cluster IP that their `resolv.conf` names, everybody at
//! the machine's address on the bridge, port 53. Beside a cluster of the user's it serves the test
//! zones only, on an address of theirs.
//!
//! Guarantees: a zone put by [`Dns::put_zone`] is served, with that content, when the call
//! returns. No question ever leaves the machine: a name of no zone does not exist (NXDOMAIN).
//! Nothing is cached by the server.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};
use tokio::net::UdpSocket;

use super::{
    clock::wait_for,
    daemon::{Daemon, Enclosed, Spec},
    error::{Error, OnPath},
    network,
    paths::StateDir,
    pki::{Identity, Pki},
    tools::Tools,
};

/// Where name servers listen.
const PORT: u16 = 53;
/// How long a zone may take to be served: the server looks every [`RELOAD`].
const SERVED_BOUND: Duration = Duration::from_secs(10);
/// How often the server looks at its zone files.
const RELOAD: &str = "250ms";
/// The prefix of a zone's file; its name follows.
const PREFIX: &str = "zone_";

/// The name server and its zones.
#[derive(Debug, Clone)]
pub struct Dns {
    address: SocketAddr,
    zones: PathBuf,
    log: PathBuf,
}

impl Dns {
    /// The name server of the cluster in `state`.
    pub(crate) fn of(state: &StateDir) -> Self {
        Self::at(state, SocketAddr::from((network::HOST, PORT)))
    }

    /// One that serves test zones and nothing else on `address`, port 53, with its state in
    /// `state`. It outlives this program.
    ///
    /// # Errors
    /// When `program`, CoreDNS, does not come to listen.
    pub(crate) async fn alone(
        state: &StateDir,
        program: PathBuf,
        address: Ipv4Addr,
    ) -> Result<Self, Error> {
        let dns = Self::at(state, SocketAddr::from((address, PORT)));
        let daemon = Daemon::start(state, &spec_of(state, program, address, "")?)?;
        let listening = async || tokio::net::TcpStream::connect(dns.address).await.is_ok();
        daemon
            .wait_until("the name server", SERVED_BOUND, listening)
            .await?;
        Ok(dns)
    }

    fn at(state: &StateDir, address: SocketAddr) -> Self {
        Self {
            address,
            zones: state.join("zones"),
            log: state.join("logs/coredns.log"),
        }
    }

    /// Where it answers, on UDP and TCP, from the machine and from pods.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the zone `origin` with these records, in place of what it held before, and waits
    /// until that is so.
    ///
    /// `records` are lines of a zone file (RFC 1035 section 5), relative to the origin. The SOA,
    /// one NS record and the name server's address are added; the default TTL is 1 s.
    ///
    /// # Errors
    /// When `origin` is no name, the file cannot be written, or the server does not take it: then
    /// its log says which line is wrong.
    pub async fn put_zone(&self, origin: &str, records: &str) -> Result<(), Error> {
        let (name, file) = self.zone(origin)?;
        let serial = self
            .serial(&name)
            .await?
            .map_or(1, |serial| serial.wrapping_add(1));
        let host = self.address.ip();
        let text = format!(
            "$ORIGIN {name}\n$TTL 1\n\
             @ IN SOA postrider-ns hostmaster {serial} 60 60 3600 1\n\
             @ IN NS postrider-ns\npostrider-ns IN A {host}\n{records}\n"
        );
        let fresh = self.zones.join(format!(".{}", file.display()));
        let place = self.zones.join(&file);
        fs::write(&fresh, text).on("write", &fresh)?;
        fs::rename(&fresh, &place).on("write", &place)?;
        let what = format!("zone {origin} with serial {serial}");
        self.wait(
            &what,
            async || Ok(self.serial(&name).await? == Some(serial)),
        )
        .await
    }

    /// Serves the zone `origin` no more, and waits until its names do not exist.
    ///
    /// # Errors
    /// When `origin` is no name, or the file cannot be removed.
    pub async fn remove_zone(&self, origin: &str) -> Result<(), Error> {
        let (name, file) = self.zone(origin)?;
        let place = self.zones.join(file);
        fs::remove_file(&place).on("remove", &place)?;
        let what = format!("the end of zone {origin}");
        self.wait(&what, async || Ok(self.serial(&name).await?.is_none()))
            .await
    }

    /// The serial of the zone `name`, if it is served.
    async fn serial(&self, name: &Name) -> Result<Option<u32>, Error> {
        let Some(message) = self.ask(name, RecordType::SOA).await? else {
            return Ok(None);
        };
        Ok(message
            .answers
            .iter()
            .find_map(|record| match &record.data {
                RData::SOA(soa) if &record.name == name => Some(soa.serial),
                _ => None,
            }))
    }

    /// Asks the server one question; `None` when no sound answer comes within a second.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Option<Message>, Error> {
        let place = "udp 0.0.0.0:0";
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .await
            .on("bind", place)?;
        socket.connect(self.address()).await.on("connect", place)?;
        let mut question = Message::query();
        question.add_query(Query::query(name.clone(), kind));
        let id = question.metadata.id;
        let Ok(bytes) = question.to_vec() else {
            return Ok(None);
        };
        if socket.send(&bytes).await.is_err() {
            return Ok(None);
        }
        let mut answer = vec![0; 4096];
        let received = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer));
        let Ok(Ok(length)) = received.await else {
            return Ok(None);
        };
        answer.truncate(length);
        Ok(Message::from_vec(&answer)
            .ok()
            .filter(|message| message.metadata.id == id))
    }

    /// Whether the server answers for the cluster's own zone.
    pub(crate) async fn answers(&self) -> bool {
        let Ok(name) = Name::from_ascii("kubernetes.default.svc.cluster.local.") else {
            return false;
        };
        let answer = self.ask(&name, RecordType::A).await;
        answer.is_ok_and(|answer| answer.is_some_and(|message| !message.answers.is_empty()))
    }

    async fn wait(
        &self,
        what: &str,
        mut condition: impl AsyncFnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let log = self.log.display().to_string();
        wait_for(what, SERVED_BOUND, &log, async || {
            Ok(condition().await?.then_some(()))
        })
        .await
    }

    /// The name of a zone and that of its file.
    fn zone(&self, origin: &str) -> Result<(Name, PathBuf), Error> {
        let plain = origin.trim_end_matches('.').to_ascii_lowercase();
        let fault = || Error::Usage {
            field: "zone",
            value: origin.to_owned(),
            remedy: "give a domain name, like shop.example".to_owned(),
        };
        let name = Name::from_ascii(format!("{plain}.")).map_err(|_| fault())?;
        if plain.is_empty() || plain.contains('/') {
            return Err(fault());
        }
        Ok((name, PathBuf::from(format!("{PREFIX}{plain}"))))
    }
}

/// How to start it; writes its configuration and the zone of all that does not exist.
pub(crate) fn spec(
    tools: &Tools,
    state: &StateDir,
    pki: &Pki,
    server: &str,
) -> Result<Spec, Error> {
    let client = Identity::client("coredns", "system:coredns", None);
    let kubeconfig = pki.kubeconfig(&client, server, state.join("pki/coredns.kubeconfig"))?;
    let kubernetes = format!(
        "\x20   kubernetes cluster.local in-addr.arpa ip6.arpa {{\n\
         \x20       kubeconfig {kubeconfig}\n        ttl 1\n\
         \x20       fallthrough in-addr.arpa ip6.arpa\n    }}\n",
        kubeconfig = kubeconfig.display(),
    );
    spec_of(state, tools.coredns(), network::HOST, &kubernetes)
}

/// How to start it on `host`; `kubernetes` is what the Corefile says of a cluster.
fn spec_of(
    state: &StateDir,
    program: PathBuf,
    host: Ipv4Addr,
    kubernetes: &str,
) -> Result<Spec, Error> {
    let zones = state.make("zones")?;
    // The root: whatever no other zone holds is answered by it, with NXDOMAIN.
    state.write(
        &format!("zones/{PREFIX}."),
        "$TTL 1\n. IN SOA localhost. hostmaster.localhost. 1 60 60 3600 1\n. IN NS localhost.\n",
    )?;
    let corefile = format!(
        ".:{PORT} {{\n    bind {host}\n    errors\n{kubernetes}\
         \x20   auto {{\n        directory {zones} ^{PREFIX}(.*)$ {{1}}\n\
         \x20       reload {RELOAD}\n    }}\n}}\n",
        zones = zones.display(),
    );
    let corefile = state.write("Corefile", &corefile)?;
    Ok(Spec {
        name: "coredns".to_owned(),
        program,
        args: vec!["-conf".to_owned(), corefile.display().to_string()],
        env: Vec::new(),
        enclosed: Enclosed::No,
    })
}
