//! A disk in memory for tests, as unfriendly as a disk may be.
//!
//! Every call has a number. At chosen calls it fails or the machine crashes; from the crash on every
//! call fails. [`SimulatedDisk::restart`] gives the disk as it is found afterwards: names and bytes
//! that were synced are there; of each unsynced write and name change, a seeded choice decides
//! whether all, a part, zeros of the right length, or nothing of it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Disk, DiskFile, DiskLock};

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// The machine crashes at this call.
    pub(crate) crash_at: Option<u64>,
    /// Calls that fail, from the first to before the last.
    pub(crate) fail: Option<(std::ops::Range<u64>, io::ErrorKind)>,
    /// Bytes the volume holds.
    pub(crate) capacity: Option<u64>,
}

#[derive(Debug)]
struct State {
    files: Vec<File>,
    /// Names as the process sees them.
    names: BTreeMap<String, usize>,
    /// Names on stable storage.
    stable_names: BTreeMap<String, usize>,
    locked: BTreeSet<String>,
    faults: Faults,
    calls: u64,
    crashed: bool,
    seed: u64,
    /// Call numbers of the syncs of file data.
    syncs: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    stable: Vec<u8>,
    /// What was written since the last sync.
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

struct OpenFile {
    disk: SimulatedDisk,
    index: usize,
}

struct Lock {
    disk: SimulatedDisk,
    name: String,
}

impl SimulatedDisk {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            locked: BTreeSet::new(),
            faults,
            calls: 0,
            crashed: false,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            syncs: Vec::new(),
        })))
    }

    /// Calls made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Syncs of file data made so far.
    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs.len()
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Changes what goes wrong from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Bytes of a file as the process sees them.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[name]].bytes.clone()
    }

    /// Changes bytes of a file behind everybody's back, on stable storage too.
    pub(crate) fn damage(&self, name: &str, offset: usize, length: usize) {
        let mut state = self.state();
        let index = state.names[name];
        let file = &mut state.files[index];
        for position in offset..offset + length {
            file.bytes[position] ^= 0x5a;
            file.stable[position] ^= 0x5a;
        }
    }

    /// The machine after a power failure now.
    pub(crate) fn restart(&self) -> Self {
        let mut old = self.state();
        let mut random = old.seed;
        let mut files = Vec::new();
        for file in old.files.clone() {
            let bytes = file.after_crash(&mut random);
            files.push(File {
                stable: bytes.clone(),
                bytes,
                unsynced: Vec::new(),
            });
        }
        // Of each name that differs, either state may be found.
        let mut names = old.stable_names.clone();
        let all: BTreeSet<String> = old.names.keys().chain(names.keys()).cloned().collect();
        for name in all {
            if draw(&mut random).is_multiple_of(2) {
                match old.names.get(&name) {
                    Some(index) => drop(names.insert(name, *index)),
                    None => drop(names.remove(&name)),
                }
            }
        }
        old.crashed = true;
        let restarted = Self::new(Faults::default(), random);
        let mut state = restarted.state();
        state.files = files;
        state.names = names.clone();
        state.stable_names = names;
        drop(state);
        restarted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts a call and says whether it fails. At the crash the call's effect is left to chance
    /// by `restart`, so callers apply it before they fail.
    fn call(&self) -> (MutexGuard<'_, State>, io::Result<()>) {
        let mut state = self.state();
        if state.crashed {
            return (state, Err(io::Error::other("crashed")));
        }
        let number = state.calls;
        state.calls += 1;
        if state.faults.crash_at == Some(number) {
            state.crashed = true;
            return (state, Err(io::Error::other("crashed")));
        }
        let failure = state.faults.fail.as_ref().and_then(|(calls, kind)| {
            calls
                .contains(&number)
                .then(|| io::Error::new(*kind, "injected"))
        });
        (state, failure.map_or(Ok(()), Err))
    }
}

impl File {
    fn apply(bytes: &mut Vec<u8>, write: &Write) {
        match write {
            Write::Bytes(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Write::Length(length) => bytes.resize(*length, 0),
        }
    }

    fn after_crash(self, random: &mut u64) -> Vec<u8> {
        let mut bytes = self.stable;
        for write in self.unsynced {
            match (draw(random) % 4, &write) {
                (0, _) => Self::apply(&mut bytes, &write),
                (1, Write::Bytes(offset, data)) => {
                    let part = draw(random) as usize % (data.len() + 1);
                    Self::apply(&mut bytes, &Write::Bytes(*offset, data[..part].to_vec()));
                }
                (2, Write::Bytes(offset, data)) => {
                    // The length came through, the first part did not.
                    let lost = draw(random) as usize % (data.len() + 1);
                    let mut torn = data.clone();
                    torn[..lost].fill(0);
                    Self::apply(&mut bytes, &Write::Bytes(*offset, torn));
                }
                _ => {}
            }
        }
        bytes
    }
}

impl State {
    fn used(&self) -> u64 {
        let files = self.names.values().map(|index| &self.files[*index]);
        files.map(|file| file.bytes.len() as u64).sum()
    }
}

impl Disk for SimulatedDisk {
    fn create_folder(&self, _name: &str) -> io::Result<()> {
        self.call().1
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let (mut state, failure) = self.call();
        failure?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = state.files.len();
        state.files.push(File::default());
        state.names.insert(name.to_owned(), index);
        let disk = self.clone();
        Ok(Box::new(OpenFile { disk, index }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let (state, failure) = self.call();
        failure?;
        let index = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let disk = self.clone();
        Ok(Box::new(OpenFile { disk, index }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let (state, failure) = self.call();
        failure?;
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let names = state.names.keys().filter_map(|n| n.strip_prefix(&prefix));
        Ok(names
            .filter(|n| !n.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, failure) = self.call();
        failure?;
        let index = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut state, failure) = self.call();
        failure?;
        let removed = state.names.remove(name);
        removed
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self, folder: &str) -> io::Result<()> {
        let (mut state, failure) = self.call();
        failure?;
        let here = |name: &String| name.rsplit_once('/').map_or("", |(f, _)| f) == folder;
        let seen = state.names.clone();
        state.stable_names.retain(|name, _| !here(name));
        let seen = seen.into_iter().filter(|(name, _)| here(name));
        state.stable_names.extend(seen);
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        let (state, failure) = self.call();
        failure?;
        let capacity = state.faults.capacity.unwrap_or(1 << 40);
        Ok(capacity.saturating_sub(state.used()))
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn DiskLock>> {
        let (mut state, failure) = self.call();
        failure?;
        if !state.locked.insert(name.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (disk, name) = (self.clone(), name.to_owned());
        Ok(Box::new(Lock { disk, name }))
    }
}

impl DiskFile for OpenFile {
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let (mut state, mut failure) = self.disk.call();
        let mut data = parts.concat();
        let room = state
            .faults
            .capacity
            .map(|c| c.saturating_sub(state.used()));
        if let Some(room) = room
            && (data.len() as u64) > room
        {
            data.truncate(room as usize);
            failure = failure.and_then(|()| Err(io::ErrorKind::StorageFull.into()));
        }
        let write = Write::Bytes(offset as usize, data);
        let file = &mut state.files[self.index];
        File::apply(&mut file.bytes, &write);
        file.unsynced.push(write);
        failure
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (state, failure) = self.disk.call();
        failure?;
        let start = offset as usize;
        let bytes = state.files[self.index]
            .bytes
            .get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, failure) = self.disk.call();
        let (number, crashed) = (state.calls - 1, state.crashed);
        state.syncs.push(number);
        let file = &mut state.files[self.index];
        match failure {
            Ok(()) => {
                for write in std::mem::take(&mut file.unsynced) {
                    File::apply(&mut file.stable, &write);
                }
                Ok(())
            }
            // As on Linux: what could not be written is forgotten, and the next sync says nothing.
            Err(error) => {
                if !crashed {
                    file.unsynced.clear();
                }
                Err(error)
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let (mut state, failure) = self.disk.call();
        failure?;
        let write = Write::Length(length as usize);
        let file = &mut state.files[self.index];
        File::apply(&mut file.bytes, &write);
        file.unsynced.push(write);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let (state, failure) = self.disk.call();
        failure?;
        Ok(state.files[self.index].bytes.len() as u64)
    }
}

impl DiskLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.name);
    }
}

fn draw(random: &mut u64) -> u64 {
    // xorshift64: enough to choose what a crash leaves.
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 8
}
