//! A message as it is stored: who it is from and for, how far it is, and then its body.
//!
//! Promises: pure. What is as most messages have it takes no byte: a state that is still the one it
//! began with, a sending domain that is the return path's.

use std::{ops::Range, sync::Arc};

use jiff::Timestamp;
use postrider_crds::Mailbox;

use super::{
    codec::{Reader, put_id, put_length, put_priority, put_state, put_text, put_time},
    record::Head,
};
use crate::{
    custody::state::{LegState, Outline, Progress, State},
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath},
};

/// The return path is null; else it follows.
const NULL_RETURN_PATH: u8 = 1;
/// The body was announced as 8BITMIME.
const EIGHT_BIT_MIME: u8 = 2;
/// The sending domain is that of the return path.
const DOMAIN_OF_RETURN_PATH: u8 = 4;
/// The sending domain follows.
const OWN_DOMAIN: u8 = 8;
/// The state follows; else it is the one a message begins with.
const STATE: u8 = 16;
/// The priority follows; else nothing was said of it.
const PRIORITY: u8 = 32;
/// All of them.
const FLAGS: u8 = 63;

/// Appends all of a message but its body, which goes behind it to the end of the record.
pub(super) fn put_message(bytes: &mut Vec<u8>, message: &Head) {
    let envelope = &*message.envelope;
    let flags = flags_of(message);
    put_id(bytes, message.id);
    bytes.push(flags);
    put_time(bytes, message.id, message.accepted);
    if let Some(priority) = envelope.priority {
        put_priority(bytes, priority);
    }
    if let ReturnPath::Mailbox(mailbox) = &envelope.return_path {
        put_mailbox(bytes, mailbox);
    }
    if let Some(domain) = envelope.domain.as_ref().filter(|_| flags & OWN_DOMAIN != 0) {
        put_text(bytes, domain.as_str());
    }
    put_text(bytes, &envelope.tenant);
    put_length(bytes, envelope.recipients.len());
    for recipient in &envelope.recipients {
        put_mailbox(bytes, &recipient.mailbox);
    }
    if flags & STATE != 0 {
        put_state(bytes, message.id, &message.state);
    }
}

fn flags_of(message: &Head) -> u8 {
    let envelope = &*message.envelope;
    let of_return_path = envelope.return_path.mailbox().map(Mailbox::domain);
    let domain = match &envelope.domain {
        None => 0,
        Some(domain) if Some(domain) == of_return_path => DOMAIN_OF_RETURN_PATH,
        Some(_) => OWN_DOMAIN,
    };
    let return_path = match envelope.return_path {
        ReturnPath::Null => NULL_RETURN_PATH,
        ReturnPath::Mailbox(_) => 0,
    };
    let body = match envelope.body_kind {
        BodyKind::SevenBit => 0,
        BodyKind::EightBitMime => EIGHT_BIT_MIME,
    };
    let state = match is_first(&message.state, message.accepted) {
        true => 0,
        false => STATE,
    };
    let priority = match envelope.priority {
        None => 0,
        Some(_) => PRIORITY,
    };
    domain | return_path | body | state | priority
}

/// Whether the state is the one a message accepted then begins with.
fn is_first(state: &State, accepted: Timestamp) -> bool {
    let pending = |progress: &Progress| *progress == Progress::Pending;
    let untried = |leg: &LegState| *leg == LegState::first(accepted);
    state.recipients.iter().all(pending) && state.legs.iter().all(untried)
}

fn put_mailbox(bytes: &mut Vec<u8>, mailbox: &Mailbox) {
    let (local, domain) = (mailbox.local(), mailbox.domain().as_str());
    put_length(bytes, local.len() + 1 + domain.len());
    bytes.extend(local.as_bytes());
    bytes.push(b'@');
    bytes.extend(domain.as_bytes());
}

/// Reads what [`put_message`] wrote, and where the body lies.
pub(super) fn message(reader: &mut Reader<'_>) -> Option<(Head, Range<usize>)> {
    let id = reader.id()?;
    let flags = reader.u8()?;
    let accepted = reader.time(id)?;
    let envelope = envelope(reader, flags)?;
    let state = match flags & STATE {
        0 => State::new(&envelope, accepted, &[]),
        _ => reader.state(id)?,
    };
    let head = head(id, accepted, state, envelope)?;
    Some((head, reader.rest()))
}

/// A message of these parts, if the state is one the envelope can have.
pub(super) fn head(
    id: MessageId,
    accepted: Timestamp,
    state: State,
    envelope: Envelope,
) -> Option<Head> {
    let legs = Outline::of(&envelope).legs.len();
    state.fits(envelope.recipients.len(), legs).then(|| Head {
        id,
        accepted,
        state,
        envelope: Arc::new(envelope),
    })
}

fn envelope(reader: &mut Reader<'_>, flags: u8) -> Option<Envelope> {
    let priority = match flags & PRIORITY {
        0 => None,
        _ => Some(reader.priority()?),
    };
    let return_path = match flags & NULL_RETURN_PATH {
        0 => ReturnPath::Mailbox(reader.text()?.parse().ok()?),
        _ => ReturnPath::Null,
    };
    let domain = match flags & (DOMAIN_OF_RETURN_PATH | OWN_DOMAIN) {
        0 => None,
        OWN_DOMAIN => Some(reader.text()?.parse().ok()?),
        DOMAIN_OF_RETURN_PATH => Some(return_path.mailbox()?.domain().clone()),
        _ => return None,
    };
    let tenant = reader.text()?.to_owned();
    let recipients = reader.list(|reader| {
        let mailbox = reader.text()?.parse().ok()?;
        Some(Recipient { mailbox })
    })?;
    let body_kind = match flags & EIGHT_BIT_MIME {
        0 => BodyKind::SevenBit,
        _ => BodyKind::EightBitMime,
    };
    let is_known = flags & !FLAGS == 0;
    is_known.then_some(Envelope {
        return_path,
        recipients,
        body_kind,
        domain,
        tenant,
        priority,
    })
}
