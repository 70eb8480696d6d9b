//! OpenDKIM as a verifying milter: it writes an Authentication-Results field (RFC 8601) on top of
//! every message, by its own DKIM code and its own resolver (libunbound).
//!
//! Guarantees: it asks only the name server given, never that of `resolv.conf`, and remembers no
//! answer, nor for long that a name server was slow; it drops root before it reads a byte of mail; when
//! it dies it comes back. With several messages at once it does die now and then, of its own memory
//! (2.11 with libunbound); Postfix defers mail meanwhile.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::{
    error::Error,
    programs::{LIBRARY_VARIABLE, Programs},
};
use crate::cluster::{
    StateDir,
    daemon::{Daemon, Enclosed, Spec},
};

/// Its directory and socket, relative to Postfix's queue directory: Postfix reaches the socket
/// from there whatever the rights on the directories above, and however long their path.
const DIR: &str = "milter";
/// The socket in it.
pub(crate) const SOCKET: &str = "milter/opendkim.sock";
/// What its process is known by.
pub(crate) const NAME: &str = "opendkim";
/// How long it may take to listen.
const START_BOUND: Duration = Duration::from_secs(30);

/// Starts it under `queue`, a directory of `state`, as the account `account`, which must own
/// [`directory`].
pub(crate) async fn start(
    state: &StateDir,
    programs: &Programs,
    queue: &Path,
    settings: &Settings<'_>,
) -> Result<(), Error> {
    let Settings { nameserver, .. } = settings;
    state.write(
        &format!("queue/{DIR}/opendkim.conf"),
        &configuration(settings),
    )?;
    state.write(
        &format!("queue/{DIR}/unbound.conf"),
        &resolver_configuration(*nameserver),
    )?;
    // `env` becomes OpenDKIM, so the pid stays the same.
    let args = [
        format!("--chdir={}", queue.display()),
        programs.path("usr/sbin/opendkim").display().to_string(),
        "-f".to_owned(),
        "-x".to_owned(),
        format!("{DIR}/opendkim.conf"),
    ];
    let daemon = Daemon::start(
        state,
        &Spec {
            name: NAME.to_owned(),
            program: "env".into(),
            args: args.to_vec(),
            env: vec![(LIBRARY_VARIABLE.to_owned(), programs.library_path())],
            enclosed: Enclosed::No,
        },
    )?;
    let socket = queue.join(SOCKET);
    let listening = async || socket.exists();
    daemon
        .wait_until("opendkim's socket", START_BOUND, listening)
        .await?;
    Ok(())
}

/// The directory that its account must own, in `queue`.
pub(crate) const fn directory() -> &'static str {
    DIR
}

/// What it has to know.
pub(crate) struct Settings<'a> {
    /// The name under which it signs its verdicts.
    pub(crate) authserv_id: &'a str,
    /// The account it runs as.
    pub(crate) account: &'a str,
    /// The only name server it asks.
    pub(crate) nameserver: SocketAddr,
}

fn configuration(settings: &Settings<'_>) -> String {
    let Settings {
        authserv_id,
        account,
        ..
    } = settings;
    format!(
        "Mode v\nSyslog no\nAutoRestart yes\nUserID {account}\nSocket local:{SOCKET}\nUMask 007\n\
         AuthservID {authserv_id}\nAlwaysAddARHeader yes\nMinimumKeyBits 1024\n\
         ResolverConfiguration {DIR}/unbound.conf\n\
         # Mail from the machine itself is verified like any other.\n\
         InternalHosts 0.0.0.0/32\n"
    )
}

fn resolver_configuration(nameserver: SocketAddr) -> String {
    let (ip, port) = (nameserver.ip(), nameserver.port());
    // A name server that was too slow for a moment is asked again a second later. By default unbound
    // takes it for dead for a quarter of an hour, and OpenDKIM defers all mail meanwhile. Without
    // `nodefault`, unbound itself answers for the reserved zones (RFC 6761) of tests.
    format!(
        "server:\n  do-not-query-localhost: no\n  module-config: \"iterator\"\n\
         \x20 cache-max-ttl: 0\n  cache-max-negative-ttl: 0\n  use-syslog: no\n\
         \x20 infra-host-ttl: 1\n  infra-keep-probing: yes\n  infra-cache-max-rtt: 1000\n\
         \x20 local-zone: \"test.\" nodefault\n  local-zone: \"invalid.\" nodefault\n\
         forward-zone:\n  name: \".\"\n  forward-addr: {ip}@{port}\n"
    )
}
