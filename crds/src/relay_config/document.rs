//! What all documents have in common: YAML with a version, read whole or refused.
//!
//! Promises: an error names the document, the field and the line, and repeats no value long enough to be
//! a key.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of every document in this module.
pub const DOCUMENT_VERSION: u32 = 1;

/// A document of this module.
pub trait Document: Serialize + DeserializeOwned {
    /// What the document is called in errors.
    const NAME: &'static str;
    /// The version the document says it has.
    fn version(&self) -> u32;

    /// Reads a document. Errors name the field, the value and the line.
    fn from_yaml(text: &str) -> Result<Self, DocumentError> {
        let document = Self::NAME;
        let syntax = |source| DocumentError::Syntax { document, source };
        let found = match serde_yaml::from_str::<Self>(text) {
            Ok(read) if read.version() == DOCUMENT_VERSION => return Ok(read),
            Ok(read) => read.version(),
            Err(error) => {
                // "Unknown version" is a better answer than an unknown key.
                let probe: VersionProbe = serde_yaml::from_str(text).map_err(syntax)?;
                if probe.version == DOCUMENT_VERSION {
                    return Err(syntax(error));
                }
                probe.version
            }
        };
        Err(DocumentError::Version { document, found })
    }

    /// Writes the document; the same value always gives the same bytes.
    fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("documents hold only strings, numbers, lists and maps")
    }
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not YAML of the right shape. Long values are not repeated: they may be keys.
    #[error("{document}: {}", without_long_values(&source.to_string()))]
    Syntax {
        /// Which document.
        document: &'static str,
        /// Where and what.
        source: serde_yaml::Error,
    },
    /// A version this program does not know.
    #[error(
        "{document}: version {found} is unknown; this program reads version {DOCUMENT_VERSION}"
    )]
    Version {
        /// Which document.
        document: &'static str,
        /// The version found.
        found: u32,
    },
}

/// Characters of a quoted value that an error may repeat; private keys are longer.
const MAX_QUOTED: usize = 60;

/// `text` with "..." in place of what is quoted and long.
fn without_long_values(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(['"', '`']) {
        let (before, quoted) = rest.split_at(start);
        let quote = if quoted.starts_with('"') { '"' } else { '`' };
        let inner = quoted.get(1..).unwrap_or_default();
        let (inner, after) = inner.split_once(quote).unwrap_or((inner, ""));
        let shown = match inner.chars().count() {
            0..=MAX_QUOTED => inner,
            _ => "...",
        };
        out.push_str(before);
        out.extend([quote]);
        out.push_str(shown);
        out.extend([quote]);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[derive(Deserialize)]
struct VersionProbe {
    version: u32,
}
