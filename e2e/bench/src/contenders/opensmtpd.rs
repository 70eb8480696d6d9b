//! OpenSMTPD out of the Debian package.

use std::{fmt::Write as _, net::SocketAddr};

use super::{
    Contender, Dkim, Launch,
    machine::{Account, Machine, count_files},
    packages::Unpacked,
};
use crate::{
    error::Error,
    world::{PORT, World},
};

/// The package and what it needs that a minimal Debian lacks.
const PACKAGES: &[&str] = &[
    "opensmtpd",
    "libdb5.3",
    "libevent-2.1-7",
    "libpam0g",
    "libssl3",
];
const OWNER: Account = Account {
    name: "opensmtpd",
    id: 64_121,
};
const QUEUE: Account = Account {
    name: "opensmtpq",
    id: 64_122,
};

/// OpenSMTPD.
#[derive(Debug)]
pub struct OpenSmtpd {
    unpacked: Unpacked,
}

impl OpenSmtpd {
    /// Finds its packages in the cache, or gets them.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn get() -> Result<Self, Error> {
        let unpacked = Unpacked::get("opensmtpd", PACKAGES)?;
        Ok(Self { unpacked })
    }
}

impl Contender for OpenSmtpd {
    fn name(&self) -> String {
        format!("OpenSMTPD {}", self.unpacked.version)
    }

    fn key(&self) -> &'static str {
        "opensmtpd"
    }

    fn setting(&self) -> &'static str {
        "limits on messages a session lifted, in and out; 20 connections to a site; offers no \
         PIPELINING"
    }

    fn door(&self, world: &World) -> SocketAddr {
        SocketAddr::new(world.address(4), PORT)
    }

    fn prepare(&self, world: &World, _: Dkim) -> Result<Launch, Error> {
        let state = world.dir().join(self.state());
        let machine = Machine::new(state.clone(), &[OWNER, QUEUE])?;
        machine.dir("var/lib/opensmtpd/empty", 0, 0o755)?;
        machine.dir("var/spool/smtpd", 0, 0o711)?;
        let door = self.door(world);
        let mut rules = String::new();
        for (number, (domain, at)) in world.routes().into_iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(
                rules,
                "action \"r{number}\" relay host \"smtp://{at}\"\n\
                 match from any for domain \"{domain}\" action \"r{number}\"\n"
            );
        }
        let configuration = format!(
            "smtp max-message-size 50M\nsmtp limit max-mails 1000000\n\
             mta limit session-mail-max 1000000 max-conn-per-route 20\n\
             listen on {} port {} hostname opensmtpd.bench.example\n{rules}",
            door.ip(),
            door.port()
        );
        machine.file("etc/smtpd.conf", &configuration)?;
        machine.file("etc/mailname", "opensmtpd.bench.example\n")?;
        Ok(Launch {
            program: "/usr/sbin/smtpd".into(),
            args: vec!["-d".to_owned()],
            env: Vec::new(),
            mounts: self.unpacked.mounts(&state),
        })
    }

    fn queued(&self, world: &World) -> Result<u64, Error> {
        let spool = world.dir().join(self.state()).join("var/spool/smtpd");
        // A file an envelope besides the message itself.
        let envelope = |name: &str| name.len() == 16;
        Ok(count_files(&spool.join("queue"), &envelope)?
            + count_files(&spool.join("incoming"), &envelope)?)
    }
}
