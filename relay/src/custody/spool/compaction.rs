//! Compaction: what is needed of a mostly dead segment is written again to the head, so that the
//! segment can go.
//!
//! Promises: a step reads and writes about a megabyte, so that nobody waits long behind it; over
//! time at most as many bytes are written as were appended. The copies are on stable storage before
//! the old segment is removed, so a crash leaves both (the newer counts) or one. A segment with
//! damage is left alone, unless that damage was put aside when the spool was opened.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Place, Segment, Spool, Sync,
    format::{Framing, SEGMENT_HEADER, Stretch, scan_from},
    record::{self, Encoded, Head, Record},
    segment_name,
};
use crate::{
    custody::{orders::Orders, state::State},
    mail::MessageId,
};

/// Where a message that is not done lives, and how far it is.
pub(crate) struct Current {
    pub(crate) place: Place,
    pub(crate) state: State,
}

impl From<(Place, State)> for Current {
    fn from((place, state): (Place, State)) -> Self {
        Self { place, state }
    }
}

/// A message that lives elsewhere now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) id: MessageId,
    pub(crate) to: Place,
}

/// A compaction under way.
pub(super) struct Compaction {
    victim: u64,
    framing: Framing,
    /// How far it was read.
    at: u64,
    chunk: usize,
    /// Messages of other segments whose state was written already.
    told: HashSet<MessageId>,
    /// Times in a row that it could not be read.
    failures: u32,
}

/// What is to be written of a chunk.
#[derive(Default)]
struct Rewrite {
    records: Vec<Encoded>,
    /// By record: the message it moves, and from where.
    moves: Vec<Option<(MessageId, Place)>>,
    /// Segments the records refer to.
    homes: BTreeSet<u64>,
    /// Messages of other segments whose state these records are.
    told: HashSet<MessageId>,
}

/// How a chunk was read.
enum Chunk {
    /// Up to there, which is not the end.
    Until(u64),
    /// Up to the end of the segment.
    End,
    /// Not all of it can be read.
    Damaged,
}

/// Bytes one step reads, unless a record is longer.
const CHUNK: usize = 1 << 20;
/// Times in a row that a segment may fail to be read before it is left alone.
const MAX_FAILURES: u32 = 5;

impl Spool {
    /// Goes on with the compaction of a segment, or begins one if that is worth it and within the
    /// budget. `current` tells of messages that are not done. The moves have happened on disk; the
    /// caller repeats them in its index.
    pub(crate) fn compact(
        &mut self,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) -> io::Result<Vec<Moved>> {
        let under_way = self.compaction.take();
        // What it had to say may have become needless meanwhile, and the segment removed.
        let under_way = under_way.filter(|job| self.segments.contains_key(&job.victim));
        let job = under_way.or_else(|| {
            let victim = self.victim()?;
            self.begin_compaction(victim)
        });
        let Some(mut job) = job else {
            return Ok(Vec::new());
        };
        let mut rewrite = Rewrite::default();
        let chunk = match self.read_chunk(&mut job, &mut rewrite, current) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.unread(job);
                return Err(error);
            }
        };
        let told = std::mem::take(&mut rewrite.told);
        let moved = match self.write_rewrite(&job, rewrite) {
            Ok(moved) => moved,
            Err(error) => {
                // From where it was.
                self.compaction = Some(job);
                return Err(error);
            }
        };
        job.told.extend(told);
        match chunk {
            Chunk::Until(at) => {
                job.at = at;
                self.compaction = Some(job);
            }
            Chunk::End if self.segments.get(&job.victim).is_some_and(|s| s.live == 0) => {
                // Everything needed of the segment is elsewhere.
                if let Some(segment) = self.segments.get_mut(&job.victim) {
                    segment.refers.clear();
                }
            }
            Chunk::End | Chunk::Damaged => {
                tracing::error!(
                    segment = job.victim,
                    "damaged segment is kept, not compacted"
                );
                self.pin(job.victim);
            }
        }
        Ok(moved)
    }

    /// `None` where nobody knows how to read the segment; it is kept then.
    fn begin_compaction(&mut self, victim: u64) -> Option<Compaction> {
        let Some(framing) = self.segments.get(&victim).and_then(|s| s.framing) else {
            self.pin(victim);
            return None;
        };
        Some(Compaction {
            victim,
            framing,
            at: SEGMENT_HEADER as u64,
            chunk: CHUNK,
            told: HashSet::new(),
            failures: 0,
        })
    }

    /// Another try at the same place, or none where there were enough: what lives there stays.
    fn unread(&mut self, mut job: Compaction) {
        job.failures += 1;
        if job.failures < MAX_FAILURES {
            self.compaction = Some(job);
            return;
        }
        tracing::error!(
            segment = job.victim,
            "segment cannot be read and is kept, not compacted"
        );
        self.pin(job.victim);
    }

    /// Reads on and gathers what is needed.
    fn read_chunk(
        &self,
        job: &mut Compaction,
        rewrite: &mut Rewrite,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) -> io::Result<Chunk> {
        let Some(segment) = self.segments.get(&job.victim) else {
            return Ok(Chunk::End);
        };
        // What lies behind its length was written by an append that failed.
        let left = usize::try_from(segment.length.saturating_sub(job.at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(job.chunk)];
        let file = self.disk.open(&segment_name(job.victim))?;
        file.read_at(job.at, &mut bytes)?;
        job.failures = 0;
        let bytes = Bytes::from(bytes);
        for stretch in scan_from(&bytes, 0, job.framing) {
            match stretch {
                Stretch::Record(found) if record::is_about_nothing(found.kind) => {}
                Stretch::Record(found) => {
                    let offset = job.at + found.whole.start as u64;
                    let payload = bytes.slice(found.payload);
                    match record::decode(found.kind, found.version, &payload) {
                        Ok((record, body)) => {
                            self.retell(job, &record, rewrite, current);
                            let place = (job.victim, offset);
                            rewrite.orders(place, &record, self.orders.as_ref());
                            if let Some(head) = record.into_message() {
                                rewrite.message(place, head, payload.slice(body), current);
                            }
                        }
                        Err(_) if segment.damaged => {}
                        Err(_) => return Ok(Chunk::Damaged),
                    }
                }
                Stretch::Torn(range) if bytes.len() < left => {
                    // Its record goes on behind the chunk.
                    if range.start == 0 {
                        job.chunk = job.chunk.saturating_mul(2);
                    } else {
                        job.chunk = CHUNK;
                    }
                    return Ok(Chunk::Until(job.at + range.start as u64));
                }
                Stretch::Damaged(_) | Stretch::Torn(_) if segment.damaged => {}
                Stretch::Damaged(_) | Stretch::Torn(_) => return Ok(Chunk::Damaged),
            }
        }
        Ok(match bytes.len() < left {
            true => Chunk::Until(job.at + bytes.len() as u64),
            false => Chunk::End,
        })
    }

    fn write_rewrite(&mut self, job: &Compaction, rewrite: Rewrite) -> io::Result<Vec<Moved>> {
        if rewrite.records.is_empty() {
            return Ok(Vec::new());
        }
        let credit = self.credit;
        let places = self.append(&rewrite.records, Sync::Now)?;
        let written: u64 = places.iter().map(|place| u64::from(place.length)).sum();
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
                head.supersedes.insert(job.victim);
            }
        }
        Ok(moved)
    }

    /// The segment to go, once dead bytes exceed both the live ones and the slack; a suspect one at
    /// once. The oldest in which nothing lives, if there is one: it waits only for an older one that
    /// lives on, and mostly those behind it wait for it alone, since each refers to the one before.
    /// Else the one with the most dead bytes.
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
                    && !segment.refers.iter().any(|n| self.is_left_out(*n))
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
        let waits = |segment: &Segment| segment.live == 0 && !self.may_go(segment);
        if let Some((number, _)) = candidates().find(|(_, segment)| waits(segment)) {
            return Some(number);
        }
        candidates()
            .filter(|(_, segment)| affordable(segment))
            .max_by_key(|(_, segment)| segment.length.saturating_sub(segment.live_bytes))
            .map(|(number, _)| number)
    }

    /// Whether it is not known which messages live in a segment: then it cannot be told anew what a
    /// record says of them.
    fn is_left_out(&self, number: u64) -> bool {
        let segment = self.segments.get(&number);
        segment.is_some_and(|segment| segment.left_out)
    }

    /// A record about a message of another segment: its whole state stands for it, as long as that
    /// segment is there.
    fn retell(
        &self,
        job: &Compaction,
        record: &Record,
        rewrite: &mut Rewrite,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) {
        let Some((id, home)) = record.subject() else {
            return;
        };
        let is_there = home != job.victim && self.segments.contains_key(&home);
        if !is_there || job.told.contains(&id) || !rewrite.told.insert(id) {
            return;
        }
        let record = match current(id) {
            Some(Current { place, state }) if place.segment == home => {
                Record::State { id, home, state }
            }
            // A newer copy elsewhere carries its state.
            Some(_) => return,
            None => Record::Finished { id, home },
        };
        rewrite.push(Encoded::of(record), None);
        rewrite.homes.insert(home);
    }
}

impl Rewrite {
    fn push(&mut self, record: Encoded, moves: Option<(MessageId, Place)>) {
        self.records.push(record);
        self.moves.push(moves);
    }

    /// The table of orders, if it is the one in force.
    fn orders(
        &mut self,
        (victim, offset): (u64, u64),
        record: &Record,
        current: Option<&(Place, Arc<Orders>)>,
    ) {
        let Record::Orders(orders) = record else {
            return;
        };
        if current.is_some_and(|(place, _)| (place.segment, place.offset) == (victim, offset)) {
            self.push(Encoded::of(Record::Orders(Arc::clone(orders))), None);
        }
    }

    fn message(
        &mut self,
        (victim, offset): (u64, u64),
        head: Head,
        body: Bytes,
        current: &mut dyn FnMut(MessageId) -> Option<Current>,
    ) {
        let Some(current) = current(head.id) else {
            return;
        };
        if (current.place.segment, current.place.offset) != (victim, offset) {
            return;
        }
        let id = head.id;
        let message = Head {
            state: current.state,
            ..head
        };
        let record = Record::Moved {
            from: victim,
            message,
        };
        self.push(Encoded::new(record, body), Some((id, current.place)));
    }
}
