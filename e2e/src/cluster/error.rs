//! What can go wrong while a cluster is brought up, used or taken down.
//!
//! Promises: each message names what was being done, to what, and where the log of the part at
//! fault lies. The cluster is test machinery, so one enum serves all its modules: nobody decides
//! anything by the variant except [`Error::exit_code`].

use std::{io, path::PathBuf, process::ExitStatus};

/// The failure of a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read, written or removed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot run {program}: {source}; install it or put it in PATH")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("{program} failed ({status}): {output}")]
    Exit {
        /// The program and its arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        output: String,
    },
    /// Something did not come about within its bound.
    #[error("{what} did not come about in {seconds} s; see {log}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The bound.
        seconds: u64,
        /// Where to look.
        log: String,
    },
    /// A part ended although it should run on.
    #[error("{name} ended; the end of its log {log}:\n{tail}")]
    Died {
        /// The part.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// The user asked for what cannot be.
    #[error("{field} {value:?}: {remedy}")]
    Usage {
        /// The argument, variable or file line.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What to do instead.
        remedy: String,
    },
    /// A certificate or key could not be made.
    #[error("cannot make certificate {name}: {source}")]
    Certificate {
        /// For whom.
        name: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// The API server refused, or could not be reached.
    #[error("kubernetes: {0}")]
    Kube(#[from] Box<kube::Error>),
    /// The kubeconfig could not be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
}

impl Error {
    /// The exit code for it: 64 when the user can put it right by asking otherwise, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 64,
            _ => 1,
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Turns an I/O error into one that names the path.
pub(crate) trait OnPath<T> {
    /// Names the `action` tried on `path`.
    fn on(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            action,
            path: path.into(),
            source,
        })
    }
}
