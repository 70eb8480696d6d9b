//! What Postrider's users, operator and relay agree on.
//!
//! Owns three things, each the only definition in the tree:
//!
//! * the **custom resources** [`SendingDomain`], [`RelayPool`] and [`SuppressionList`], with the
//!   schemas, CEL rules and print columns an API server enforces (feature `kubernetes`),
//! * the **relay documents** ([`relay_config`]): what the operator renders into ConfigMaps and
//!   Secrets and the relay reads from mounted files, and the report it gives back; the **orders**
//!   ([`queue`]) an operator gives a relay about the mail it holds,
//! * the **vocabulary** both are written in: [`DomainName`], [`Selector`], [`Mailbox`],
//!   [`MessageId`], [`Duration`], [`EgressRange`]. Each is parsed once, at the edge.
//!
//! Promises: no client, no runtime, no clock and no I/O. A value of one of these types is valid.

pub mod condition;
pub mod digest;
pub mod domain;
pub mod duration;
pub mod egress;
pub mod mailbox;
pub mod message_id;
pub mod queue;
pub mod relay_config;
pub mod scram;
pub mod suppression_file;

#[cfg(feature = "kubernetes")]
mod relay_pool;
#[cfg(feature = "kubernetes")]
pub mod schema;
#[cfg(feature = "kubernetes")]
mod sending_domain;
#[cfg(feature = "kubernetes")]
mod suppression_list;

pub use domain::{DomainName, Selector};
pub use duration::Duration;
pub use egress::EgressRange;
pub use mailbox::Mailbox;
pub use message_id::MessageId;

#[cfg(feature = "kubernetes")]
pub use {
    relay_pool::*, schema::custom_resource_definitions, sending_domain::*, suppression_list::*,
};

/// API group of every custom resource.
pub const GROUP: &str = "postrider.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
