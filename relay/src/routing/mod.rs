//! From a recipient domain to the machines that take its mail (RFC 5321 §5.1).
//!
//! [`exchanges`] and [`destinations`] decide, from DNS answers alone; [`route`] asks DNS for them.
//!
//! Promises: a definite "no" of DNS is permanent, trouble with DNS is temporary; equal preferences
//! are shuffled; mail never goes to this relay itself; at most [`MAX_EXCHANGES`] hosts and
//! [`MAX_DESTINATIONS`] addresses are tried, recently failed ones last.

mod exchanges;
mod failures;
mod lookup;

pub use exchanges::{
    Destination, Exchanges, HostAddresses, MAX_DESTINATIONS, MAX_EXCHANGES, Source, destinations,
    exchanges,
};
pub use failures::Failures;
pub use lookup::{Route, route};
