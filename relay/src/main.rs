//! The relay's command line, signals and exit codes: 0 after a clean stop, 64 for a wrong command
//! line or configuration (`EX_USAGE`), 1 for everything else.
//!
//! Events go to standard output, one JSON object a line; the program's own log to standard error.

use std::{io::IsTerminal as _, net::IpAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use postrider_crds::{
    Duration,
    relay_config::ports::{ADMIN, METRICS},
};
use postrider_process::{keep_memory_private, refuse_huge_pages, stop_on_signal};
use postrider_relay::{
    app::{self, Options},
    config::{Pod, Settings},
    ports::{Documents as _, MountedDirectory},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Cheaper than glibc's on the accept and deliver paths, whose tasks are allocated on one thread and
/// freed on another, and gives back what a long queue needed once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 64;

/// Takes custody of mail and delivers it.
#[derive(Debug, Parser)]
#[command(
    name = "postrider-relay",
    version,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says whether the relay could work with a configuration directory, and if not, why.
    CheckConfig {
        /// The directory.
        dir: PathBuf,
        /// Name of a pod; the number at its end is the ordinal.
        #[arg(long, default_value = "relay-0")]
        pod_name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Directory the configuration is mounted in.
    #[arg(long, env = "POSTRIDER_CONFIG_DIR", default_value = "/etc/postrider")]
    config_dir: PathBuf,
    /// Directory of the spool, on a volume that outlives the pod.
    #[arg(long, env = "POSTRIDER_SPOOL", default_value = "/var/spool/postrider")]
    spool: PathBuf,
    /// Name of this pod; the number at its end is the ordinal.
    #[arg(long, env = "POSTRIDER_POD_NAME", default_value = "relay-0")]
    pod_name: String,
    /// Address the listeners bind to; all of the machine when absent.
    #[arg(long)]
    listen_address: Option<IpAddr>,
    /// Port of /metrics, /healthz and /readyz.
    #[arg(long, default_value_t = METRICS)]
    metrics_port: u16,
    /// Port of the admin API (mutual TLS).
    #[arg(long, default_value_t = ADMIN)]
    admin_port: u16,
    /// How long what is under way may take after SIGTERM; keep it below the grace period.
    #[arg(long, default_value = "20s")]
    shutdown_budget: Duration,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    match arguments.command {
        Some(Command::CheckConfig { dir, pod_name }) => check_config(dir, &pod_name),
        None => serve(arguments.serve),
    }
}

fn check_config(dir: PathBuf, pod_name: &str) -> ExitCode {
    let documents = match MountedDirectory::new(dir.clone()).read() {
        Ok(documents) => documents,
        Err(error) => {
            eprintln!("{}: {error}", dir.display());
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    match Settings::build(&documents, &Pod::named(pod_name)) {
        Ok(settings) => {
            println!(
                "{} documents, {} domains, {} credentials, {} suppression entries: good",
                settings.documents.len(),
                settings.domains.len(),
                settings.credentials.len(),
                settings.suppression.len()
            );
            ExitCode::SUCCESS
        }
        Err(refused) => {
            for document in refused {
                eprintln!("{}: {}", document.path, document.error);
            }
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn serve(arguments: Serve) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if let Err(error) = keep_memory_private() {
        tracing::warn!(%error, "a crash may write private keys into a core file");
    }
    if let Err(error) = refuse_huge_pages() {
        tracing::warn!(%error, "threads may take some MiB of memory each");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let options = Options {
        config_dir: arguments.config_dir,
        spool: arguments.spool,
        pod: Pod::named(&arguments.pod_name),
        address: arguments.listen_address,
        metrics_port: arguments.metrics_port,
        admin_port: arguments.admin_port,
        shutdown_budget: arguments.shutdown_budget.to_std(),
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signal(&stop).map_err(|error| error.to_string())?;
        app::run(options, stop)
            .await
            .map_err(|error| error.to_string())
    });
    // Sessions beyond the budget are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "cannot go on");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
