//! A real cluster, real DNS and real mail peers: what the demo and the cluster tests of Postrider
//! stand on.

pub mod cluster;
pub mod demo;
pub mod peers;
pub mod product;
