//! The only code that reads the world: clock, randomness, DNS, network, disk.
//!
//! Promises: nothing outside this folder asks what time it is, opens a socket, a file, or draws a
//! random number. Each port is a small trait with one real implementation here; tests bring their
//! own.

mod alarm;
mod clock;
mod disk;
mod documents;
mod network;
mod random;
mod resolver;
#[cfg(test)]
pub(crate) mod simulated_disk;

pub use alarm::Alarm;
pub use clock::{Clock, SystemClock};
pub use disk::{Disk, DiskFile, DiskLock, SystemDisk};
pub use documents::{Documents, MountedDirectory, Signs};
pub use network::{Connection, Network, Stream, TcpNetwork, listen};
pub use random::{Random, SystemRandom};
pub use resolver::{Answer, DnsResolver, MailExchange, ResolveError, Resolver, ResolverSetupError};
