//! Who a message says it is from, as receivers see it: the DKIM signatures and the return path.
//!
//! Promises: a [`Signer`] exists only when every key of its domain is usable. Each active key
//! signs every message (RFC 8463 §3.1: one signature per algorithm), over the same headers and
//! the same body hash. Time comes in from the caller.

mod body_hash;
mod return_path;
mod sign;

pub use return_path::{ReturnPathError, message_of, return_path};
pub use sign::{KeyError, SignError, Signer};
