//! The only code that reads the world: clock, randomness, DNS, network, disk.
//!
//! Promises: nothing outside this folder asks what time it is, opens a socket, a file, or draws a
//! random number. Each port is a small trait with one real implementation here; tests bring their
//! own.

mod clock;
mod documents;
mod network;
mod random;
mod resolver;

pub use clock::{Clock, SystemClock};
pub use documents::{Documents, MountedDirectory};
pub use network::{Connection, Network, Stream, TcpNetwork};
pub use random::{Random, SystemRandom};
pub use resolver::{Answer, DnsResolver, MailExchange, ResolveError, Resolver, ResolverSetupError};
