//! The world around a contender: addresses on loopback, receivers, a name server, directories.
//!
//! Promises: every address is of 127/8 and of this process alone, so that several benchmarks do
//! not meet; every state directory is on the disk that was asked for.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, OpCode},
    rr::{Name, RData, Record, RecordType, rdata},
};

use crate::{
    error::{Error, OnPath as _, OnSocket as _},
    load::{Behaviour, Sink},
    measure::must_be_real,
};

/// The port of every receiver, and of every contender's door.
pub const PORT: u16 = 2525;
/// Envelope sender of all mail; what comes back to it is a notification.
pub const SENDER: &str = "sender@from.bench.example";
/// The domain of [`SENDER`].
pub const FROM: &str = "from.bench.example";

/// A receiving site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Takes everything at once; also the sender's own.
    Fast,
    /// Takes a second for every message, on few connections.
    Slow,
    /// Answers 451 to every recipient.
    Refusing,
}

impl Site {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Slow, Self::Refusing];

    /// The domain of its recipients.
    pub fn domain(self) -> &'static str {
        match self {
            Self::Fast => "fast.bench.example",
            Self::Slow => "slow.bench.example",
            Self::Refusing => "refusing.bench.example",
        }
    }

    fn behaviour(self) -> Behaviour {
        match self {
            Self::Fast => Behaviour {
                chunking: true,
                ..Behaviour::default()
            },
            Self::Slow => Behaviour {
                delay: Duration::from_secs(1),
                connections: SLOW_CONNECTIONS,
                ..Behaviour::default()
            },
            Self::Refusing => Behaviour {
                refusing: true,
                ..Behaviour::default()
            },
        }
    }

    /// The last part of its address.
    fn host(self) -> u8 {
        match self {
            Self::Fast => 10,
            Self::Slow => 11,
            Self::Refusing => 12,
        }
    }
}

/// Connections the slow site takes: in the order of what big receivers take.
const SLOW_CONNECTIONS: usize = 20;

/// The world of one run.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    network: [u8; 2],
    receivers: [(Site, Sink); 3],
}

impl World {
    /// A world with its state below `dir`, which is made and must not lie in memory.
    ///
    /// # Errors
    /// When the directory cannot be made or an address cannot be listened on.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).on("create", dir)?;
        must_be_real(dir)?;
        let dir = fs::canonicalize(dir).on("resolve", dir)?;
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // 127.0.x.x is left to others, and so is what the relay's tests take.
        let network = [high | 0x40, low];
        let at = |host| address(network, host);
        let receiver = |site: Site| {
            let door = SocketAddr::new(at(site.host()), PORT);
            let sink = Sink::start(door, site.behaviour());
            let sink = sink.at(|| format!("a receiver on {door}"))?;
            Ok::<_, Error>((site, sink))
        };
        let [fast, slow, refusing] = Site::ALL;
        let receivers = [receiver(fast)?, receiver(slow)?, receiver(refusing)?];
        serve_names(SocketAddr::new(at(NAME_SERVER), NAME_PORT), network)?;
        Ok(Self {
            dir,
            network,
            receivers,
        })
    }

    /// The receiver of a site.
    pub fn sink(&self, site: Site) -> &Sink {
        let [(_, fast), (_, slow), (_, refusing)] = &self.receivers;
        match site {
            Site::Fast => fast,
            Site::Slow => slow,
            Site::Refusing => refusing,
        }
    }

    /// All receivers forget what came; messages with numbers from `first` on count from now on.
    pub fn clear(&self, first: u64) {
        for (_, sink) in &self.receivers {
            sink.clear(first);
        }
    }

    /// The directory of all state.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The address of a contender.
    pub fn address(&self, host: u8) -> IpAddr {
        address(self.network, host)
    }

    /// Where a site's receiver listens.
    pub fn receiver(&self, site: Site) -> SocketAddr {
        SocketAddr::new(self.address(site.host()), PORT)
    }

    /// The name server.
    pub fn name_server(&self) -> SocketAddr {
        SocketAddr::new(self.address(NAME_SERVER), NAME_PORT)
    }

    /// Every domain and its receiver, for contenders with a fixed route.
    pub fn routes(&self) -> Vec<(&'static str, SocketAddr)> {
        let sites = Site::ALL.map(|site| (site.domain(), self.receiver(site)));
        let mut routes = sites.to_vec();
        routes.push((FROM, self.receiver(Site::Fast)));
        routes
    }
}

/// Last part of the name server's address.
const NAME_SERVER: u8 = 9;
/// Its port.
const NAME_PORT: u16 = 5353;

fn address([high, low]: [u8; 2], host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, high, low, host))
}

/// Serves MX and A records of the sites in a thread that lives as long as the process.
fn serve_names(at: SocketAddr, network: [u8; 2]) -> Result<(), Error> {
    let socket = UdpSocket::bind(at).at(|| format!("name server on {at}"))?;
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = answer(question, network) {
                // A client that is gone asks again if it comes back.
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Ok(())
}

fn answer(question: &[u8], network: [u8; 2]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut response = Message::response(question.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.add_query(query.clone());
    let name = query.name().to_ascii().to_lowercase();
    let site = Site::ALL
        .into_iter()
        .find(|site| name.ends_with(&format!("{}.", site.domain())))
        .unwrap_or(Site::Fast);
    let data = match (query.query_type(), address(network, site.host())) {
        (RecordType::MX, _) => {
            let host = Name::from_ascii(format!("mx.{name}")).ok()?;
            Some(RData::MX(rdata::MX::new(10, host)))
        }
        (RecordType::A, IpAddr::V4(address)) => Some(RData::A(rdata::A(address))),
        _ => None,
    };
    if let Some(data) = data {
        response.add_answer(Record::from_rdata(query.name().clone(), DNS_TTL, data));
    }
    response.to_vec().ok()
}

/// Seconds an answer may be kept, as receivers' names usually may.
const DNS_TTL: u32 = 3600;
