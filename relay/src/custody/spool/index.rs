//! The index of a segment: all that opening the spool needs of it, without the bodies.
//!
//! Flow: while a segment is the head its index is kept in memory, told of every record; when the
//! segment is sealed, the index is written behind the last record, and a trailer behind that. A
//! segment without a good one is read whole, into the same index.
//!
//! Promises: pure; the index is a function of the segment's records in their order. What was
//! accepted and done within the segment is not in it, so where mail is delivered at once it is
//! almost empty.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use postrider_crds::DomainName;

use super::{
    codec::{
        Reader, number_of, put_flagged, put_id, put_length, put_number, put_priority, put_state,
        put_text, put_time,
    },
    record::{Head, Record},
    tables,
};
use crate::{
    custody::{
        RecipientResult,
        orders::Orders,
        state::{Outline, Progress, State, whole_micros},
    },
    mail::{MessageId, Priority},
};

/// The index of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    number: u64,
    /// The same messages may be in the segment before: what is done must be told.
    repeats: bool,
    /// Older segments it has records about messages of.
    pub(crate) refers: BTreeSet<u64>,
    /// Older segments it has newer copies of messages of.
    pub(crate) supersedes: BTreeSet<u64>,
    names: Names,
    /// What its records say about messages of older segments. Comes before its own messages.
    pub(crate) changes: BTreeMap<MessageId, Change>,
    /// Its own messages that are not done.
    pub(crate) messages: BTreeMap<MessageId, Indexed>,
    /// The last table of orders in it.
    pub(crate) orders: Option<Table>,
}

/// A table of orders and where its record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) orders: Arc<Orders>,
}

/// A message of the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) accepted: Timestamp,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) state: State,
    tenant: u32,
    priority: Priority,
    /// One more than its number, 0 for none.
    domain: u32,
    legs: Vec<u32>,
    leg_of: Vec<u32>,
    moved: bool,
}

/// What became of a message of another segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is done.
    Finished,
    /// Its whole state.
    Whole(State),
    /// What changed.
    Part {
        /// Of legs.
        legs: Vec<LegChange>,
        /// Recipients that are done.
        done: Vec<(u32, Progress)>,
    },
}

/// What changed of a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LegChange {
    leg: u32,
    /// Attempts so far.
    attempts: u32,
    delay_warned: bool,
    /// When it is due, if that changed.
    due: Option<Timestamp>,
}

/// Texts by number.
#[derive(Clone, Debug, Default)]
struct Names {
    tenants: Vec<String>,
    domains: Vec<Option<DomainName>>,
    tenant_numbers: HashMap<String, u32>,
    domain_numbers: HashMap<DomainName, u32>,
}

impl Index {
    /// The index of a segment without records.
    pub(crate) fn new(number: u64, repeats: u64) -> Self {
        Self {
            number,
            repeats: repeats != 0,
            supersedes: (repeats != 0).then_some(repeats).into_iter().collect(),
            ..Self::default()
        }
    }

    /// Takes in the next record of the segment and where it lies.
    pub(crate) fn add(&mut self, record: &Record, offset: u32, length: u32) {
        match record {
            Record::Message(_) => {}
            Record::Moved { from, .. } => {
                self.supersedes.insert(*from);
            }
            Record::Attempt {
                id,
                home,
                leg,
                number,
            } => self.change(*id, *home, |of| of.start_attempt(*leg, *number)),
            Record::Settled {
                id,
                home,
                leg,
                attempts,
                delay_warned,
                results,
                ..
            } => self.change(*id, *home, |of| {
                of.start_attempt(*leg, *attempts);
                of.settle(*leg, results, *delay_warned);
            }),
            Record::State { id, home, state } => self.change(*id, *home, |of| of.set(state)),
            Record::Finished { id, home } => self.change(*id, *home, |of| of.finish()),
            Record::Orders(orders) => {
                let orders = Arc::clone(orders);
                self.orders = Some(Table {
                    offset,
                    length,
                    orders,
                });
            }
        }
        if let Some(message) = record.message() {
            let moved = matches!(record, Record::Moved { .. });
            self.message(message, offset, length, moved);
        }
    }

    /// Messages it speaks of, each of which takes some 400 bytes of memory.
    pub(crate) fn len(&self) -> usize {
        self.changes.len() + self.messages.len()
    }

    fn message(&mut self, head: &Head, offset: u32, length: u32, moved: bool) {
        self.changes.remove(&head.id);
        let outline = Outline::of(&head.envelope);
        let names = &mut self.names;
        let message = Indexed {
            accepted: head.accepted,
            offset,
            length,
            state: head.state.clone(),
            tenant: names.tenant(outline.tenant),
            priority: outline.priority,
            domain: outline.domain.as_ref().map_or(0, |d| names.domain(d) + 1),
            legs: outline.legs.iter().map(|d| names.domain(d)).collect(),
            leg_of: match outline.legs.len() {
                1 => Vec::new(),
                _ => outline.leg_of,
            },
            moved: moved || self.repeats,
        };
        self.messages.insert(head.id, message);
        self.drop_finished(head.id);
    }

    /// Applies what a record says to what is known of its message.
    fn change(&mut self, id: MessageId, home: u64, apply: impl FnOnce(&mut Subject<'_>)) {
        if home == self.number {
            if let Some(message) = self.messages.get_mut(&id) {
                apply(&mut Subject::Own(&mut message.state));
                self.drop_finished(id);
            }
            return;
        }
        self.refers.insert(home);
        let change = self.changes.entry(id).or_insert_with(Change::nothing);
        apply(&mut Subject::Other(change));
    }

    fn drop_finished(&mut self, id: MessageId) {
        let found = self.messages.get(&id);
        if let Some(done) = found.filter(|message| message.state.is_finished()) {
            if done.moved {
                // An older copy may still be there.
                self.changes.insert(id, Change::Finished);
            }
            self.messages.remove(&id);
        }
    }

    /// What queueing needs of one of the messages.
    pub(crate) fn outline<'a>(&'a self, message: &'a Indexed) -> Option<Outline<'a>> {
        let domain = |number: &u32| self.names.domains.get(*number as usize);
        let own = match message.domain.checked_sub(1) {
            None => &None,
            Some(number) => domain(&number)?,
        };
        let legs = message.legs.iter().map(|n| domain(n)?.as_ref());
        Some(Outline {
            tenant: self.names.tenants.get(message.tenant as usize)?,
            domain: own,
            legs: legs.collect::<Option<_>>()?,
            leg_of: message.leg_of.clone(),
            priority: message.priority,
        })
    }

    /// The index as stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + 60 * self.messages.len());
        bytes.push(u8::from(self.repeats));
        put_segments(&mut bytes, &self.refers);
        put_segments(&mut bytes, &self.supersedes);
        put_length(&mut bytes, self.names.tenants.len());
        for name in &self.names.tenants {
            put_text(&mut bytes, name);
        }
        put_length(&mut bytes, self.names.domains.len());
        for name in self.names.domains.iter().flatten() {
            put_text(&mut bytes, name.as_str());
        }
        put_length(&mut bytes, self.changes.len());
        for (id, change) in &self.changes {
            put_id(&mut bytes, *id);
            change.encode(&mut bytes, *id);
        }
        put_length(&mut bytes, self.messages.len());
        for (id, message) in &self.messages {
            put_id(&mut bytes, *id);
            message.encode(&mut bytes, *id);
        }
        bytes.push(u8::from(self.orders.is_some()));
        if let Some(table) = &self.orders {
            put_number(&mut bytes, table.offset);
            put_number(&mut bytes, table.length);
            tables::put_orders(&mut bytes, &table.orders);
        }
        bytes
    }

    /// Reads the index of segment `number`; `None` when it is none.
    pub(crate) fn decode(number: u64, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let repeats = reader.flag()?;
        let refers = reader.list(Reader::number)?.into_iter().collect();
        let supersedes = reader.list(Reader::number)?.into_iter().collect();
        let names = Names {
            tenants: reader.list(|reader| reader.text().map(str::to_owned))?,
            domains: reader.list(|reader| reader.text()?.parse().ok().map(Some))?,
            ..Names::default()
        };
        let changes = reader.list(|reader| {
            let id = reader.id()?;
            Some((id, Change::decode(reader, id)?))
        })?;
        let messages = reader.list(|reader| {
            let id = reader.id()?;
            Some((id, Indexed::decode(reader, id)?))
        })?;
        let orders = match reader.flag()? {
            true => Some(Table {
                offset: reader.small()?,
                length: reader.small()?,
                orders: tables::orders(&mut reader)?,
            }),
            false => None,
        };
        let index = Self {
            number,
            repeats,
            refers,
            supersedes,
            names,
            changes: changes.into_iter().collect(),
            messages: messages.into_iter().collect(),
            orders,
        };
        let (tenants, domains) = (index.names.tenants.len(), index.names.domains.len());
        let whole = index
            .messages
            .values()
            .all(|m| m.is_named_by(tenants, domains));
        (whole && reader.is_at_end()).then_some(index)
    }
}

/// The change of a leg; there are few in a message.
fn change_of(legs: &mut Vec<LegChange>, leg: u32) -> &mut LegChange {
    let at = legs.iter().position(|change| change.leg == leg);
    let at = at.unwrap_or_else(|| {
        legs.push(LegChange {
            leg,
            ..LegChange::default()
        });
        legs.len() - 1
    });
    legs.get_mut(at)
        .expect("it is there or was pushed just now")
}

/// What a record is about.
enum Subject<'a> {
    Own(&'a mut State),
    Other(&'a mut Change),
}

impl Subject<'_> {
    /// The whole state, where it is known.
    fn whole(&mut self) -> Option<&mut State> {
        match self {
            Self::Own(state) => Some(state),
            Self::Other(Change::Whole(state)) => Some(state),
            Self::Other(Change::Finished | Change::Part { .. }) => None,
        }
    }

    fn start_attempt(&mut self, leg: u32, number: u32) {
        if let Some(state) = self.whole() {
            state.start_attempt(leg, number);
        } else if let Self::Other(Change::Part { legs, .. }) = self {
            let leg = change_of(legs, leg);
            leg.attempts = leg.attempts.max(number);
        }
    }

    fn settle(&mut self, leg: u32, results: &[(u32, RecipientResult)], delay_warned: bool) {
        if let Some(state) = self.whole() {
            state.settle(leg, results, delay_warned);
        } else if let Self::Other(Change::Part { legs, done }) = self {
            let mut due = None;
            for (recipient, result) in results {
                match Progress::of(*result) {
                    Ok(_) if done.iter().any(|(known, _)| known == recipient) => {}
                    Ok(progress) => done.push((*recipient, progress)),
                    Err(until) => due = due.max(Some(whole_micros(until))),
                }
            }
            let leg = change_of(legs, leg);
            leg.delay_warned |= delay_warned;
            leg.due = due.or(leg.due);
        }
    }

    fn set(&mut self, new: &State) {
        match self {
            Self::Own(state) if state.fits(new.recipients.len(), new.legs.len()) => {
                **state = new.clone();
            }
            Self::Own(_) => {}
            Self::Other(change) => **change = Change::Whole(new.clone()),
        }
    }

    fn finish(&mut self) {
        match self {
            // Which result it was is not told, and not asked any more.
            Self::Own(state) => state.recipients.fill(Progress::Delivered),
            Self::Other(change) => **change = Change::Finished,
        }
    }
}

impl Change {
    fn nothing() -> Self {
        Self::Part {
            legs: Vec::new(),
            done: Vec::new(),
        }
    }

    /// The state after the change; `None` when the message is done.
    pub(crate) fn apply(&self, mut state: State) -> Option<State> {
        match self {
            Self::Finished => return None,
            Self::Whole(whole) => {
                if state.fits(whole.recipients.len(), whole.legs.len()) {
                    state = whole.clone();
                }
            }
            Self::Part { legs, done } => {
                for change in legs {
                    state.start_attempt(change.leg, change.attempts);
                    if let Some(leg) = state.legs.get_mut(change.leg as usize) {
                        leg.delay_warned |= change.delay_warned;
                        leg.due = change.due.unwrap_or(leg.due);
                    }
                }
                for (recipient, progress) in done {
                    let now = state.recipients.get_mut(*recipient as usize);
                    if let Some(now @ Progress::Pending) = now {
                        *now = *progress;
                    }
                }
            }
        }
        (!state.is_finished()).then_some(state)
    }

    fn encode(&self, bytes: &mut Vec<u8>, id: MessageId) {
        match self {
            Self::Finished => bytes.push(1),
            Self::Whole(state) => {
                bytes.push(2);
                put_state(bytes, id, state);
            }
            Self::Part { legs, done } => {
                bytes.push(3);
                put_length(bytes, legs.len());
                for change in legs {
                    put_number(bytes, change.leg);
                    put_flagged(bytes, change.attempts, change.delay_warned);
                    bytes.push(u8::from(change.due.is_some()));
                    if let Some(due) = change.due {
                        put_time(bytes, id, due);
                    }
                }
                put_length(bytes, done.len());
                for (recipient, progress) in done {
                    put_number(bytes, *recipient);
                    bytes.push(number_of(*progress));
                }
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, id: MessageId) -> Option<Self> {
        match reader.u8()? {
            1 => Some(Self::Finished),
            2 => reader.state(id).map(Self::Whole),
            3 => {
                let legs = reader.list(|reader| LegChange::decode(reader, id))?;
                let done = reader.list(|reader| Some((reader.small()?, reader.progress()?)))?;
                Some(Self::Part { legs, done })
            }
            _ => None,
        }
    }
}

impl LegChange {
    fn decode(reader: &mut Reader<'_>, id: MessageId) -> Option<Self> {
        let leg = reader.small()?;
        let (attempts, delay_warned) = reader.flagged()?;
        let due = match reader.flag()? {
            true => Some(reader.time(id)?),
            false => None,
        };
        Some(Self {
            leg,
            attempts,
            delay_warned,
            due,
        })
    }
}

impl Indexed {
    fn encode(&self, bytes: &mut Vec<u8>, id: MessageId) {
        put_time(bytes, id, self.accepted);
        for number in [self.offset, self.length, self.tenant] {
            put_number(bytes, number);
        }
        put_priority(bytes, self.priority);
        put_flagged(bytes, self.domain, self.moved);
        for list in [&self.legs, &self.leg_of] {
            put_length(bytes, list.len());
            for number in list {
                put_number(bytes, *number);
            }
        }
        put_state(bytes, id, &self.state);
    }

    fn decode(reader: &mut Reader<'_>, id: MessageId) -> Option<Self> {
        let accepted = reader.time(id)?;
        let (offset, length) = (reader.small()?, reader.small()?);
        let (tenant, priority) = (reader.small()?, reader.priority()?);
        let (domain, moved) = reader.flagged()?;
        let message = Self {
            accepted,
            offset,
            length,
            tenant,
            priority,
            domain,
            moved,
            legs: reader.list(Reader::small)?,
            leg_of: reader.list(Reader::small)?,
            state: reader.state(id)?,
        };
        let recipients = match message.leg_of.len() {
            0 => message.state.recipients.len(),
            several => several,
        };
        let fits = message.state.fits(recipients, message.legs.len());
        fits.then_some(message)
    }
}

impl Indexed {
    /// Whether there are names for all its numbers.
    fn is_named_by(&self, tenants: usize, domains: usize) -> bool {
        (self.tenant as usize) < tenants
            && self.domain as usize <= domains
            && self.legs.iter().all(|number| (*number as usize) < domains)
    }
}

impl Names {
    fn tenant(&mut self, name: &str) -> u32 {
        if let Some(number) = self.tenant_numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.tenants.len()).unwrap_or(u32::MAX);
        self.tenants.push(name.to_owned());
        self.tenant_numbers.insert(name.to_owned(), number);
        number
    }

    fn domain(&mut self, name: &DomainName) -> u32 {
        if let Some(number) = self.domain_numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.domains.len()).unwrap_or(u32::MAX);
        self.domains.push(Some(name.clone()));
        self.domain_numbers.insert(name.clone(), number);
        number
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        (&self.tenants, &self.domains) == (&other.tenants, &other.domains)
    }
}

impl Eq for Names {}

fn put_segments(bytes: &mut Vec<u8>, segments: &BTreeSet<u64>) {
    put_length(bytes, segments.len());
    for number in segments {
        put_number(bytes, *number);
    }
}
