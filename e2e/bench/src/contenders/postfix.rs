//! Postfix out of the Debian package, with the settings it is shipped with, besides routes and
//! names; alone, or with OpenDKIM as its signing milter.

use std::{net::SocketAddr, path::Path};

use rcgen::KeyPair;

use super::{
    Contender, Dkim, Launch,
    machine::{Account, Machine, count_files},
    packages::Unpacked,
};
use crate::{
    error::Error,
    measure::keeper::Mount,
    world::{FROM, PORT, World},
};

/// OpenDKIM and what it needs that a minimal Debian lacks.
const SIGNER: &[&str] = &[
    "opendkim",
    "libbsd0",
    "libdb5.3",
    "libevent-2.1-7",
    "libhashkit2",
    "libldap-2.5-0",
    "liblua5.3-0",
    "libmd0",
    "libmemcached11",
    "libmilter1.0.1",
    "libnghttp2-14",
    "libopendbx1",
    "libopendkim11",
    "librbl1",
    "libsasl2-2",
    "libssl3",
    "libunbound8",
    "libvbr2",
];
/// The package and what it needs that a minimal Debian lacks.
const PACKAGES: &[&str] = &[
    "postfix",
    "libdb5.3",
    "libicu72",
    "libnsl2",
    "libtirpc3",
    "libsasl2-2",
    "libssl3",
    "libgssapi-krb5-2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libcom-err2",
];
const OWNER: Account = Account {
    name: "postfix",
    id: 64_101,
};
const DROP: Account = Account {
    name: "postdrop",
    id: 64_102,
};
/// Where mail is, by stage.
const QUEUES: &[&str] = &["maildrop", "incoming", "active", "deferred", "hold"];
/// The other directories its owner must own.
const OWNED: &[&str] = &[
    "bounce", "corrupt", "defer", "flush", "private", "saved", "trace",
];

/// Postfix.
#[derive(Debug)]
pub struct Postfix {
    unpacked: Unpacked,
    signer: Option<Unpacked>,
}

impl Postfix {
    /// Finds its packages in the cache, or gets them.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn get() -> Result<Self, Error> {
        Ok(Self {
            unpacked: Unpacked::get("postfix", PACKAGES)?,
            signer: None,
        })
    }

    /// The same with OpenDKIM.
    ///
    /// # Errors
    /// When their packages cannot be had.
    pub fn signing() -> Result<Self, Error> {
        Ok(Self {
            signer: Some(Unpacked::get("opendkim", SIGNER)?),
            ..Self::get()?
        })
    }

    /// Writes what OpenDKIM reads; gives what `main.cf` says of it.
    fn signer(&self, machine: &Machine) -> Result<&'static str, Error> {
        if self.signer.is_none() {
            return Ok("");
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?.serialize_pem();
        machine.file("etc/opendkim/key.pem", &key)?;
        let configuration = format!(
            "Mode s\nSyslog no\nDomain {FROM}\nSelector bench\nKeyFile /etc/opendkim/key.pem\n\
             RequireSafeKeys no\nCanonicalization relaxed/relaxed\nSocket {SOCKET}\nUMask 000\n\
             InternalHosts 127.0.0.0/8\n"
        );
        machine.file("etc/opendkim/opendkim.conf", &configuration)?;
        Ok(MILTER)
    }

    /// The program and its arguments: Postfix, or a shell that starts OpenDKIM and becomes it.
    fn command(&self) -> (&'static str, Vec<String>) {
        let words: &[&str] = match self.signer {
            None => &["-d"],
            Some(_) => &["-c", START_BOTH],
        };
        let program = if self.signer.is_some() { "sh" } else { MASTER };
        (program, words.iter().map(|&word| word.to_owned()).collect())
    }

    fn mounts(&self, state: &Path) -> Vec<Mount> {
        let mut mounts = self.unpacked.mounts(state);
        mounts.extend(self.signer.iter().map(Unpacked::programs));
        mounts
    }
}

impl Contender for Postfix {
    fn name(&self) -> String {
        let (version, signer) = (&self.unpacked.version, &self.signer);
        let signer = signer
            .as_ref()
            .map(|s| format!(" + OpenDKIM {}", s.version));
        format!("Postfix {version}{}", signer.unwrap_or_default())
    }

    fn key(&self) -> &'static str {
        match self.signer {
            None => "postfix",
            Some(_) => "postfix_opendkim",
        }
    }

    fn signs(&self, dkim: Dkim) -> bool {
        match self.signer {
            None => dkim == Dkim::Off,
            Some(_) => dkim == Dkim::Rsa2048,
        }
    }

    fn setting(&self) -> &'static str {
        "as shipped; logs to a file; `smtpd_client_connection_count_limit` lifted"
    }

    fn door(&self, world: &World) -> SocketAddr {
        SocketAddr::new(world.address(2), PORT)
    }

    fn prepare(&self, world: &World, _: Dkim) -> Result<Launch, Error> {
        let state = world.dir().join(self.state());
        let machine = Machine::new(state.clone(), &[OWNER, DROP])?;
        machine.dir("var/spool/postfix", 0, 0o755)?;
        for queue in QUEUES.iter().chain(OWNED) {
            machine.dir(&format!("var/spool/postfix/{queue}"), OWNER.id, 0o700)?;
        }
        machine.dir("var/spool/postfix/public", OWNER.id, 0o710)?;
        machine.group("var/spool/postfix/public", DROP.id)?;
        machine.dir("var/spool/postfix/maildrop", OWNER.id, 0o730)?;
        machine.group("var/spool/postfix/maildrop", DROP.id)?;
        machine.dir("var/spool/postfix/pid", 0, 0o755)?;
        machine.dir("var/lib/postfix", OWNER.id, 0o700)?;
        let route = |(domain, at): (&str, SocketAddr)| {
            format!("{domain} smtp:[{}]:{}\n", at.ip(), at.port())
        };
        let routes: String = world.routes().into_iter().map(route).collect();
        machine.file("etc/postfix/transport", &routes)?;
        let milter = self.signer(&machine)?;
        machine.file("etc/postfix/main.cf", &format!("{MAIN}{milter}"))?;
        let door = self.door(world);
        let master = format!("{door} inet n - n - - smtpd\n{SERVICES}");
        machine.file("etc/postfix/master.cf", &master)?;
        let (program, args) = self.command();
        Ok(Launch {
            program: program.into(),
            args,
            env: vec![("MAIL_CONFIG".to_owned(), "/etc/postfix".to_owned())],
            mounts: self.mounts(&state),
        })
    }

    fn queued(&self, world: &World) -> Result<u64, Error> {
        let spool = world.dir().join(self.state()).join("var/spool/postfix");
        let counts = QUEUES
            .iter()
            .map(|queue| count_files(&spool.join(queue), &|_| true));
        counts.sum()
    }
}

const MASTER: &str = "/usr/lib/postfix/sbin/master";
/// OpenDKIM's socket, in its words.
const SOCKET: &str = "local:/run/opendkim.sock";
/// The same in those of Postfix.
const MILTER: &str = "smtpd_milters = unix:/run/opendkim.sock\nmilter_default_action = tempfail\n";
const START_BOTH: &str = "/usr/sbin/opendkim -f -x /etc/opendkim/opendkim.conf & \
while ! test -S /run/opendkim.sock; do sleep 0.1; done; exec /usr/lib/postfix/sbin/master -d";

const MAIN: &str = "\
compatibility_level = 3.6
myhostname = postfix.bench.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = all
inet_protocols = ipv4
default_database_type = texthash
transport_maps = texthash:/etc/postfix/transport
maillog_file = /var/log/postfix.log
# No questions to the machine's resolver.
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
# More sessions than 50 are measured too.
smtpd_client_connection_count_limit = 0
";

/// Its parts as Debian ships them, without chroot.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";
