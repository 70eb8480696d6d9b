//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use postrider_crds::{Duration, queue::Verb};

use crate::check::resolver;

/// Look after outbound mail declared with Postrider.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster.
#[derive(Debug, Default, Args)]
pub(crate) struct Connection {
    /// Path of the kubeconfig; default: $KUBECONFIG, ~/.kube/config, then the pod's own account
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the DNS records a SendingDomain needs, wanted beside seen
    Records {
        /// Name of the SendingDomain
        name: String,
        /// Namespace of the SendingDomain; default: that of the context
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Print for programs instead
        #[arg(short, long, value_enum, conflicts_with = "format")]
        output: Option<Output>,
    },
    /// Check manifests against their schema and live DNS, without a cluster
    ///
    /// Exit codes: 0 nothing failed, 1 something did, 2 the check could not be made.
    Check {
        /// File or folder of manifests, - for standard input; may be given several times
        #[arg(short, long = "filename", value_name = "PATH", required = true)]
        filename: Vec<PathBuf>,
        /// DNS server to ask, as ADDRESS or ADDRESS:PORT; may be given several times. Default:
        /// those of /etc/resolv.conf
        #[arg(long = "resolver", value_name = "ADDRESS", value_parser = resolver)]
        resolvers: Vec<SocketAddr>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t = CheckOutput::Table)]
        output: CheckOutput,
    },
    /// Replace the DKIM keys of a SendingDomain, and follow the new ones until they sign
    ///
    /// Exit codes: 0 they sign, 1 they do not yet or it could not be asked for.
    Rotate {
        /// Name of the SendingDomain
        name: String,
        /// Namespace of the SendingDomain; default: that of the context
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// Text to write into spec.dkim.rotation.trigger; default: the time
        #[arg(long, value_name = "TEXT")]
        trigger: Option<String>,
        /// How long to follow, such as 90s or 1h; the rotation itself goes on
        #[arg(long, value_name = "DURATION", default_value = "30m")]
        timeout: Duration,
        /// Print for programs instead
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Show what waits in the queue of a RelayPool, or hold, release, suspend, resume, flush or expire it
    Queue(QueueArguments),
    /// Print pools, domains and lists at a glance, and what to fix next
    Status {
        /// Namespace to look at; default: that of the context
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// Look at every namespace
        #[arg(short = 'A', long, conflicts_with = "namespace")]
        all_namespaces: bool,
        /// Print for programs instead
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
}

/// Which queue, and what to do with what in it.
///
/// Without a verb: how much waits for what. With one: every pod of the pool is told, and what is to
/// be done is done there until it is undone, over restarts too. Exit codes: 0 every pod did it, 1
/// some pod did not or there was nothing to do, 2 the order is not understood.
#[derive(Debug, Args)]
pub(crate) struct QueueArguments {
    /// Name of the RelayPool
    pub(crate) pool: String,
    /// What to do: hold (not attempted until released; keeps ageing), release (ends a hold, or lets
    /// one message out of a wider one), suspend (domain, site or tenant not attempted for a while or
    /// until resumed), resume, flush (what waits for its next attempt is tried now), expire (given up
    /// now, senders are told)
    #[arg(value_parser = verb(), requires = "reason")]
    pub(crate) verb: Option<Verb>,
    /// Namespace of the RelayPool; default: that of the context
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The message of this id
    #[arg(long, value_name = "ID", group = "scope", requires = "verb")]
    pub(crate) message: Option<String>,
    /// All mail to this recipient domain
    #[arg(long, value_name = "DOMAIN", group = "scope", requires = "verb")]
    pub(crate) domain: Option<String>,
    /// All mail to these receivers, as events name the site, or by one of its MX hosts
    #[arg(long, value_name = "SITE", group = "scope", requires = "verb")]
    pub(crate) site: Option<String>,
    /// All mail of this tenant: NAMESPACE/NAME of the Secret it logs in with
    #[arg(long, value_name = "TENANT", group = "scope", requires = "verb")]
    pub(crate) tenant: Option<String>,
    /// Why; kept with the order, and told by events
    #[arg(long, value_name = "TEXT", requires = "verb")]
    pub(crate) reason: Option<String>,
    /// When a suspension ends by itself: a time such as 2026-01-31T12:00:00Z, or a while such as 2h
    #[arg(long, value_name = "WHEN", requires = "verb")]
    pub(crate) until: Option<String>,
    /// Print for programs instead
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,
}

fn verb() -> impl TypedValueParser<Value = Verb> {
    PossibleValuesParser::new(Verb::ALL.map(Verb::as_str)).try_map(|verb| verb.parse())
}

/// How records are printed for people and name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// State, wanted and seen text, and what to do
    Table,
    /// Master-file lines to paste into a zone (RFC 1035 section 5)
    Zone,
    /// A DNSEndpoint for external-dns to publish, as YAML
    ExternalDns,
    /// Resources of the hashicorp/dns provider of Terraform
    Terraform,
}

/// How a check is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckOutput {
    /// What has to be done, object by object
    Table,
    /// JSON
    Json,
    /// JUnit XML, for continuous integration
    Junit,
}

/// How anything is printed for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// JSON
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "postrider records",
            "postrider records shop --format bind",
            "postrider records shop -o json --format zone",
            "postrider status -n mail -A",
            "postrider statsu",
            "postrider check",
            "postrider rotate",
            "postrider rotate shop --timeout soon",
            "postrider check -f a --resolver dns.example.net",
            "postrider queue",
            "postrider queue default hodl --domain one.test --reason x",
            "postrider queue default hold --domain one.test",
            "postrider queue default --domain one.test",
            "postrider queue default hold --domain one.test --tenant t --reason x",
        ] {
            assert!(
                Arguments::try_parse_from(line.split(' ')).is_err(),
                "{line}"
            );
        }
        let line = "postrider records shop -n mail --format zone --context prod";
        assert!(Arguments::try_parse_from(line.split(' ')).is_ok());
    }
}
