//! The contenders: each a relay that is told to take mail from loopback and to carry it to the
//! sites of the [`World`], as durable as it is shipped.

mod exim;
mod haraka;
mod machine;
mod opensmtpd;
mod packages;
mod postfix;
mod postrider;
mod running;

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

pub use exim::Exim;
pub use haraka::Haraka;
pub use opensmtpd::OpenSmtpd;
pub use postfix::Postfix;
pub use postrider::{Build, Postrider};
pub use running::{Running, Watch};

use crate::{error::Error, load::Login, measure::keeper::Mount, world::World};

/// How mail is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dkim {
    /// Not at all.
    Off,
    /// RSA of 2048 bits.
    Rsa2048,
    /// Ed25519.
    Ed25519,
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of the benchmark's own.
    pub env: Vec<(String, String)>,
    /// What it sees elsewhere than it lies.
    pub mounts: Vec<Mount>,
}

/// Whether a contender begins with an empty spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spool {
    /// What an earlier run left is removed.
    Empty,
    /// It is kept.
    Kept,
}

/// A relay that can be measured.
pub trait Contender {
    /// Its name and version.
    fn name(&self) -> String;

    /// What its figures are called: a lower-case word.
    fn key(&self) -> &'static str;

    /// Its state directory; relative to the world's.
    fn state(&self) -> &'static str {
        self.key()
    }

    /// What about its setting a reader of its figures must know.
    fn setting(&self) -> &'static str;

    /// Whether it signs so.
    fn signs(&self, dkim: Dkim) -> bool {
        dkim == Dkim::Off
    }

    /// Where it takes mail.
    fn door(&self, world: &World) -> SocketAddr;

    /// How a client secures its session and logs in, where it can.
    fn login(&self) -> Option<Login> {
        None
    }

    /// Writes its configuration and makes its directories.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn prepare(&self, world: &World, dkim: Dkim) -> Result<Launch, Error>;

    /// Messages in its queue.
    ///
    /// # Errors
    /// When its queue cannot be read.
    fn queued(&self, world: &World) -> Result<u64, Error>;

    /// Syncs it has made since it started, where it counts them itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn syncs(&self, _world: &World) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// Whether it takes mail now.
    fn is_ready(&self, world: &World) -> bool {
        greets(self.door(world))
    }
}

/// Whether an SMTP server greets at `door`.
fn greets(door: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(door) else {
        return false;
    };
    let bounded = stream.set_read_timeout(Some(GREETING));
    let mut line = String::new();
    bounded.is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("220")
}

/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(2);
