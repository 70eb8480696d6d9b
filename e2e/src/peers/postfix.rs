//! A real Postfix that receives: known recipients into Maildirs, unknown ones refused with 550
//! 5.1.1, everything else with 554 5.7.1; STARTTLS on offer; every message verified by
//! [OpenDKIM](super::opendkim) on the way in.
//!
//! Guarantees: configuration, queue, data, log and mail lie under one directory; no other Postfix
//! of the machine is touched or in the way. It uses accounts that every Debian has (base-passwd)
//! and makes none. Nobody but root needs a right on the directories above: what runs without root
//! reaches its files from Postfix's working directory, the queue.
//!
//! Never sends: it has no transport to the network.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    certificate::Certificate,
    error::Error,
    judge::Case,
    message,
    opendkim::{self, Settings},
    programs::{LIBRARY_VARIABLE, Programs},
};
use crate::cluster::{
    StateDir,
    daemon::{Daemon, Enclosed, Process, Spec},
    error::OnPath as _,
    wait_for,
};

/// What a Postfix needs to know to receive.
#[derive(Debug, Clone)]
pub struct PostfixConfig {
    /// Where it listens, nowhere else. An address of the machine.
    pub listen: SocketAddr,
    /// The name it greets with, and the authserv-id of its verdicts.
    pub hostname: String,
    /// The domains it is the final destination for.
    pub domains: Vec<String>,
    /// The mailboxes it knows, whole addresses in those domains.
    pub recipients: Vec<String>,
    /// The name server its DKIM verifier asks.
    pub nameserver: SocketAddr,
}

/// A Postfix that runs.
#[derive(Debug)]
pub struct Postfix {
    state: StateDir,
    address: SocketAddr,
    certificate: PathBuf,
    master: Daemon,
}

impl Postfix {
    /// Starts one with its state in `dir`, which is made; a Postfix already running there is
    /// stopped and what it received is kept.
    ///
    /// # Errors
    /// Without root, or when Postfix or OpenDKIM does not come up.
    pub async fn start(
        dir: &Path,
        programs: &Programs,
        config: &PostfixConfig,
    ) -> Result<Self, Error> {
        super::stop(dir).await?;
        let state = StateDir::new(dir)?;
        let queue = state.make("queue")?;
        make_directories(&queue)?;
        let names = [config.hostname.clone(), config.listen.ip().to_string()];
        let (certificate, _) = Certificate::self_signed(&names)?.write(&state)?;
        // The socket of an OpenDKIM that was killed would look like a listening one.
        let _ = fs::remove_file(queue.join(opendkim::SOCKET));
        let settings = Settings {
            authserv_id: &config.hostname,
            account: OWNER.name,
            nameserver: config.nameserver,
        };
        opendkim::start(&state, programs, &queue, &settings).await?;
        write_configuration(&state, programs, config)?;
        let master = start_master(&state, programs, config.listen).await?;
        Ok(Self {
            state,
            address: config.listen,
            certificate,
            master,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its self-signed certificate, for its host name and its address; a PEM file.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.state.join(LOG)
    }

    /// What has been received for `recipient`, oldest first.
    ///
    /// # Errors
    /// When a stored message cannot be read.
    pub fn received(&self, recipient: &str) -> Result<Vec<Received>, Error> {
        received(&self.state, recipient)
    }

    /// Waits until `count` messages have been received for `recipient`, for `bound` at most;
    /// returns them all.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait_received(
        &self,
        recipient: &str,
        count: usize,
        bound: Duration,
    ) -> Result<Vec<Received>, Error> {
        let what = format!("message {count} for {recipient}");
        let log = self.log().display().to_string();
        let enough = async || {
            let mail = new_mail(&self.state, recipient)?;
            Ok((mail.len() >= count).then_some(()))
        };
        wait_for(&what, bound, &log, enough).await?;
        self.received(recipient)
    }

    /// Stops it and its verifier. What it received stays.
    ///
    /// # Errors
    /// When a process does not end.
    pub async fn stop(self) -> Result<(), Error> {
        self.master.process().stop().await?;
        // Its parent hands it the signal on, which it takes five seconds to notice (libmilter's poll).
        if let Some(verifier) = Daemon::find(&self.state, opendkim::NAME) {
            verifier.stop().await?;
        }
        Ok(())
    }

    /// Ends the verifier and starts it anew: one that hangs does not come back by itself.
    ///
    /// # Errors
    /// When it does not end, or cannot be started.
    pub async fn restart_verifier(&self) -> Result<(), Error> {
        let name = opendkim::NAME;
        if let Some(parent) = Daemon::find(&self.state, name) {
            let children = parent.children();
            parent.kill().await?;
            for child in children {
                child.kill().await?;
            }
        }
        // The socket of one that was killed would look like a listening one.
        let _ = fs::remove_file(self.state.join("queue").join(opendkim::SOCKET));
        Daemon::start_again(&self.state, name)?;
        Ok(())
    }

    /// Kills the verifier, which comes back.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill_verifier(&self) -> Result<(), Error> {
        let parent = Daemon::find(&self.state, opendkim::NAME);
        for child in parent.into_iter().flat_map(Process::children) {
            child.kill().await?;
        }
        Ok(())
    }
}

/// What the Postfix with its state in `dir` has received for `recipient`, oldest first; it need
/// not run.
///
/// # Errors
/// When a stored message cannot be read.
pub(crate) fn received(state: &StateDir, recipient: &str) -> Result<Vec<Received>, Error> {
    let mut mail = new_mail(state, recipient)?;
    mail.sort();
    mail.into_iter()
        .map(|path| Received::read(recipient, path))
        .collect()
}

/// A message in a Maildir, with what Postfix knew of its journey.
#[derive(Debug, Clone)]
pub struct Received {
    /// The file; lines end in LF.
    pub path: PathBuf,
    /// The mailbox.
    pub recipient: String,
    /// The envelope sender; empty for the null reverse-path.
    pub mail_from: String,
    /// Who delivered it.
    pub client_ip: IpAddr,
    /// The name the client gave.
    pub helo: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// OpenDKIM's verdicts: the Authentication-Results fields that bear this receiver's name.
    pub authentication_results: Vec<String>,
    /// All fields of the header, unfolded, in order.
    pub header: Vec<(String, String)>,
}

impl Received {
    /// The values of all fields called `name`, in order.
    pub fn field(&self, name: &str) -> Vec<&str> {
        message::values(&self.header, name)
    }

    /// The question whether it is what it says it is, for [`super::Judge`].
    pub fn case(&self, nameserver: SocketAddr) -> Case {
        Case {
            message: self.path.clone(),
            client_ip: self.client_ip,
            helo: self.helo.clone(),
            mail_from: self.mail_from.clone(),
            nameserver,
        }
    }

    fn read(recipient: &str, path: PathBuf) -> Result<Self, Error> {
        let raw = fs::read(&path).on("read", &path)?;
        let header = message::fields(&raw);
        let missing = |field| Error::Message {
            path: path.display().to_string(),
            field,
        };
        let first = |name: &'static str| {
            let value = message::values(&header, name).first().copied();
            value.ok_or_else(|| missing(name))
        };
        let mail_from = first("Return-Path")?.trim_matches(['<', '>']).to_owned();
        let trace = first("Received")?;
        let (helo, client_ip) = origin(trace).ok_or_else(|| missing("Received"))?;
        let receiver = trace
            .split_once("by ")
            .and_then(|(_, rest)| rest.split_ascii_whitespace().next())
            .ok_or_else(|| missing("Received"))?;
        let authentication_results = message::values(&header, "Authentication-Results")
            .into_iter()
            .filter(|value| value.split([';', ' ']).next() == Some(receiver))
            .map(str::to_owned)
            .collect();
        Ok(Self {
            recipient: recipient.to_owned(),
            mail_from,
            client_ip,
            tls: trace.contains("(using TLS"),
            authentication_results,
            helo,
            path,
            header,
        })
    }
}

/// The client's name and address out of Postfix's own trace field,
/// `from HELO (unknown [ADDRESS]) ...`.
fn origin(trace: &str) -> Option<(String, IpAddr)> {
    let rest = trace.strip_prefix("from ")?;
    let (helo, rest) = rest.split_once(" (")?;
    let (_, rest) = rest.split_once('[')?;
    let (address, _) = rest.split_once(']')?;
    let address = address.strip_prefix("IPv6:").unwrap_or(address);
    Some((helo.to_owned(), address.parse().ok()?))
}

/// An account that every Debian has.
struct Account {
    name: &'static str,
    id: u32,
}

/// Owns the queue and runs what faces the network. Postfix insists that it is not root and shares
/// its id with no other account.
const OWNER: Account = Account {
    name: "daemon",
    id: 1,
};
/// Owns the mailboxes; also the group that Postfix wants for its submission programs, which are
/// not used here.
const MAIL: Account = Account {
    name: "mail",
    id: 8,
};
/// The log, in the state directory.
const LOG: &str = "logs/postfix-mail.log";
/// How long Postfix may take to listen: a busy machine starts its six processes slowly.
const START_BOUND: Duration = Duration::from_secs(60);

/// The directories of a queue that its owner must own, as `postfix set-permissions` would make
/// them.
const OWNED: &[&str] = &[
    "active", "bounce", "corrupt", "data", "defer", "deferred", "flush", "hold", "incoming",
    "maildrop", "private", "public", "saved", "trace",
];

fn make_directories(queue: &Path) -> Result<(), Error> {
    let make = |name: &str, owner: u32| -> Result<(), Error> {
        let dir = queue.join(name);
        fs::create_dir_all(&dir).on("create", &dir)?;
        chown(&dir, Some(owner), Some(owner)).on("change owner of", &dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).on("restrict", &dir)?;
        Ok(())
    };
    for name in OWNED {
        make(name, OWNER.id)?;
    }
    make(opendkim::directory(), OWNER.id)?;
    make("mail", MAIL.id)?;
    make("pid", 0)?;
    fs::set_permissions(queue, fs::Permissions::from_mode(0o755)).on("open", queue)?;
    Ok(())
}

fn write_configuration(
    state: &StateDir,
    programs: &Programs,
    config: &PostfixConfig,
) -> Result<(), Error> {
    let mailboxes: String = config
        .recipients
        .iter()
        .map(|recipient| format!("{recipient} {recipient}/\n"))
        .collect();
    state.write("postfix/recipients", &mailboxes)?;
    state.write("postfix/main.cf", &main_cf(state, programs, config))?;
    let master = format!("{} inet n - n - - smtpd\n{SERVICES}", config.listen);
    state.write("postfix/master.cf", &master)?;
    Ok(())
}

fn main_cf(state: &StateDir, programs: &Programs, config: &PostfixConfig) -> String {
    let dir = state.path().display();
    let (commands, daemons, libraries) = (
        programs.path("usr/sbin"),
        programs.path("usr/lib/postfix/sbin"),
        programs.path("usr/lib/postfix"),
    );
    let (commands, daemons, libraries) =
        (commands.display(), daemons.display(), libraries.display());
    let (hostname, domains) = (&config.hostname, config.domains.join(" "));
    let (owner, mail, id, socket) = (OWNER.name, MAIL.name, MAIL.id, opendkim::SOCKET);
    format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/queue\n\
         # Relative to the queue, the working directory of all its programs.\n\
         data_directory = ./data\ncommand_directory = {commands}\n\
         daemon_directory = {daemons}\nshlib_directory = {libraries}\n\
         meta_directory = {dir}/postfix\nmail_owner = {owner}\nsetgid_group = {mail}\n\
         default_privs = nobody\nimport_environment = MAIL_CONFIG {LIBRARY_VARIABLE}\n\
         maillog_file = {dir}/{LOG}\nmaillog_file_prefixes = {dir}\n\
         default_database_type = texthash\nmyhostname = {hostname}\nmydestination =\n\
         local_recipient_maps =\nalias_maps =\nalias_database =\nmynetworks =\n\
         # `all` is who it is; what it listens on is in master.cf.\n\
         inet_interfaces = all\ninet_protocols = all\n\
         virtual_mailbox_domains = {domains}\n\
         virtual_mailbox_maps = texthash:{dir}/postfix/recipients\n\
         # The queue's mail directory, absolute as Postfix wants it and yet reached from the\n\
         # working directory.\n\
         virtual_mailbox_base = /proc/self/cwd/mail\n\
         virtual_uid_maps = static:{id}\nvirtual_gid_maps = static:{id}\n\
         virtual_minimum_uid = 1\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_peername_lookup = no\nsmtp_dns_support_level = disabled\n\
         smtpd_forbid_bare_newline = yes\nsmtpd_forbid_bare_newline_exclusions =\n\
         # No slowing down of clients: what is measured here is not Postfix.\n\
         # What it could not store it tries again soon.\n\
         minimal_backoff_time = 2s\nmaximal_backoff_time = 4s\nqueue_run_delay = 2s\n\
         smtpd_error_sleep_time = 0\nsmtpd_client_connection_count_limit = 0\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {dir}/tls.crt\n\
         smtpd_tls_key_file = {dir}/tls.key\nsmtpd_tls_received_header = yes\n\
         smtpd_tls_loglevel = 1\n\
         smtpd_milters = unix:{socket}\nmilter_default_action = tempfail\n"
    )
}

/// Postfix's parts besides the receiving one, none of them in a chroot, none that sends.
const SERVICES: &str = "\
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
smtp unix - - n - - error
relay unix - - n - - error
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

async fn start_master(
    state: &StateDir,
    programs: &Programs,
    listen: SocketAddr,
) -> Result<Daemon, Error> {
    let master = Daemon::start(
        state,
        &Spec {
            name: "postfix".to_owned(),
            program: programs.path("usr/lib/postfix/sbin/master"),
            // Stay in the process group made for it, which it ends as a whole on SIGTERM.
            args: vec!["-d".to_owned()],
            env: vec![
                (LIBRARY_VARIABLE.to_owned(), programs.library_path()),
                (
                    "MAIL_CONFIG".to_owned(),
                    state.join("postfix").display().to_string(),
                ),
            ],
            enclosed: Enclosed::No,
        },
    )?;
    let listening = async || tokio::net::TcpStream::connect(listen).await.is_ok();
    master.wait_until("postfix", START_BOUND, listening).await?;
    Ok(master)
}

/// The files of a mailbox that Postfix has finished writing.
fn new_mail(state: &StateDir, recipient: &str) -> Result<Vec<PathBuf>, crate::cluster::Error> {
    let dir = state.join("queue/mail").join(recipient).join("new");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    fs::read_dir(&dir)
        .on("list", &dir)?
        .map(|entry| Ok(entry.on("list", &dir)?.path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_field_names_the_client() {
        let table = [
            (
                "from me.test (unknown [127.0.0.1]) by mx",
                "me.test",
                "127.0.0.1",
            ),
            (
                "from x (unknown [IPv6:2001:db8::1])\t(using TLSv1.3",
                "x",
                "2001:db8::1",
            ),
            (
                "from [10.0.0.1] (unknown [10.0.0.1]) by mx",
                "[10.0.0.1]",
                "10.0.0.1",
            ),
        ];
        for (trace, helo, ip) in table {
            let wanted = (helo.to_owned(), ip.parse().unwrap());
            assert_eq!(origin(trace), Some(wanted), "{trace}");
        }
        assert_eq!(origin("by mx.test (Postfix, from userid 0)"), None);
    }
}
