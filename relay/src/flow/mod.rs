//! The two loops that call the stages in order. Stages never call each other: whoever has read
//! these has read the relay.

pub mod intake;
mod logins;
pub mod outbound;
