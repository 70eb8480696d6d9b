//! Python with the judges' packages: a virtual environment in the cache, named after what is in
//! it, and our scripts, which are compiled into this program and handed to the interpreter.

use std::{path::PathBuf, process::Stdio};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::error::Error;
use crate::cluster::{self, Cache, command::Program, digest::sha256};

/// The packages, pinned.
const REQUIREMENTS: &str = include_str!("../../judge/requirements.txt");

/// An interpreter that has the packages.
#[derive(Debug, Clone)]
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// The interpreter of the machine, `python3` in `PATH`: enough for the standard library.
    pub(crate) fn of_machine() -> Self {
        Self {
            program: "python3".into(),
        }
    }

    /// One with the packages; made if it is not in `cache`.
    pub(crate) async fn ready(cache: &Cache) -> Result<Self, Error> {
        // An environment is bound to the interpreter it was made with.
        let show = "import sys; print(sys.version, sys.base_prefix)";
        let version = Program::new("python3").args(["-c", show]).output().await?;
        let digest = sha256(format!("{REQUIREMENTS}{version}").as_bytes());
        let entry = format!("judge-{}", digest.get(..8).unwrap_or(&digest));
        let dir = cache.entry(&entry, make).await?;
        Ok(Self {
            program: dir.join("bin/python"),
        })
    }

    /// Runs `script` with `input` on its standard input; returns what it wrote.
    pub(crate) async fn run(&self, script: Script, input: &[u8]) -> Result<Vec<u8>, Error> {
        let program = script.name.to_owned();
        let mut child = Command::new(&self.program)
            .args(["-c", script.text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| cluster::Error::Spawn {
                program: self.program.display().to_string(),
                source,
            })?;
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A script that ends early says why on its standard error, shown below.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(|source| cluster::Error::Spawn {
            program: program.clone(),
            source,
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let output_text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(cluster::Error::Exit {
            program,
            status: output.status,
            output: output_text,
        }
        .into())
    }
}

/// A script of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// Its file name, for messages.
    pub(crate) name: &'static str,
    /// Its text.
    pub(crate) text: &'static str,
}

/// Values as lines of JSON.
pub(crate) fn json_lines<T: Serialize>(script: Script, values: &[T]) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::new();
    for value in values {
        serde_json::to_writer(&mut lines, value).map_err(|source| Error::Output {
            program: script.name,
            line: String::new(),
            source,
        })?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The values of lines of JSON; if `asked` says how many, exactly as many.
pub(crate) fn parse_lines<T: DeserializeOwned>(
    script: Script,
    output: &[u8],
    asked: Option<usize>,
) -> Result<Vec<T>, Error> {
    let text = String::from_utf8_lossy(output);
    let values = text
        .lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|source| Error::Output {
                program: script.name,
                line: line.to_owned(),
                source,
            })
        })
        .collect::<Result<Vec<T>, Error>>()?;
    match asked {
        Some(asked) if asked != values.len() => Err(Error::Count {
            program: script.name,
            asked,
            answered: values.len(),
        }),
        _ => Ok(values),
    }
}

async fn make(dir: PathBuf) -> Result<(), cluster::Error> {
    Program::new("python3")
        .args(["-m", "venv"])
        .args([&dir])
        .run()
        .await?;
    let requirements = dir.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS).map_err(|source| cluster::Error::File {
        action: "write",
        path: requirements.clone(),
        source,
    })?;
    // Called by path to the interpreter, never by the scripts in bin, so it may be renamed.
    Program::new(dir.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .args([&requirements])
        .run()
        .await
}
