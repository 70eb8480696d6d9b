//! The digest by which operator and relay agree that a document has arrived.
//!
//! Promises: SHA-256 of the exact bytes, shortened to 128 bits and printed as 32 hex digits. Not a
//! secret and not a signature.

use std::fmt::Write as _;

/// The digest of `bytes`: 32 lower-case hex digits.
#[must_use]
pub fn of(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .take(16)
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_answer() {
        assert_eq!(super::of(b""), "e3b0c44298fc1c149afbf4c8996fb924");
    }
}
