//! What can go wrong with a peer. What a server *answers* is never an error here, only that no
//! answer could be had or understood.

use crate::cluster;

/// The failure of a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, a program or a wait failed.
    #[error(transparent)]
    Step(#[from] cluster::Error),
    /// A program's output is not what it promises.
    #[error("{program} wrote {line:?}, which cannot be read: {source}")]
    Output {
        /// Which program.
        program: &'static str,
        /// The line it wrote.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A program answered fewer or more questions than it was asked.
    #[error("{program} was asked {asked} questions and gave {answered} answers")]
    Count {
        /// Which program.
        program: &'static str,
        /// How many lines went in.
        asked: usize,
        /// How many came out.
        answered: usize,
    },
    /// A stored message lacks what the receiver writes on top of it.
    #[error("message {path} has no usable {field} field")]
    Message {
        /// The file.
        path: String,
        /// The field.
        field: &'static str,
    },
    /// A certificate is not usable for TLS.
    #[error("certificate: {0}")]
    Tls(#[from] rustls::Error),
}
