//! `postrider-operator`: arguments in, exit code out. 64: the command line is wrong (sysexits
//! EX_USAGE); 1: the operator could not run.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use postrider_operator::{
    app,
    settings::{LogFormat, Settings},
};
use postrider_process::{keep_memory_private, refuse_huge_pages, stop_on_signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What a start needs of memory, lists of thousands of objects above all, it gives back afterwards.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a wrong command line.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            // Printing can only fail when there is nobody to read it.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    start_log(settings.log_format);
    if let Err(error) = keep_memory_private() {
        tracing::warn!(%error, "a crash may write private keys into a core file");
    }
    if let Err(error) = refuse_huge_pages() {
        tracing::warn!(%error, "threads may take some MiB of memory each");
    }
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        tracing::error!("a TLS provider was installed before main");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "runtime not started");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "operator ended");
            match error {
                app::AppError::Usage(_) => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(settings: Settings) -> Result<(), app::AppError> {
    let stop = CancellationToken::new();
    if let Err(error) = stop_on_signal(&stop) {
        tracing::warn!(%error, "signals cannot be listened for; the process can only be killed");
    }
    app::run(settings, stop).await
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
