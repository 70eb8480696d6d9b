//! RelayPools: the pods that take custody of mail, everything they need, and what they report.

pub mod credentials;
pub mod loaded;
