//! Test zones: their text, for the cluster's name server, and a name server of one's own on
//! loopback where there is no cluster.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::error::Error;
use crate::cluster::{
    Cache, StateDir,
    daemon::{Daemon, Enclosed, Spec},
    error::OnPath as _,
    go,
};

/// The records of one zone, gathered.
#[derive(Debug, Clone)]
pub struct Zone {
    origin: String,
    records: String,
    refused: bool,
    /// Its name servers; none: one without an address, for zones whose servers nobody looks for.
    servers: Vec<String>,
    /// Seconds for which "no such record" may be kept (RFC 2308 section 5).
    negative_ttl: u32,
    /// Its version.
    serial: u32,
}

impl Zone {
    /// An empty zone; `origin` is its name without the last dot.
    pub fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            records: String::new(),
            refused: false,
            servers: Vec::new(),
            negative_ttl: 1,
            serial: 1,
        }
    }

    /// A zone about which [`Nameserver`] refuses to answer anything (RFC 1035 section 4.1.1).
    pub fn refused(origin: &str) -> Self {
        Self {
            refused: true,
            ..Self::new(origin)
        }
    }

    /// Adds a name server with its address; `name` is relative to the zone.
    #[must_use]
    pub fn name_server(mut self, name: &str, address: IpAddr) -> Self {
        self.servers.push(name.to_owned());
        self.address(name, address)
    }

    /// Lets caches keep for so many seconds that there is no record; 1 if it is not said.
    #[must_use]
    pub fn negative_ttl(self, negative_ttl: u32) -> Self {
        Self {
            negative_ttl,
            ..self
        }
    }

    /// Gives it a version, by which a server knows that it has changed; 1 if it is not said.
    #[must_use]
    pub fn serial(self, serial: u32) -> Self {
        Self { serial, ..self }
    }

    /// Its name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Adds an address; `name` is relative to the zone, `@` the zone itself.
    #[must_use]
    pub fn address(self, name: &str, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.record(name, "A", &address.to_string()),
            IpAddr::V6(address) => self.record(name, "AAAA", &address.to_string()),
        }
    }

    /// Adds a mail exchange; `host` is a full name without the last dot, or empty for a null MX
    /// (RFC 7505).
    #[must_use]
    pub fn mx(self, name: &str, preference: u16, host: &str) -> Self {
        self.record(name, "MX", &format!("{preference} {host}."))
    }

    /// Adds a text, in as many strings as its length takes (RFC 7208 section 3.3).
    #[must_use]
    pub fn txt(self, name: &str, text: &str) -> Self {
        self.record(name, "TXT", &strings(text))
    }

    /// Adds a record of any type, `data` in the words of a zone file.
    #[must_use]
    pub fn record(mut self, name: &str, kind: &str, data: &str) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.records, "{name} IN {kind} {data}");
        self
    }

    /// The records as lines of a zone file, relative to the origin, without an SOA: what
    /// [`crate::cluster::Dns::put_zone`] takes.
    pub fn records(&self) -> &str {
        &self.records
    }

    /// The whole zone file (RFC 1035 section 5), with an SOA and its NS records.
    pub fn file(&self) -> String {
        let Self {
            origin,
            records,
            servers,
            negative_ttl,
            serial,
            ..
        } = self;
        let none = vec!["localhost.".to_owned()];
        let servers = if servers.is_empty() { &none } else { servers };
        let servers: String = servers
            .iter()
            .map(|server| format!("@ IN NS {server}\n"))
            .collect();
        format!(
            "$ORIGIN {origin}.\n$TTL 1\n\
             @ IN SOA localhost. hostmaster.localhost. {serial} 60 60 3600 {negative_ttl}\n\
             {servers}{records}"
        )
    }
}

/// A CoreDNS that serves given zones and nothing else: other names do not exist.
#[derive(Debug)]
pub struct Nameserver {
    address: SocketAddr,
    state: StateDir,
    daemon: Daemon,
}

impl Nameserver {
    /// Starts one on `listen`, UDP and TCP, with its state in `dir`.
    ///
    /// CoreDNS comes from `cache` and is built if it is missing.
    ///
    /// # Errors
    /// When CoreDNS cannot be built or does not take a zone.
    pub async fn start(
        dir: &Path,
        cache: &Cache,
        listen: SocketAddr,
        zones: &[Zone],
    ) -> Result<Self, Error> {
        Self::launch(dir, cache, (listen, ""), zones).await
    }

    /// Like [`Self::start`]; counts what it is asked and tells it at `/metrics` of the second
    /// address, in the text format of Prometheus.
    ///
    /// # Errors
    /// When CoreDNS cannot be built or does not take a zone.
    pub async fn start_counting(
        dir: &Path,
        cache: &Cache,
        (listen, counters): (SocketAddr, SocketAddr),
        zones: &[Zone],
    ) -> Result<Self, Error> {
        let plugin = format!("    prometheus {counters}\n");
        Self::launch(dir, cache, (listen, &plugin), zones).await
    }

    /// Starts one whose server blocks have `plugins` besides.
    async fn launch(
        dir: &Path,
        cache: &Cache,
        (listen, plugins): (SocketAddr, &str),
        zones: &[Zone],
    ) -> Result<Self, Error> {
        super::stop(dir).await?;
        let state = StateDir::new(dir)?;
        let program = go::COREDNS.ready(cache).await?.join("coredns");
        let root = Zone::new("");
        let mut corefile = String::new();
        for zone in zones.iter().chain([&root]) {
            let name = server_name(zone);
            let file = state.write(&file_name(zone), &zone.file())?;
            let (port, ip) = (listen.port(), listen.ip());
            // CoreDNS refuses what no plugin answers.
            let answers = match zone.refused {
                true => String::new(),
                false => {
                    let file = file.display();
                    format!("    file {file} {name} {{\n        reload {RELOAD}\n    }}\n")
                }
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                corefile,
                "{name}:{port} {{\n    bind {ip}\n    errors\n{plugins}{answers}}}"
            );
        }
        let corefile = state.write("Corefile", &corefile)?;
        let spec = Spec {
            name: "nameserver".to_owned(),
            program,
            args: vec!["-conf".to_owned(), corefile.display().to_string()],
            env: Vec::new(),
            enclosed: Enclosed::No,
        };
        let daemon = Daemon::start(&state, &spec)?;
        // It reads its zones first, then opens UDP and TCP, then answers both.
        let listening = async || tokio::net::TcpStream::connect(listen).await.is_ok();
        daemon
            .wait_until("the name server", START_BOUND, listening)
            .await?;
        Ok(Self {
            address: listen,
            state,
            daemon,
        })
    }

    /// Serves `zone`, one of those it was started with, in place of what it held before: from some
    /// [`RELOAD`] on, if its serial is another one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn replace(&self, zone: &Zone) -> Result<(), Error> {
        let place = self.state.join(file_name(zone));
        let fresh = self.state.write("zones/.fresh", &zone.file())?;
        fs::rename(&fresh, &place).on("write", &place)?;
        Ok(())
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<(), Error> {
        self.daemon.process().stop().await?;
        Ok(())
    }
}

/// The name of a zone in a Corefile.
fn server_name(zone: &Zone) -> &str {
    if zone.origin.is_empty() {
        "."
    } else {
        &zone.origin
    }
}

/// The file of a zone, in the state directory.
fn file_name(zone: &Zone) -> String {
    format!("zones/zone_{}", server_name(zone))
}

/// How often CoreDNS looks at its zone files.
const RELOAD: &str = "1s";
/// How long CoreDNS may take to listen.
const START_BOUND: Duration = Duration::from_secs(30);
/// The longest string of a TXT record in octets (RFC 1035 section 3.3).
const MAX_STRING: usize = 255;

/// The strings of a TXT record, quoted and escaped (RFC 1035 section 5.1).
fn strings(text: &str) -> String {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    let quoted: Vec<_> = bytes
        .chunks(MAX_STRING)
        .map(|chunk| format!("\"{}\"", escaped(chunk)))
        .collect();
    quoted.join(" ")
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{byte:03}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_escaped() {
        assert_eq!(strings(""), r#""""#);
        assert_eq!(strings("a\"b\\c\n"), r#""a\"b\\c\010""#);
        let long = strings(&"x".repeat(300));
        let wanted = format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45));
        assert_eq!(long, wanted);
    }

    #[test]
    fn a_zone_is_written_relative_to_its_origin() {
        let zone = Zone::new("shop.test")
            .address("mx", IpAddr::from([127, 0, 0, 9]))
            .mx("@", 10, "mx.shop.test")
            .mx("null", 0, "")
            .txt("@", "v=spf1 -all");
        let wanted = "mx IN A 127.0.0.9\n@ IN MX 10 mx.shop.test.\nnull IN MX 0 .\n\
                      @ IN TXT \"v=spf1 -all\"\n";
        assert_eq!(zone.records(), wanted);
        assert!(zone.file().starts_with("$ORIGIN shop.test.\n"));
        assert!(zone.file().ends_with(wanted));
    }
}
