//! The trailer of a sealed segment: where its index is. It is found from the end of the file, so all
//! of it is of fixed width.
//!
//! Promises: pure.

use super::{
    format::{Framing, PAYLOAD_VERSION},
    record::TRAILER,
};

/// Bytes of its payload.
const PAYLOAD: u32 = 12;

/// What says that the index record is at `offset` and holds `size` bytes of payload.
pub(super) fn payload(offset: u64, size: u32) -> Vec<u8> {
    let mut bytes = offset.to_le_bytes().to_vec();
    bytes.extend(size.to_le_bytes());
    bytes
}

/// Bytes of the whole record.
pub(super) fn length(framing: Framing) -> usize {
    framing.header_length(PAYLOAD) + PAYLOAD as usize
}

/// Where the trailer that `bytes` is says that the index record is, and what its payload holds.
pub(super) fn read(bytes: &[u8], framing: Framing) -> Option<(u64, u32)> {
    let found = framing.only_record(bytes)?;
    if (found.kind, found.version) != (TRAILER, PAYLOAD_VERSION) {
        return None;
    }
    let (offset, size) = bytes.get(found.payload)?.split_at_checked(8)?;
    let offset = u64::from_le_bytes(offset.try_into().ok()?);
    Some((offset, u32::from_le_bytes(size.try_into().ok()?)))
}
