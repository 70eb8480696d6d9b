//! A value at rest: as JSON, deflated (RFC 1951). A status of 6 kB, most of it field names and texts
//! that are the same again, takes some 1.5 kB so, in one piece.
//!
//! Promises: what is unpacked equals what was packed.

use std::{
    fmt,
    io::{Read as _, Write as _},
    marker::PhantomData,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde::{Serialize, de::DeserializeOwned};

/// A packed `T`, which has to be plain data: no map in it has keys that are no texts.
pub(crate) struct Packed<T> {
    octets: Box<[u8]>,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Packs `value`.
    pub(crate) fn pack(value: &T) -> Self {
        let json = serde_json::to_vec(value).expect("plain data");
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
        let octets = deflated.write_all(&json).and_then(|()| deflated.finish());
        Self {
            octets: octets.expect("a Vec takes all").into_boxed_slice(),
            of: PhantomData,
        }
    }

    /// What was packed.
    pub(crate) fn unpack(&self) -> T {
        let mut json = Vec::new();
        let inflated = DeflateDecoder::new(&*self.octets).read_to_end(&mut json);
        inflated.expect("what was deflated here");
        serde_json::from_slice(&json).expect("what was written here")
    }
}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self {
            octets: self.octets.clone(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} octets)", self.octets.len())
    }
}
