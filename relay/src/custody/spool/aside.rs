//! What was put aside of damage: found, told, and bounded where nobody misses it.
//!
//! Promises: copies of damage stay until a person removes them; what stands in them may be all that
//! is left of a message. Torn tails are what a crash leaves of writes that nobody was promised: the
//! newest [`TAILS`] of them are kept, and no more than [`TAIL_BYTES`].

use std::io;

use super::QUARANTINE;
use crate::ports::Disk;

/// Torn tails that are kept: those of the last crashes, should one have been damage after all.
const TAILS: usize = 16;
/// Bytes of torn tails that are kept, that of a whole segment; the newest stays whatever it has.
const TAIL_BYTES: u64 = 64 << 20;
/// How names of torn tails end.
pub(super) const TORN: &str = "torn";

/// The files in the quarantine.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Copies of damage, by name, and damaged segments.
    pub(crate) damaged: Vec<String>,
    /// Their bytes.
    pub(crate) damaged_bytes: u64,
    /// Copies of torn tails.
    pub(crate) torn: Vec<String>,
    /// Their bytes.
    pub(crate) torn_bytes: u64,
}

impl Aside {
    /// What is there.
    pub(crate) fn look(disk: &dyn Disk) -> io::Result<Self> {
        let mut aside = Self::default();
        for name in disk.list(QUARANTINE)? {
            let name = format!("{QUARANTINE}/{name}");
            let length = disk.open(&name)?.length()?;
            let (names, bytes) = match is_torn(&name) {
                true => (&mut aside.torn, &mut aside.torn_bytes),
                false => (&mut aside.damaged, &mut aside.damaged_bytes),
            };
            names.push(name);
            *bytes += length;
        }
        Ok(aside)
    }
}

/// Removes the torn tails that are beyond the bound, the oldest first.
pub(crate) fn forget_old_tails(disk: &dyn Disk) -> io::Result<()> {
    let (mut count, mut bytes, mut removed) = (0, 0, false);
    // By name they are in the order of their segments.
    for name in disk.list(QUARANTINE)?.iter().rev() {
        if !is_torn(name) {
            continue;
        }
        let name = format!("{QUARANTINE}/{name}");
        bytes += disk.open(&name)?.length()?;
        count += 1;
        if count > 1 && (count > TAILS || bytes > TAIL_BYTES) {
            disk.remove(&name)?;
            tracing::info!(file = name, "copy of an old torn tail removed");
            removed = true;
        }
    }
    match removed {
        true => disk.sync_directory(QUARANTINE),
        false => Ok(()),
    }
}

fn is_torn(name: &str) -> bool {
    let suffix = name.rsplit_once('.').map(|(_, suffix)| suffix);
    suffix == Some(TORN)
}
