//! A scripted SMTP receiver as a process; see `postrider_e2e::peers::sink`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use postrider_e2e::peers::{
    Error,
    sink::{Rules, Sink},
};

/// Receives mail as a script says and writes down what happened.
#[derive(Debug, Parser)]
#[command(name = "e2e-sink")]
struct Args {
    /// Where to listen, address and port
    #[arg(long)]
    listen: SocketAddr,
    /// The script, a JSON file; without it everything is taken
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Where transactions.jsonl and messages/ are written
    #[arg(long)]
    dir: PathBuf,
    /// The name to greet with
    #[arg(long, default_value = "sink.test")]
    hostname: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let rules = match args.rules.as_deref().map(read).transpose() {
        Ok(rules) => rules.unwrap_or_default(),
        Err(message) => {
            eprintln!("e2e-sink: {message}");
            return ExitCode::from(64);
        }
    };
    match run(&args, rules).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e-sink: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, rules: Rules) -> Result<(), Error> {
    let sink = Sink::start(&args.dir, args.listen, &args.hostname, rules).await?;
    eprintln!("listening on {}", sink.address());
    sink.run().await;
    Ok(())
}

fn read(path: &Path) -> Result<Rules, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("--rules {}: {error}; give a readable file", path.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("--rules {}: {error}; correct the script", path.display()))
}
