//! Whether a username and a password belong together.
//!
//! Promises: a password is kept nowhere, not even hashed without a key; a wrong username costs as
//! much time as a wrong password. What was verified is remembered under a key drawn at the start,
//! so that a client that logs in for each message pays for PBKDF2 once; a changed credential makes
//! what was remembered void.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{LazyLock, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use postrider_crds::{
    relay_config::{Credential, layout},
    scram::{Fingerprint, ScramVerifier},
};

use crate::config::Settings;

/// What a client gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Authentication identity.
    pub username: String,
    /// Password, as given.
    pub password: Vec<u8>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// An authenticated identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The username.
    pub username: String,
    /// Whom its mail is counted for.
    pub tenant: String,
    /// What it was known by.
    pub proof: Proof,
}

/// What an identity was known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// AUTH, by a password that belongs to the verifier of this fingerprint.
    Password(Fingerprint),
    /// The client's address, as `trustedClients` says.
    Address,
}

impl Login {
    fn by_password(credential: &Credential) -> Self {
        Self {
            username: credential.username.clone(),
            tenant: credential.tenant.clone(),
            proof: Proof::Password(credential.verifier.fingerprint()),
        }
    }

    /// Whether it was proven by a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        matches!(self.proof, Proof::Password(_))
    }

    /// Whether its username is known as of `settings`, and by the password it was proven by, if by
    /// any.
    pub(super) fn stands(&self, settings: &Settings) -> bool {
        let credential = settings.credentials.get(&self.username);
        credential.is_some_and(|credential| match self.proof {
            Proof::Password(fingerprint) => credential.verifier.fingerprint() == fingerprint,
            Proof::Address => true,
        })
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password belongs to the username.
    Right(Login),
    /// It does not, or there is no such username.
    Wrong,
    /// It was not looked at: too many attempts of the client's network wait, or the relay stops.
    Unseen,
}

/// Verifies attempts and remembers those that passed.
pub struct Authenticator {
    key: hmac::Key,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    /// Digest of the credentials document they were verified against.
    credentials: Option<String>,
    /// Tag of username and password, by username: one password a credential.
    tags: HashMap<String, hmac::Tag>,
}

/// What an unknown username is verified against.
static NOBODY: LazyLock<ScramVerifier> = LazyLock::new(|| ScramVerifier::derive(b"", b"nobody"));

impl Authenticator {
    /// An authenticator that remembers under `key`, which must be random and secret.
    #[must_use]
    pub fn new(key: hmac::Key) -> Self {
        Self {
            key,
            remembered: Mutex::new(Remembered::default()),
        }
    }

    /// The login of an attempt that was verified before, without the cost of verifying it again.
    #[must_use]
    pub fn recall(&self, settings: &Settings, attempt: &Attempt) -> Option<Login> {
        let credential = settings.credentials.get(&attempt.username)?;
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let current = settings.documents.get(layout::CREDENTIALS);
        if remembered.credentials.as_ref() != current {
            *remembered = Remembered {
                credentials: current.cloned(),
                tags: HashMap::new(),
            };
        }
        let tag = remembered.tags.get(&attempt.username)?;
        hmac::verify(&self.key, &keyed(attempt), tag.as_ref()).ok()?;
        Some(Login::by_password(credential))
    }

    /// Verifies an attempt, at the cost of PBKDF2: some milliseconds of a processor. `None` when
    /// the username is unknown or the password is not its.
    #[must_use]
    pub fn verify(&self, settings: &Settings, attempt: &Attempt) -> Option<Login> {
        let credential = settings.credentials.get(&attempt.username);
        let verifier = credential.map_or(&*NOBODY, |credential| &credential.verifier);
        let matches = verifier.matches(&attempt.password);
        let credential = credential.filter(|_| matches)?;
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Only what was verified against the credentials remembered for is remembered.
        if remembered.credentials.as_ref() == settings.documents.get(layout::CREDENTIALS) {
            let tag = hmac::sign(&self.key, &keyed(attempt));
            remembered.tags.insert(attempt.username.clone(), tag);
        }
        Some(Login::by_password(credential))
    }
}

/// The login of a client that is trusted by its address, as of `settings`.
pub(super) fn trusted(settings: &Settings, client: IpAddr) -> Option<Login> {
    let mut trusted = settings.relay.trusted_clients.iter();
    let trusted = trusted.find(|trusted| trusted.address == client)?;
    let credential = settings.credentials.get(&trusted.username)?;
    Some(Login {
        username: trusted.username.clone(),
        tenant: credential.tenant.clone(),
        proof: Proof::Address,
    })
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

/// The length in front keeps `ab` + `c` apart from `a` + `bc`.
fn keyed(attempt: &Attempt) -> Vec<u8> {
    let username = attempt.username.as_bytes();
    let length = (username.len() as u64).to_be_bytes();
    [&length[..], username, &attempt.password].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn attempt(username: &str, password: &str) -> Attempt {
        Attempt {
            username: username.into(),
            password: password.into(),
        }
    }

    #[test]
    fn only_the_password_of_the_username_logs_in() {
        let settings = sample::settings();
        let authenticator = Authenticator::new(hmac::Key::new(hmac::HMAC_SHA256, b"test"));
        let good = attempt("ann", "secret");
        assert_eq!(authenticator.recall(&settings, &good), None);
        let login = authenticator.verify(&settings, &good).expect("verifies");
        assert_eq!(login.tenant, "apps/ann");
        assert!(login.has_password() && login.stands(&settings));
        assert_eq!(authenticator.recall(&settings, &good), Some(login));
        for bad in [
            attempt("ann", "Secret"),
            attempt("ann", ""),
            attempt("bob", "secret"),
            attempt("nobody", ""),
            attempt("an", "nsecret"),
        ] {
            assert_eq!(authenticator.recall(&settings, &bad), None, "{bad:?}");
            assert_eq!(authenticator.verify(&settings, &bad), None, "{bad:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_unless_listed_with_a_known_username() {
        let client: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(trusted(&sample::settings(), client), None);
        let settings = sample::settings_with(|documents| {
            let text = documents.get_mut(layout::RELAY_CONFIG).unwrap();
            text.extend_from_slice(
                b"trustedClients: [{address: 127.0.0.1, username: ann}, {address: '::1', username: gone}]",
            );
        });
        let login = trusted(&settings, client).expect("is listed");
        assert!(login.stands(&settings));
        assert_eq!(
            (login.tenant.as_str(), login.proof),
            ("apps/ann", Proof::Address)
        );
        for other in ["127.0.0.2", "::1", "192.0.2.1"] {
            assert_eq!(trusted(&settings, other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_login_stands_with_the_credential_it_was_proven_by() {
        let settings = sample::settings();
        let authenticator = Authenticator::new(hmac::Key::new(hmac::HMAC_SHA256, b"test"));
        let login = |username, password| {
            let login = authenticator.verify(&settings, &attempt(username, password));
            login.expect("verifies")
        };
        let (ann, bob) = (login("ann", "secret"), login("bob", "hunter"));
        let changed = sample::with_password("ann", "changed");
        assert!(!ann.stands(&changed) && bob.stands(&changed));
        let back = sample::with_password("ann", "secret");
        assert!(ann.stands(&back) && bob.stands(&back));
        let gone = sample::settings_with(|documents| drop(documents.remove(layout::CREDENTIALS)));
        assert!(!ann.stands(&gone) && !bob.stands(&gone));
    }

    #[test]
    fn changed_credentials_make_what_was_remembered_void() {
        let settings = sample::settings();
        let authenticator = Authenticator::new(hmac::Key::new(hmac::HMAC_SHA256, b"test"));
        let good = attempt("ann", "secret");
        assert_eq!(authenticator.recall(&settings, &good), None);
        assert!(authenticator.verify(&settings, &good).is_some());
        let changed = sample::settings_with(|documents| {
            let text = documents.get_mut(layout::CREDENTIALS).unwrap();
            text.extend_from_slice(b"# changed\n");
        });
        assert_eq!(authenticator.recall(&changed, &good), None);
        assert!(authenticator.recall(&settings, &good).is_none());
        assert!(!format!("{good:?}").contains("secret"));
    }
}
