//! The demo: `e2e-demo run` shows it and leaves it up, `e2e-demo clean` takes it down.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use postrider_e2e::{
    cluster::Progress,
    demo::{Demo, Error},
};

/// From YAML to delivered, signed, verified mail on a real Kubernetes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the demo keeps its state.
    #[arg(long, global = true, default_value = "target/demo")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show it; exit code 1 if anything is not as it should be, 64 if something has to be told.
    Run,
    /// Take it down.
    Clean,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let demo = Demo::new(&arguments.dir);
    let result: Result<bool, Error> = match arguments.action {
        Action::Run => demo.run(&Progress::start()).await,
        Action::Clean => demo.clean().await.map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e-demo: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
