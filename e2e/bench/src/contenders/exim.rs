//! Exim out of the Debian package.

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
    "exim4-daemon-light",
    "exim4-base",
    "libdb5.3",
    "libevent-2.1-7",
    "libgnutls-dane0",
    "libgnutls30",
    "libidn12",
    "libidn2-0",
    "libnsl2",
    "libpcre2-8-0",
    "libtirpc3",
    "libunbound8",
];
const OWNER: Account = Account {
    name: "Debian-exim",
    id: 64_111,
};

/// Exim.
#[derive(Debug)]
pub struct Exim {
    unpacked: Unpacked,
}

impl Exim {
    /// Finds its packages in the cache, or gets them.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn get() -> Result<Self, Error> {
        let unpacked = Unpacked::get("exim", PACKAGES)?;
        Ok(Self { unpacked })
    }
}

impl Contender for Exim {
    fn name(&self) -> String {
        format!("Exim {}", self.unpacked.version)
    }

    fn key(&self) -> &'static str {
        "exim"
    }

    fn setting(&self) -> &'static str {
        "a delivery process a message at once, as shipped; limits on sessions and on messages a \
         session lifted"
    }

    fn door(&self, world: &World) -> SocketAddr {
        SocketAddr::new(world.address(3), PORT)
    }

    fn prepare(&self, world: &World, _: Dkim) -> Result<Launch, Error> {
        let state = world.dir().join(self.state());
        let machine = Machine::new(state.clone(), &[OWNER])?;
        machine.dir("var/spool/exim4", OWNER.id, 0o750)?;
        machine.dir("var/log/exim4", OWNER.id, 0o750)?;
        machine.dir("run/exim4", OWNER.id, 0o750)?;
        let door = self.door(world);
        let (address, port) = (door.ip(), door.port());
        let mut routes = String::new();
        for (domain, at) in world.routes() {
            // Writing to a String cannot fail.
            let _ = write!(routes, "{domain} {}::{} ; ", at.ip(), at.port());
        }
        let configuration = format!(
            "local_interfaces = {address}.{port}\n{MAIN}route_list = {routes}\n{TRANSPORT}"
        );
        machine.file("etc/exim4/exim4.conf", &configuration)?;
        Ok(Launch {
            program: "/usr/sbin/exim4".into(),
            args: vec!["-bdf".to_owned(), "-q30m".to_owned()],
            env: Vec::new(),
            mounts: self.unpacked.mounts(&state),
        })
    }

    fn queued(&self, world: &World) -> Result<u64, Error> {
        let input = world.dir().join(self.state()).join("var/spool/exim4/input");
        count_files(&input, &|name| name.ends_with("-H"))
    }
}

/// Its configuration up to the routes.
const MAIN: &str = "\
primary_hostname = exim.bench.example
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
acl_smtp_rcpt = from_here
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
# The sessions that are measured, and as many messages in each as there are.
smtp_accept_max = 200
smtp_accept_max_per_connection = 1000000
smtp_accept_queue_per_connection = 0
keep_environment =

begin acl
from_here:
  accept hosts = 127.0.0.0/8

begin routers
fixed:
  driver = manualroute
  transport = remote_smtp
  # The receivers are on this machine.
  self = send
  ";

/// Its configuration after the routes.
const TRANSPORT: &str = "
begin transports
remote_smtp:
  driver = smtp
  hosts_avoid_tls = *

begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
";
