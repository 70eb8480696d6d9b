//! Compaction: what is needed of a mostly dead segment is written again to the head, so that the
//! segment can go.
//!
//! Promises: the copies are on stable storage before the old segment is removed, so a crash leaves
//! both (the newer counts) or one. A segment with damage is left alone, unless
//! that damage was put aside when the spool was opened. At most as many bytes are
//! written as were appended, over time.

use std::{collections::HashSet, io};

use super::{
    Place, Segment, Spool, Sync,
    format::{SegmentHeader, Stretch, marker_of_first_record, scan},
    record::{self, Encoded, MessageFields, MessageRecord, Record},
    recovery::load,
};
use crate::{custody::state::State, mail::MessageId};

/// Where a message that is not done lives, and how far it is.
pub(crate) struct Current {
    pub(crate) place: Place,
    pub(crate) state: State,
}

/// A message that lives elsewhere now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) id: MessageId,
    pub(crate) to: Place,
}

/// What is to be written of a segment.
#[derive(Default)]
struct Rewrite {
    records: Vec<Encoded>,
    /// By record: the message it moves, and from where.
    moves: Vec<Option<(MessageId, Place)>>,
    /// Segments the records refer to.
    homes: HashSet<u64>,
    told: HashSet<MessageId>,
}

impl Spool {
    /// Compacts one segment if that is worth it and within the budget. `current` tells of messages
    /// that are not done. The moves have happened on disk; the caller repeats them in its index.
    pub(crate) fn compact(
        &mut self,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) -> io::Result<Vec<Moved>> {
        let Some(victim) = self.victim() else {
            return Ok(Vec::new());
        };
        let mut bytes = load(self.disk.as_ref(), victim)?;
        if let Some(segment) = self.segments.get(&victim) {
            // What lies behind was written by an append that failed.
            bytes.truncate(usize::try_from(segment.length).unwrap_or(usize::MAX));
        }
        let Some(rewrite) = self.rewrite(victim, &bytes, current) else {
            tracing::error!(segment = victim, "damaged segment is kept, not compacted");
            self.pin(victim);
            return Ok(Vec::new());
        };
        if rewrite.records.is_empty() {
            self.strip(victim);
            return Ok(Vec::new());
        }
        let credit = self.credit;
        let places = self.append(&rewrite.records, Sync::Now)?;
        let written: u64 = places.iter().map(|place| place.weight).sum();
        self.credit = credit.saturating_sub(written);
        let mut moved = Vec::new();
        for (place, from) in places.iter().zip(&rewrite.moves) {
            if let Some((id, from)) = *from {
                self.hold(place);
                self.release(&from);
                moved.push(Moved { id, to: *place });
            }
        }
        if let Some(place) = places.first() {
            for home in rewrite.homes {
                self.refer(place.segment, home);
            }
            if let Some(head) = self.segments.get_mut(&place.segment) {
                head.supersedes.insert(victim);
            }
        }
        self.strip(victim);
        Ok(moved)
    }

    /// Everything needed of the segment is elsewhere.
    fn strip(&mut self, number: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.refers.clear();
        }
    }

    /// The segment with the most dead bytes, once dead bytes exceed both the live ones and the
    /// slack; a suspect one at once.
    fn victim(&self) -> Option<u64> {
        let affordable = |segment: &Segment| {
            segment.live_bytes <= self.credit
                || self.credit >= super::CREDIT_SEGMENTS * self.segment_bytes
        };
        let candidates = || {
            self.sealed().filter(|(_, segment)| {
                !segment.pinned
                    && !segment
                        .supersedes
                        .iter()
                        .any(|n| self.segments.contains_key(n))
            })
        };
        if let Some((number, _)) = candidates().find(|(_, s)| s.suspect && s.live > 0) {
            return Some(number);
        }
        let (mut live, mut dead) = (0, 0);
        for (_, segment) in self.sealed() {
            live += segment.live_bytes;
            dead += segment.length.saturating_sub(segment.live_bytes);
        }
        if dead <= live.max(super::SLACK_SEGMENTS * self.segment_bytes) {
            return None;
        }
        candidates()
            .filter(|(_, segment)| affordable(segment))
            .max_by_key(|(_, segment)| segment.length.saturating_sub(segment.live_bytes))
            .map(|(number, _)| number)
    }

    /// What is needed of a segment; `None` when not all that lives in it can be read.
    fn rewrite(
        &self,
        victim: u64,
        bytes: &[u8],
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) -> Option<Rewrite> {
        let segment = self.segments.get(&victim)?;
        let marker = match SegmentHeader::decode(bytes) {
            Some(header) => header.marker,
            None if segment.damaged => marker_of_first_record(bytes)?,
            None => return None,
        };
        let mut rewrite = Rewrite::default();
        for stretch in scan(bytes, marker) {
            let Stretch::Record { header, payload } = stretch else {
                if segment.damaged {
                    continue;
                }
                return None;
            };
            let start = payload.start as u64;
            let payload = bytes.get(payload)?;
            match record::decode(header.kind, header.version, payload).ok()? {
                Record::Message(message) => rewrite.message(victim, start, &message, current),
                Record::Settled {
                    id,
                    home,
                    notification,
                    ..
                } => {
                    self.retell(victim, (id, home), &mut rewrite, current);
                    if let Some(message) = notification {
                        rewrite.message(victim, start, &message, current);
                    }
                }
                Record::Attempt { id, home, .. }
                | Record::State { id, home, .. }
                | Record::Finished { id, home } => {
                    self.retell(victim, (id, home), &mut rewrite, current);
                }
            }
        }
        let found = rewrite.moves.iter().flatten().count() as u64;
        (found == segment.live).then_some(rewrite)
    }

    /// A record about a message of another segment: its whole state stands for it, as long as that
    /// segment is there.
    fn retell(
        &self,
        victim: u64,
        (id, home): (MessageId, u64),
        rewrite: &mut Rewrite,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) {
        if home == victim || !self.segments.contains_key(&home) || !rewrite.told.insert(id) {
            return;
        }
        match current(id) {
            Some(current) if current.place.segment == home => {
                rewrite.push(record::state(id, home, &current.state), None);
            }
            // A newer copy elsewhere carries its state.
            Some(_) => return,
            None => rewrite.push(record::finished(id, home), None),
        }
        rewrite.homes.insert(home);
    }
}

impl Rewrite {
    fn push(&mut self, record: Encoded, moves: Option<(MessageId, Place)>) {
        self.records.push(record);
        self.moves.push(moves);
    }

    fn message(
        &mut self,
        victim: u64,
        start: u64,
        message: &MessageRecord<'_>,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) {
        let Some(current) = current(message.id) else {
            return;
        };
        let here = start + message.body_start as u64;
        if current.place.segment != victim || current.place.body != here {
            return;
        }
        let body = bytes::Bytes::copy_from_slice(message.body);
        let encoded = record::message(&MessageFields {
            id: message.id,
            accepted: message.accepted,
            state: &current.state,
            envelope: &message.envelope,
            body: &body,
        });
        self.push(encoded, Some((message.id, current.place)));
    }
}
