//! The `postrider` command; installed as `kubectl-postrider` it is also `kubectl postrider`.
//!
//! Owns arguments and exit codes: 0 done, 1 it could not be done (the reason on standard error) or
//! a check found something, 2 the command line is wrong or a check could not be made. What is
//! printed is made by [`records`] and [`status`], which are pure; what is read comes through
//! [`cluster`]. Nothing is written to the cluster but the wish of [`rotate`]; [`queue`] gives orders
//! to relay pods.

mod args;
mod check;
mod cluster;
mod domain_records;
mod error;
mod external_dns;
#[cfg(test)]
mod golden;
mod overview;
mod queue;
mod records;
mod rotate;
mod rotation;
mod status;
mod terraform;
mod text;
mod zone;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use postrider_operator::clock::{Clock as _, SystemClock};

use args::{Arguments, Command, Connection, Format, Output};
use cluster::Cluster;
use domain_records::DomainRecords;
use error::Error;
use overview::Overview;

/// Exit code for a wrong command line: above what a check finds, as diff and grep do it.
const USAGE: u8 = 2;

/// What a command answers.
struct Answer {
    text: String,
    code: ExitCode,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        let code = ExitCode::SUCCESS;
        Self { text, code }
    }
}

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
    let answer = run(arguments).await;
    match answer.and_then(|answer| print(&answer.text).map(|()| answer.code)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<Answer, Error> {
    let connection = arguments.connection;
    match arguments.command {
        Command::Check {
            filename,
            resolvers,
            output,
        } => {
            let report = check::check(&filename, &resolvers).await?;
            let text = check::print(&report, output)?;
            let code = ExitCode::from(u8::from(report.failed > 0));
            Ok(Answer { text, code })
        }
        Command::Records {
            name,
            namespace,
            format,
            output,
        } => {
            let (cluster, namespace) = connect(&connection, namespace).await?;
            let domain = cluster.sending_domain(&namespace, &name).await?;
            let pool = &domain.spec.pool_ref.name;
            let pool = cluster.relay_pool_if_any(&namespace, pool).await?;
            let records = DomainRecords::of(&domain, pool.as_ref());
            print_records(&records, format, output).map(Answer::from)
        }
        Command::Rotate {
            name,
            namespace,
            trigger,
            timeout,
            output,
        } => {
            let (cluster, namespace) = connect(&connection, namespace).await?;
            let trigger = trigger.unwrap_or_else(|| SystemClock::new().now().to_string());
            let timeout = timeout.to_std();
            let rotation = rotate::rotate(&cluster, &namespace, &name, &trigger, timeout).await?;
            let text = match output {
                Some(Output::Json) => json(&rotation)?,
                None => rotation.table(),
            };
            let code = ExitCode::from(u8::from(!rotation.done));
            Ok(Answer { text, code })
        }
        Command::Queue(arguments) => queue::run(&connection, arguments).await,
        Command::Status {
            namespace,
            all_namespaces,
            output,
        } => {
            let (cluster, namespace) = connect(&connection, namespace).await?;
            let namespace = (!all_namespaces).then_some(namespace);
            let overview = Overview::of(&cluster.everything(namespace.as_deref()).await?);
            print_overview(&overview, namespace.as_deref(), output).map(Answer::from)
        }
    }
}

/// The cluster, and the namespace given or that of the context.
async fn connect(
    connection: &Connection,
    namespace: Option<String>,
) -> Result<(Cluster, String), Error> {
    let cluster = Cluster::connect(connection).await?;
    let namespace = namespace.unwrap_or_else(|| cluster.namespace().to_owned());
    Ok((cluster, namespace))
}

fn print_records(
    records: &DomainRecords,
    format: Format,
    output: Option<Output>,
) -> Result<String, Error> {
    match (output, format) {
        (Some(Output::Json), _) => json(records),
        (None, Format::Table) => Ok(records::table(records)),
        (None, Format::Zone) => Ok(zone::zone(records)),
        (None, Format::ExternalDns) => external_dns::manifest(records),
        (None, Format::Terraform) => Ok(terraform::configuration(records)),
    }
}

fn print_overview(
    overview: &Overview,
    namespace: Option<&str>,
    output: Option<Output>,
) -> Result<String, Error> {
    match output {
        Some(Output::Json) => json(overview),
        None => Ok(status::page(overview, namespace)),
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
