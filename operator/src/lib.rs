//! (module docs follow)
pub mod dns;
