//! The command that brings a cluster up, uses it and takes it down.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use postrider_e2e::cluster::{
    Archive, Cache, Cluster, Error, KUBECONFIG_VARIABLE, Progress, Tools,
};
use tokio::process::Command;

/// A real single-node Kubernetes for the demo and the tests.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the cluster keeps its state.
    #[arg(long, global = true, default_value = "target/cluster")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring the cluster up; with E2E_KUBECONFIG set, only say that that one is used.
    Up,
    /// Take it down and leave the machine as it was.
    Down,
    /// Say which parts run; fails unless all do.
    Status,
    /// Print the path of its kubeconfig.
    Kubeconfig,
    /// Put images into it: NAME:TAG=PROGRAM, =DIRECTORY or =CONTAINERFILE@CONTEXT.
    LoadImage {
        /// The images.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write an image to an OCI archive, for a cluster of yours (kind load image-archive).
    PackImage {
        /// The image, as for load-image.
        image: String,
        /// The file to write.
        archive: PathBuf,
    },
    /// Only fill the cache of binaries.
    BuildTools,
    /// Bring it up, run a command against it, take it down.
    Run {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match act(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e-cluster: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn act(arguments: &Arguments) -> Result<ExitCode, Error> {
    let dir = arguments.dir.as_path();
    let progress = Progress::start();
    match &arguments.action {
        Action::Up => up(dir, &progress).await?,
        Action::Down => {
            progress
                .step("taking the cluster down", Cluster::down(dir))
                .await?;
        }
        Action::Status => return status(dir),
        Action::Kubeconfig => {
            let cluster = Cluster::attach(dir, &Progress::nowhere()).await?;
            println!("{}", cluster.kubeconfig().display());
        }
        Action::LoadImage { images } => {
            let cluster = Cluster::attach(dir, &Progress::nowhere()).await?;
            for image in images {
                let image = Archive::of_argument(image)?;
                progress
                    .step(image.name(), cluster.load_image(&image))
                    .await?;
            }
        }
        Action::PackImage { image, archive } => {
            let image = Archive::of_argument(image)?;
            progress.step(image.name(), image.write(archive)).await?;
        }
        Action::BuildTools => {
            Tools::ready(&Cache::of_user()?, &progress).await?;
            progress.done("all binaries cached");
        }
        Action::Run { command } => return run(dir, command, &progress).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The kubeconfig of the user's own cluster, if that is to be used.
fn own_cluster() -> Option<String> {
    env::var(KUBECONFIG_VARIABLE)
        .ok()
        .filter(|path| !path.is_empty())
}

async fn up(dir: &Path, progress: &Progress) -> Result<(), Error> {
    if let Some(own) = own_cluster() {
        println!("{KUBECONFIG_VARIABLE} is set: your cluster of {own} is used, none is started");
        return Ok(());
    }
    let cluster = Cluster::up(dir, progress).await?;
    progress.done("the cluster is up");
    let tools = cluster.tools();
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("export PATH={}", tools.search_path("$PATH"));
    println!(
        "# name server, also for the test zones: {}",
        cluster.dns().address()
    );
    println!(
        "# take it down: e2e-cluster --dir {} down",
        cluster.state().path().display()
    );
    Ok(())
}

fn status(dir: &Path) -> Result<ExitCode, Error> {
    let parts = Cluster::parts(dir)?;
    let mut all = true;
    for (name, pid) in parts {
        all &= pid.is_some();
        let state = pid.map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
        println!("{name:24} {state}");
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(dir: &Path, command: &[String], progress: &Progress) -> Result<ExitCode, Error> {
    let Some((program, args)) = command.split_first() else {
        return Ok(ExitCode::FAILURE);
    };
    let mut child = Command::new(program);
    child.args(args);
    if let Some(own) = own_cluster() {
        println!("{KUBECONFIG_VARIABLE} is set: your cluster of {own} is used, none is started");
        return finish(child, program).await;
    }
    let cluster = Cluster::up(dir, progress).await?;
    progress.done("the cluster is up");
    child.envs(cluster.environment());
    let result = finish(child, program).await;
    progress
        .step("taking the cluster down", Cluster::down(dir))
        .await?;
    result
}

/// Runs the command to its end. Ctrl-C reaches it too, and it alone decides what to do: the
/// cluster is taken down after it either way.
async fn finish(mut command: Command, program: &str) -> Result<ExitCode, Error> {
    let fault = |source| Error::Spawn {
        program: program.to_owned(),
        source,
    };
    let mut child = command.spawn().map_err(fault)?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(fault)?,
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(ExitCode::from(code))
}
