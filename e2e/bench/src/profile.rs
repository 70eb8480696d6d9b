//! What is measured: the sizes, sessions and circumstances of a load.

use crate::{contenders::Dkim, load::Connection, world::Site};

/// One in so many messages goes to the slow site, where there is one.
const SLOW_SHARE: usize = 50;

/// A load and its circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// KiB of a message.
    pub kib: usize,
    /// Sessions of the source.
    pub sessions: usize,
    /// What is unlike the main profile.
    pub variant: Variant,
}

/// How a load differs from the plain one: sessions that are kept, no signature, one fast site, an
/// empty queue, full rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// In nothing.
    Plain,
    /// Mail is signed.
    Signed(Dkim),
    /// A connection a message.
    PerMessage,
    /// Sessions in TLS and logged in, as applications of ours do it.
    Secured,
    /// One in fifty messages goes to a site that takes a second for each.
    OneSlow,
    /// Deferred messages lie in the queue.
    Backlog,
    /// At half the rate that the same contender reached at full rate.
    Half,
    /// For minutes.
    Sustained,
}

impl Profile {
    /// 10 KiB, 20 sessions: what ratios are quoted of.
    pub const MAIN: Self = Self {
        kib: 10,
        sessions: 20,
        variant: Variant::Plain,
    };

    /// The same with another variant.
    #[must_use]
    pub const fn with(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// Its name in keys: `10k_20s`, with what is unlike the plain one after it.
    pub fn key(self) -> String {
        let variant = match self.variant {
            Variant::Plain | Variant::Signed(Dkim::Off) => "",
            Variant::Signed(Dkim::Rsa2048) => "_rsa",
            Variant::Signed(Dkim::Ed25519) => "_ed25519",
            Variant::PerMessage => "_permsg",
            Variant::Secured => "_tls",
            Variant::OneSlow => "_slow",
            Variant::Backlog => "_backlog",
            Variant::Half => "_half",
            Variant::Sustained => "_sustained",
        };
        format!("{}k_{}s{variant}", self.kib, self.sessions)
    }

    /// Its name in words.
    pub fn title(self) -> String {
        let variant = match self.variant {
            Variant::Plain | Variant::Signed(Dkim::Off) => "",
            Variant::Signed(Dkim::Rsa2048) => ", DKIM RSA-2048",
            Variant::Signed(Dkim::Ed25519) => ", DKIM Ed25519",
            Variant::PerMessage => ", a connection a message",
            Variant::Secured => ", TLS and AUTH",
            Variant::OneSlow => ", one slow site",
            Variant::Backlog => ", deferred mail in the queue",
            Variant::Half => ", at half the full rate",
            Variant::Sustained => ", sustained",
        };
        format!("{} KiB, {} sessions{variant}", self.kib, self.sessions)
    }

    /// How its mail is signed.
    pub fn dkim(self) -> Dkim {
        match self.variant {
            Variant::Signed(dkim) => dkim,
            _ => Dkim::Off,
        }
    }

    /// How long its connections are used.
    pub fn connection(self) -> Connection {
        match self.variant {
            Variant::PerMessage => Connection::PerMessage,
            _ => Connection::Reused,
        }
    }

    /// The domains of its recipients, in turn.
    pub fn domains(self) -> Vec<String> {
        let fast = Site::Fast.domain().to_owned();
        let mut domains = vec![fast];
        if self.variant == Variant::OneSlow {
            domains = vec![Site::Fast.domain().to_owned(); SLOW_SHARE - 1];
            domains.push(Site::Slow.domain().to_owned());
        }
        domains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable() {
        let keys = [
            (Profile::MAIN, "10k_20s"),
            (
                Profile::MAIN.with(Variant::Signed(Dkim::Rsa2048)),
                "10k_20s_rsa",
            ),
            (Profile::MAIN.with(Variant::Backlog), "10k_20s_backlog"),
            (Profile::MAIN.with(Variant::Half), "10k_20s_half"),
        ];
        for (profile, key) in keys {
            assert_eq!(profile.key(), key);
        }
    }
}
