//! The envelope sender that receivers see: one address per message, so that a bounce says which
//! message it is about (VERP).

use postrider_crds::{DomainName, Mailbox, mailbox::MailboxError};

use crate::mail::MessageId;

/// What stands before the message id.
const PREFIX: &str = "bounce+";

/// A return path domain that leaves no room for the local part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("returnPath {domain} cannot be used: {source}")]
pub struct ReturnPathError {
    domain: DomainName,
    source: MailboxError,
}

/// `bounce+<id>@<domain>`. Errors when that is longer than an address may be.
pub fn return_path(id: MessageId, domain: &DomainName) -> Result<Mailbox, ReturnPathError> {
    Mailbox::new(&format!("{PREFIX}{id}"), domain.clone()).map_err(|source| ReturnPathError {
        domain: domain.clone(),
        source,
    })
}

/// The message a bounce to `mailbox` is about, when `mailbox` was made by [`return_path`].
#[must_use]
pub fn message_of(mailbox: &Mailbox) -> Option<MessageId> {
    // Some receivers change the case of local parts.
    let local = mailbox.local().to_ascii_lowercase();
    local.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_path_names_its_message() {
        let id = MessageId::from_u128(0x0198_aaaa_bbbb_cccc_dddd_eeee_ffff_0001);
        let path = return_path(id, &"bounce.example.com".parse().unwrap()).unwrap();
        assert_eq!(path.to_string(), format!("bounce+{id}@bounce.example.com"));
        assert_eq!(message_of(&path), Some(id));
        let shouted = path.to_string().to_uppercase().parse().unwrap();
        assert_eq!(message_of(&shouted), Some(id));
        assert_eq!(message_of(&"bounce@example.com".parse().unwrap()), None);
    }

    #[test]
    fn a_domain_without_room_is_refused_by_name() {
        let long: DomainName = format!("{}example.com", "abcdefghi.".repeat(24))
            .parse()
            .unwrap();
        let error = return_path(MessageId::from_u128(1), &long).expect_err("251 + 34 octets");
        assert!(error.to_string().contains("254"), "{error}");
    }
}
