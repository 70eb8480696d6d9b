//! Entries by number, in chunks that stay where they are.
//!
//! Promises: pure; adding an entry moves no other, so it takes no longer and leaves no memory behind
//! however many there are. The number of an entry that is gone is given again. There is memory for
//! as many entries as there were at most.

use super::legs::NONE;

/// Entries of a chunk: of most sizes, some whole pages of memory.
const CHUNK: usize = 4096;

/// The entries.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    chunks: Vec<Vec<Entry<T>>>,
    /// The number to be given next, [`NONE`] for one that was never given.
    vacant: u32,
    len: usize,
}

#[derive(Debug)]
enum Entry<T> {
    /// And the next one that is.
    Vacant(u32),
    Occupied(T),
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: NONE,
            len: 0,
        }
    }
}

impl<T> Chunks<T> {
    /// Adds an entry; its number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let number = self.vacant;
        if let Some(entry) = self.entry_mut(number) {
            let entry = std::mem::replace(entry, Entry::Occupied(value));
            if let Entry::Vacant(next) = entry {
                self.vacant = next;
            }
            return number;
        }
        let number = u32::try_from(self.numbers()).expect("memory ends before 2^32 entries do");
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(Entry::Occupied(value));
        }
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        match chunk.get(number as usize % CHUNK)? {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.entry_mut(number)? {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let next = self.vacant;
        let entry = self.entry_mut(number)?;
        if let Entry::Vacant(_) = entry {
            return None;
        }
        let entry = std::mem::replace(entry, Entry::Vacant(next));
        self.vacant = number;
        self.len -= 1;
        match entry {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All numbers that were given so far are below.
    pub(super) fn numbers(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    /// All entries, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = (0..).zip(self.chunks.iter().flatten());
        entries.filter_map(|(number, entry)| match entry {
            Entry::Occupied(value) => Some((number, value)),
            Entry::Vacant(_) => None,
        })
    }

    fn entry_mut(&mut self, number: u32) -> Option<&mut Entry<T>> {
        let chunk = self.chunks.get_mut(number as usize / CHUNK)?;
        chunk.get_mut(number as usize % CHUNK)
    }
}

/// Bytes an entry takes.
#[cfg(test)]
pub(super) const fn size_of_entry<T>() -> usize {
    size_of::<Entry<T>>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_go_on_in_the_next_chunk() {
        let mut chunks = Chunks::default();
        let count = CHUNK as u32 * 2 + 1;
        for number in 0..count {
            assert_eq!(chunks.insert(number), number);
        }
        assert_eq!(
            (chunks.len(), chunks.numbers()),
            (count as usize, count as usize)
        );
        assert!((0..count).all(|number| chunks.get(number) == Some(&number)));
        assert_eq!(chunks.get(count), None);
        assert_eq!(chunks.get(NONE), None);
    }

    proptest! {
        #[test]
        fn chunks_are_what_maps_are(steps in prop::collection::vec((0..4_u8, 0..20_u32, any::<u8>()), 1..200)) {
            let (mut chunks, mut model) = (Chunks::default(), BTreeMap::new());
            for (step, number, value) in steps {
                match step {
                    0 | 1 => {
                        let number = chunks.insert(value);
                        prop_assert_eq!(model.insert(number, value), None);
                    }
                    2 => prop_assert_eq!(chunks.remove(number), model.remove(&number)),
                    _ => {
                        prop_assert_eq!(chunks.get(number), model.get(&number));
                        if let Some(entry) = chunks.get_mut(number) {
                            *entry = value;
                            model.insert(number, value);
                        }
                    }
                }
                prop_assert_eq!(chunks.len(), model.len());
                let entries: Vec<_> = chunks.iter().collect();
                let expected: Vec<_> = model.iter().map(|(number, value)| (*number, value)).collect();
                prop_assert_eq!(entries, expected);
                prop_assert!(model.keys().all(|number| (*number as usize) < chunks.numbers()));
            }
        }
    }
}
