//! The stores, each set up as its documentation advises for many small synced batches.

use std::path::Path;

use fjall::{KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use redb::{Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::{
    Failure,
    engine::{Change, Engine, Stable},
};

/// Memory each may use to cache, which this workload hardly reads from.
const CACHE: usize = 32 << 20;

/// fjall: bodies apart from the tree, so that compaction does not copy them.
pub(crate) struct Fjall {
    database: fjall::Database,
    heads: fjall::Keyspace,
    bodies: fjall::Keyspace,
}

impl Fjall {
    /// Opens or makes it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let builder = fjall::Database::builder(dir).manual_journal_persist(true);
        let database = builder.cache_size(CACHE as u64).open()?;
        let heads = database.keyspace("heads", KeyspaceCreateOptions::default)?;
        let bodies = database.keyspace("bodies", || {
            KeyspaceCreateOptions::default()
                .with_kv_separation(Some(KvSeparationOptions::default()))
        })?;
        Ok(Self {
            database,
            heads,
            bodies,
        })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, changes: &[Change], stable: Stable) -> Result<(), Failure> {
        let mode = match stable {
            Stable::Now => PersistMode::SyncData,
            Stable::Later => PersistMode::Buffer,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for change in changes {
            match change {
                Change::Message { id, head, body } => {
                    batch.insert(&self.heads, id.to_be_bytes(), head.as_slice());
                    batch.insert(&self.bodies, id.to_be_bytes(), body.clone());
                }
                Change::Head { id, head, .. } => {
                    batch.insert(&self.heads, id.to_be_bytes(), head.as_slice());
                }
                Change::Finished { id } => {
                    batch.remove(&self.heads, id.to_be_bytes());
                    batch.remove(&self.bodies, id.to_be_bytes());
                }
            }
        }
        Ok(batch.commit()?)
    }

    fn heads(&self) -> Result<u64, Failure> {
        let mut count = 0;
        for entry in self.heads.iter() {
            let (_, head) = entry.into_inner()?;
            count += u64::from(!head.is_empty());
        }
        Ok(count)
    }
}

const HEADS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("heads");
const BODIES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("bodies");

/// redb: one file, one sync a commit.
pub(crate) struct Redb(redb::Database);

impl Redb {
    /// Opens or makes it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let mut builder = redb::Database::builder();
        let database = builder.set_cache_size(CACHE).create(dir.join("redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(HEADS)?;
        transaction.open_table(BODIES)?;
        transaction.commit()?;
        Ok(Self(database))
    }
}

impl Engine for Redb {
    fn commit(&mut self, changes: &[Change], stable: Stable) -> Result<(), Failure> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(match stable {
            Stable::Now => Durability::Immediate,
            Stable::Later => Durability::None,
        })?;
        let mut heads = transaction.open_table(HEADS)?;
        let mut bodies = transaction.open_table(BODIES)?;
        for change in changes {
            match change {
                Change::Message { id, head, body } => {
                    heads.insert(id, head.as_slice())?;
                    bodies.insert(id, body.as_ref())?;
                }
                Change::Head { id, head, .. } => drop(heads.insert(id, head.as_slice())?),
                Change::Finished { id } => {
                    heads.remove(id)?;
                    bodies.remove(id)?;
                }
            }
        }
        drop((heads, bodies));
        Ok(transaction.commit()?)
    }

    fn heads(&self) -> Result<u64, Failure> {
        let transaction = self.0.begin_read()?;
        let mut count = 0;
        for entry in transaction.open_table(HEADS)?.iter()? {
            let (_, head) = entry?;
            count += u64::from(!head.value().is_empty());
        }
        Ok(count)
    }
}
