//! What can go wrong with the benchmark itself. What a contender does badly is a result, not an
//! error.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The failure of a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, written or made.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program cannot be run, or failed.
    #[error("{program}: {reason}")]
    Program {
        /// Which.
        program: String,
        /// What it said, or why it could not be started.
        reason: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s in vain for {what}; see {}", log.display())]
    Late {
        /// What.
        what: String,
        /// How long.
        seconds: u64,
        /// Where to look.
        log: PathBuf,
    },
    /// A socket failed.
    #[error("{what}: {source}")]
    Socket {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A value that cannot be used.
    #[error("{field} {value:?}: {remedy}")]
    Usage {
        /// The field or flag.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        remedy: String,
    },
    /// A key or certificate cannot be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A contender took a message and cannot account for it.
    #[error("{0}")]
    Lost(String),
}

/// Names the file an I/O error belongs to.
pub(crate) trait OnPath<T> {
    /// The same, with what was tried on which file.
    fn on(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            action,
            path: path.as_ref().to_owned(),
            source,
        })
    }
}

/// Says what a socket was for.
pub(crate) trait OnSocket<T> {
    /// The same, with what was tried.
    fn at(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> OnSocket<T> for io::Result<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Socket {
            what: what(),
            source,
        })
    }
}
