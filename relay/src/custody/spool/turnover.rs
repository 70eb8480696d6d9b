//! How segments come and go: begun with a header, ended with an index, removed once nothing in them
//! is needed, their room taken by the next.
//!
//! Promises: a segment's header and name are stable before its first record is written, and so is a
//! removal before another that depends on it. A segment that takes the room of an older one shows
//! nothing of that: its records begin with a mark that the older one's do not have, and its header
//! was there before its name. Never: removes what a message, a record or an order still needs.

use std::{collections::BTreeSet, io};

use super::{
    Head, INDEXED, Segment, Spool,
    format::{Framing, LONGEST_HEADER, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader},
    index::Index,
    length_of, record, trailer,
};
use crate::ports::DiskFile;

/// A segment that is no longer needed, whose room the next one takes: what is written over is synced
/// in half the time of what is appended, for which the file system has to commit a length.
pub(super) const SPARE: &str = "spare";

/// Segments are numbered by 32 bits in memory: one a second for 136 years.
pub(super) const MAX_SEGMENT: u64 = u32::MAX as u64 - 1;

impl Spool {
    /// Makes sure that there is a head to append to: begins one, on stable storage with its name,
    /// when there is none or it is full. Working, it proves the disk works.
    pub(crate) fn ensure_head(&mut self) -> io::Result<()> {
        let is_over = |head: &Head| {
            head.length >= self.segment_bytes
                || head.index.len() >= INDEXED
                || (self.announces && !head.announces)
        };
        if self.head.as_ref().is_some_and(is_over) {
            self.seal()?;
        }
        if self.head.is_none() {
            self.head = Some(self.begin()?);
        }
        Ok(())
    }

    /// Ends the head with its index, on stable storage. The next append begins another.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        let Some(mut head) = self.head.take() else {
            return Ok(());
        };
        let end = (head.length, head.room);
        let sealed = write_index(head.file.as_ref(), end, head.framing, &head.index);
        match sealed {
            Ok(length) => {
                head.length = length;
                if let Some(segment) = self.segments.get_mut(&head.number) {
                    segment.length = length;
                }
                Ok(())
            }
            Err(error) => {
                self.abandon(&head);
                Err(error)
            }
        }
    }

    /// Begins a segment: header and name are stable before the first record is written.
    fn begin(&mut self) -> io::Result<Head> {
        let header = SegmentHeader {
            version: SEGMENT_VERSION,
            number: self.next_number,
            marker: self.random.next_u64(),
            repeats: self.abandoned,
            orders: self.announces,
        };
        if header.number > MAX_SEGMENT {
            return Err(io::Error::other("spool has used up its segment numbers"));
        }
        let name = segment_name(header.number);
        let has_spare = std::mem::take(&mut self.has_spare);
        let begun = match has_spare {
            true => self.reuse_spare(&name, &header),
            false => self.create(&name, &header),
        };
        self.next_number += 1;
        let (file, room) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                // Holds no record; what cannot be removed now is removed at the next opening.
                let _ = self.disk.remove(&name);
                if has_spare {
                    let _ = self.disk.remove(SPARE);
                }
                return Err(error);
            }
        };
        let length = SEGMENT_HEADER as u64;
        let segment = Segment {
            length,
            framing: Some(header.framing()),
            supersedes: (self.abandoned != 0)
                .then_some(self.abandoned)
                .into_iter()
                .collect(),
            ..Segment::default()
        };
        self.segments.insert(header.number, segment);
        self.abandoned = 0;
        Ok(Head {
            number: header.number,
            framing: header.framing(),
            file,
            length,
            synced: length,
            room,
            announces: header.orders,
            index: Index::new(header.number, header.repeats),
        })
    }

    /// A new file with a segment's header, and its length.
    fn create(&self, name: &str, header: &SegmentHeader) -> io::Result<(Box<dyn DiskFile>, u64)> {
        let file = self.disk.create(name)?;
        file.write_at(0, &[&header.encode()])?;
        file.sync_data()?;
        self.disk.sync_directory("")?;
        Ok((file, SEGMENT_HEADER as u64))
    }

    /// The spare with a segment's header, and its length. It has the header before it has the name,
    /// so that nobody takes what it held for what the segment holds.
    fn reuse_spare(
        &self,
        name: &str,
        header: &SegmentHeader,
    ) -> io::Result<(Box<dyn DiskFile>, u64)> {
        let file = self.disk.open(SPARE)?;
        // Written over while it is kept in large pieces, each counts as written whole.
        file.forget();
        // Nor may its first record be found where the new header is damaged one day.
        file.write_at(0, &[&header.encode(), &[0; LONGEST_HEADER]])?;
        file.sync_data()?;
        self.disk.rename(SPARE, name)?;
        self.disk.sync_directory("")?;
        let room = file.length()?;
        Ok((file, room))
    }

    /// Gives up a head whose write or sync failed. What was synced before stays; the rest was never
    /// acknowledged and is cut off if the disk lets us.
    pub(super) fn abandon(&mut self, head: &Head) {
        let cut = head
            .file
            .truncate(head.synced)
            .and_then(|()| head.file.sync_data());
        if let Err(error) = cut {
            tracing::warn!(segment = head.number, %error, "unsynced tail could not be cut off");
        }
        if let Some(segment) = self.segments.get_mut(&head.number) {
            segment.length = head.synced;
            segment.suspect = true;
        }
        self.abandoned = head.number;
    }

    /// Removes segments in which nothing is needed; a whole one becomes the spare where there is
    /// none. Each removal is stable before one that depends on it is made.
    pub(crate) fn remove_dead(&mut self) -> io::Result<()> {
        while let Some(number) = self.removable() {
            let name = segment_name(number);
            let is_whole = |segment: &Segment| {
                // Of a disk that failed there, or changed what was written, nothing is used again.
                segment.length >= self.segment_bytes && !segment.suspect && !segment.damaged
            };
            let is_kept = !self.has_spare && self.segments.get(&number).is_some_and(is_whole);
            let gone = match is_kept {
                true => self.disk.rename(&name, SPARE),
                false => self.disk.remove(&name),
            };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) if is_kept => self.has_spare = true,
                Ok(()) | Err(_) => {}
            }
            self.disk.sync_directory("")?;
            self.segments.remove(&number);
        }
        Ok(())
    }

    fn removable(&self) -> Option<u64> {
        let mut sealed = self.sealed();
        sealed
            .find(|(_, segment)| self.may_go(segment))
            .map(|(number, _)| number)
    }

    /// Whether nothing in a segment that is not the head is needed.
    pub(super) fn may_go(&self, segment: &Segment) -> bool {
        let gone = |others: &BTreeSet<u64>| !others.iter().any(|n| self.segments.contains_key(n));
        segment.live == 0 && !segment.pinned && gone(&segment.refers) && gone(&segment.supersedes)
    }

    /// All segments but the head.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (u64, &Segment)> {
        let head = self.head.as_ref().map(|head| head.number);
        self.segments
            .iter()
            .map(|(number, segment)| (*number, segment))
            .filter(move |(number, _)| Some(*number) != head)
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// Writes a segment's index and trailer behind its `length` bytes, cuts off what is left of its
/// `room`, since a trailer ends its file, and syncs. The new length.
pub(super) fn write_index(
    file: &dyn DiskFile,
    (length, room): (u64, u64),
    framing: Framing,
    index: &Index,
) -> io::Result<u64> {
    let payload = index.encode();
    let size = length_of(payload.len())?;
    let mut header = Vec::new();
    framing.put_header(&mut header, record::INDEX, size, crc32fast::hash(&payload));
    let said = trailer::payload(length, size);
    let mut trailer = Vec::new();
    let sum = crc32fast::hash(&said);
    framing.put_header(&mut trailer, record::TRAILER, length_of(said.len())?, sum);
    trailer.extend(said);
    let parts: [&[u8]; 3] = [&header, &payload, &trailer];
    let end = length + parts.iter().map(|part| part.len() as u64).sum::<u64>();
    file.write_at(length, &parts)?;
    if room > end {
        file.truncate(end)?;
    }
    file.sync_data()?;
    Ok(end)
}
