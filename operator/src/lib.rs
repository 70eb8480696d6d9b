//! The Postrider operator: turns SendingDomains, RelayPools and SuppressionLists into running,
//! verified mail relays.
//!
//! Flow: [`app`] opens the client and the caches ([`stores`]), whose changes wake the controllers
//! through bounded [`queues`]. Each controller is `observe` (read the caches), `plan` (a pure
//! function of that observation and the time) and `apply` (server-side apply, [`apply`]).
//!
//! Promises: an operator at rest writes nothing to the API. No `spec` of a custom resource is ever
//! written. Relay pods get no API token; they are spoken to through their admin API only.

pub mod admin;
pub mod app;
pub mod apply;
pub mod backoff;
pub mod clock;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod dns;
pub mod error;
pub mod events;
pub mod keys;
pub mod lease;
pub mod looks;
pub mod metrics;
pub mod names;
pub mod queues;
pub mod refusal;
pub mod relay_pool;
pub mod sending_domain;
pub mod settings;
pub mod start;
pub mod stores;
pub mod suppression_list;

pub use context::Context;
pub use error::Error;
