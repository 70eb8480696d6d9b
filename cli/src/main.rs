//! The `postrider` command; installed as `kubectl-postrider` it is also `kubectl postrider`.
//!
//! Owns arguments and exit codes: 0 done, 1 it could not be done (the reason on standard error),
//! 64 the command line is wrong. What is printed is made by [`records`] and [`status`], which are
//! pure; what is read comes through [`cluster`]. Nothing is ever written to the cluster.

mod args;
mod cluster;
mod domain_records;
mod error;
#[cfg(test)]
mod golden;
mod overview;
mod records;
mod status;
mod text;
mod zone;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use args::{Arguments, Command, Format, Output};
use cluster::Cluster;
use domain_records::DomainRecords;
use error::Error;
use overview::Overview;

/// Exit code for a wrong command line (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Several providers may be linked in; the first choice stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nobody is left to tell when standard error is closed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(arguments).await.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<String, Error> {
    let cluster = Cluster::connect(&arguments.connection).await?;
    match arguments.command {
        Command::Records {
            name,
            namespace,
            format,
            output,
        } => {
            let namespace = namespace.unwrap_or_else(|| cluster.namespace().to_owned());
            let domain = cluster.sending_domain(&namespace, &name).await?;
            let pool = &domain.spec.pool_ref.name;
            let pool = cluster.relay_pool_if_any(&namespace, pool).await?;
            let records = DomainRecords::of(&domain, pool.as_ref());
            match (output, format) {
                (Some(Output::Json), _) => json(&records),
                (None, Format::Table) => Ok(records::table(&records)),
                (None, Format::Zone) => Ok(zone::zone(&records)),
            }
        }
        Command::Status {
            namespace,
            all_namespaces,
            output,
        } => {
            let namespace = namespace.unwrap_or_else(|| cluster.namespace().to_owned());
            let namespace = (!all_namespaces).then_some(namespace);
            let overview = Overview::of(&cluster.everything(namespace.as_deref()).await?);
            match output {
                Some(Output::Json) => json(&overview),
                None => Ok(status::page(&overview, namespace.as_deref())),
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(Error::Render)?;
    text.push('\n');
    Ok(text)
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Print),
    }
}
