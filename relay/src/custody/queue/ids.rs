//! Messages by id, in tables that grow one at a time.
//!
//! Promises: pure; an entry takes 5 to 11 bytes. A table that grows is one of [`TABLES`], so nobody
//! waits while all entries are put into another place.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Tables: with a million ids, each has some 4,000.
const TABLES: usize = 256;

/// Which slot the message of an id has.
pub(super) struct Ids {
    tables: Vec<HashTable<u32>>,
    hasher: RandomState,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Ids {
    /// The slot of an id. `id_of` tells the id in a slot.
    pub(super) fn find(&self, id: u128, id_of: impl Fn(u32) -> Option<u128>) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let table = self.tables.get(table_of(hash))?;
        table.find(hash, |slot| id_of(*slot) == Some(id)).copied()
    }

    /// Adds an id that is not there, whose slot has it already.
    pub(super) fn insert(&mut self, id: u128, slot: u32, id_of: impl Fn(u32) -> Option<u128>) {
        let hash = self.hasher.hash_one(id);
        let hash_of = |slot: &u32| self.hasher.hash_one(id_of(*slot).unwrap_or_default());
        if let Some(table) = self.tables.get_mut(table_of(hash)) {
            table.insert_unique(hash, slot, hash_of);
        }
    }

    /// The message of an id has a slot no more.
    pub(super) fn remove(&mut self, id: u128, slot: u32) {
        let hash = self.hasher.hash_one(id);
        if let Some(table) = self.tables.get_mut(table_of(hash))
            && let Ok(found) = table.find_entry(hash, |found| *found == slot)
        {
            found.remove();
        }
    }
}

/// By bits that the tables themselves do not look at first: they use the lowest and the highest.
fn table_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[5])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_what_a_map_is(steps in prop::collection::vec((any::<bool>(), 0..3000_u32), 1..3000)) {
            let (mut ids, mut model) = (Ids::default(), BTreeMap::new());
            // The id of a slot is thrice its number.
            let id_of = |slot: u32| Some(u128::from(slot) * 3);
            for (adds, slot) in steps {
                let id = u128::from(slot) * 3;
                if adds && model.insert(id, slot).is_none() {
                    ids.insert(id, slot, id_of);
                } else if !adds && model.remove(&id).is_some() {
                    ids.remove(id, slot);
                }
                prop_assert_eq!(ids.find(id, id_of), model.get(&id).copied());
            }
            for id in 0..9000 {
                prop_assert_eq!(ids.find(id, id_of), model.get(&id).copied());
            }
        }
    }
}
