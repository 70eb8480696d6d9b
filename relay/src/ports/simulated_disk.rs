//! A disk in memory for tests, as unfriendly as a disk may be.
//!
//! Every call has a number; chosen calls fail. A camera takes a picture after each call that changes
//! something. From a picture, or from the disk itself, [`SimulatedDisk::after_crash`] gives what is
//! found once the machine is up again: names and bytes that were synced are there; what is there of
//! each unsynced write and name change is said by [`Survivors`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Disk, DiskFile, DiskLock};

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    camera: Arc<Mutex<Option<Camera>>>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Calls that fail, from the first to before the last.
    pub(crate) fail: Option<(Range<u64>, Failure)>,
    /// Bytes the volume holds.
    pub(crate) capacity: Option<u64>,
    /// What the names begin with under which nothing can be made.
    pub(crate) unwritable: Option<&'static str>,
    /// The file whose bytes cannot be read.
    pub(crate) unreadable: Option<String>,
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// With this error. A write may have left all of its bytes all the same.
    Error(io::ErrorKind),
    /// A write stops in the middle, anything else fails.
    Short,
    /// Whatever changes something is refused and does nothing; reading works.
    ReadOnly,
}

/// What a crash leaves of writes and name changes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survivors {
    /// All: the process was killed, the machine stayed up.
    All,
    /// Nothing.
    Synced,
    /// The names as they were last, none of the bytes.
    Names,
    /// All the bytes, none of the changed names.
    Bytes,
    /// All, and of the last write only so many of its first bytes.
    Torn(usize),
    /// Chance decides for each write and name: all, a part, zeros of the right length, nothing.
    Chance(u64),
}

struct Camera(Box<dyn FnMut(SimulatedDisk) + Send>);

#[derive(Clone, Debug)]
struct State {
    files: Vec<File>,
    /// Names as the process sees them.
    names: BTreeMap<String, usize>,
    /// Names on stable storage.
    stable_names: BTreeMap<String, usize>,
    /// Names given in the place of others since their directory was synced.
    renamed: Vec<[String; 2]>,
    locked: BTreeSet<String>,
    faults: Faults,
    calls: u64,
    /// Syncs of file data.
    syncs: usize,
    /// File and length of the last call that changed something, where that was a write.
    last_write: Option<(usize, usize)>,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// As the process sees them.
    bytes: Vec<u8>,
    /// Stable bytes.
    base: Vec<u8>,
    /// What was written on top of them, in order.
    writes: Vec<(Write, Fate)>,
}

/// What a sync made of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unsynced,
    /// A sync failed. It may be on the disk or not, whatever later syncs say, as on Linux.
    Doubtful,
    Stable,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

/// Bytes of a file that its outline is made of: more than a segment's header.
const OUTLINE: usize = 64;

struct OpenFile {
    disk: SimulatedDisk,
    index: usize,
}

struct Lock {
    disk: SimulatedDisk,
    name: String,
}

impl SimulatedDisk {
    pub(crate) fn new(faults: Faults) -> Self {
        Self::of(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            renamed: Vec::new(),
            locked: BTreeSet::new(),
            faults,
            calls: 0,
            syncs: 0,
            last_write: None,
        })
    }

    fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            camera: Arc::default(),
        }
    }

    /// Hands a copy of the disk to `camera` after each call that changed something.
    pub(crate) fn photograph(&self, camera: impl FnMut(Self) + Send + 'static) {
        *self.camera.lock().unwrap() = Some(Camera(Box::new(camera)));
    }

    /// Takes no more pictures.
    pub(crate) fn put_camera_away(&self) {
        *self.camera.lock().unwrap() = None;
    }

    /// Calls made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Syncs of file data made so far.
    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Bytes of the last write, if nothing was changed after it.
    pub(crate) fn last_write(&self) -> Option<usize> {
        self.state().last_write.map(|(_, length)| length)
    }

    /// A number that is the same for the same names and bytes.
    pub(crate) fn fingerprint(&self) -> u64 {
        let state = self.state();
        let mut hasher = DefaultHasher::new();
        for (name, index) in &state.names {
            (name, &state.files[*index].bytes).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The same for names and what files begin with, and for the calls made: cheaper.
    pub(crate) fn outline(&self) -> u64 {
        let state = self.state();
        let mut hasher = DefaultHasher::new();
        for (name, index) in &state.names {
            let bytes = &state.files[*index].bytes;
            (name, &bytes[..bytes.len().min(OUTLINE)]).hash(&mut hasher);
        }
        state.calls.hash(&mut hasher);
        hasher.finish()
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
            file.base[position] ^= 0x5a;
        }
    }

    /// The disk as it is found after a crash now. This one goes on as if there had been none.
    pub(crate) fn after_crash(&self, survivors: Survivors) -> Self {
        let mut old = self.state().clone();
        let mut random = match survivors {
            Survivors::Chance(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 1,
        };
        if let (Survivors::Torn(length), Some((index, _))) = (survivors, old.last_write)
            && let Some((Write::Bytes(_, data), _)) = old.files[index].writes.last_mut()
        {
            data.truncate(length);
        }
        for file in &mut old.files {
            file.crash(survivors, &mut random);
        }
        let mut names = old.stable_names.clone();
        let all: BTreeSet<String> = old.names.keys().chain(names.keys()).cloned().collect();
        let mut changed: BTreeMap<String, bool> = BTreeMap::new();
        for name in all {
            let is_changed = match survivors {
                Survivors::All | Survivors::Names | Survivors::Torn(_) => true,
                Survivors::Synced | Survivors::Bytes => false,
                Survivors::Chance(_) => draw(&mut random).is_multiple_of(2),
            };
            changed.insert(name, is_changed);
        }
        // A file has its old name or its new one, as file systems with a journal promise. A name may
        // have been given twice: one that did not survive takes what came of it along.
        for [from, to] in old.renamed.iter().chain(old.renamed.iter().rev()) {
            let both = [from, to].map(|name| changed.get(name).copied().unwrap_or(true));
            if both.contains(&false) {
                changed.extend([from, to].map(|name| (name.clone(), false)));
            }
        }
        for (name, _) in changed.into_iter().filter(|(_, changed)| *changed) {
            match old.names.get(&name) {
                Some(index) => drop(names.insert(name, *index)),
                None => drop(names.remove(&name)),
            }
        }
        Self::of(State {
            files: old.files,
            stable_names: names.clone(),
            renamed: Vec::new(),
            names,
            locked: BTreeSet::new(),
            faults: Faults::default(),
            calls: 0,
            syncs: 0,
            last_write: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Counts a call that reads, and says whether it fails.
    fn reads(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.count() {
            None | Some(Failure::ReadOnly) => Ok(state),
            Some(failure) => Err(failure.error()),
        }
    }

    /// Counts a call that changes something, does it, and takes a picture. It does nothing where it
    /// fails.
    fn changes<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.always_changes(|state, failure| match failure {
            None => change(state),
            Some(failure) => Err(failure.error()),
        })
    }

    /// The same for a call that may do something where it fails.
    fn always_changes<T>(
        &self,
        change: impl FnOnce(&mut State, Option<Failure>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let failure = state.count();
        state.last_write = None;
        let result = change(&mut state, failure);
        let mut camera = self.camera.lock().unwrap();
        if let Some(Camera(camera)) = camera.as_mut() {
            camera(Self::of(state.clone()));
        }
        result
    }
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Self::Error(kind) => io::Error::new(kind, "injected"),
            Self::Short => io::Error::new(io::ErrorKind::WriteZero, "injected"),
            Self::ReadOnly => io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "injected"),
        }
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

    fn synced(&mut self, fate: Fate) {
        for (_, of) in &mut self.writes {
            if *of == Fate::Unsynced {
                *of = fate;
            }
        }
        if self.writes.iter().all(|(_, fate)| *fate == Fate::Stable) {
            self.base.clone_from(&self.bytes);
            self.writes.clear();
        }
    }

    fn crash(&mut self, survivors: Survivors, random: &mut u64) {
        let mut bytes = std::mem::take(&mut self.base);
        for (write, fate) in std::mem::take(&mut self.writes) {
            let choice = match survivors {
                _ if fate == Fate::Stable => 0,
                Survivors::All | Survivors::Bytes | Survivors::Torn(_) => 0,
                Survivors::Synced | Survivors::Names => 3,
                Survivors::Chance(_) => draw(random) % 4,
            };
            match (choice, &write) {
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
        self.base.clone_from(&bytes);
        self.bytes = bytes;
    }
}

impl State {
    fn used(&self) -> u64 {
        let files = self.names.values().map(|index| &self.files[*index]);
        files.map(|file| file.bytes.len() as u64).sum()
    }

    /// Gives a call its number, and how it fails.
    fn count(&mut self) -> Option<Failure> {
        let number = self.calls;
        self.calls += 1;
        let (calls, failure) = self.faults.fail.as_ref()?;
        calls.contains(&number).then_some(*failure)
    }

    fn write(&mut self, index: usize, write: Write) {
        let file = &mut self.files[index];
        File::apply(&mut file.bytes, &write);
        file.writes.push((write, Fate::Unsynced));
    }
}

impl Disk for SimulatedDisk {
    fn create_folder(&self, _name: &str) -> io::Result<()> {
        self.changes(|_| Ok(()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let index = self.changes(|state| {
            let unwritable = state.faults.unwritable;
            if unwritable.is_some_and(|prefix| name.starts_with(prefix)) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let index = state.files.len();
            state.files.push(File::default());
            state.names.insert(name.to_owned(), index);
            Ok(index)
        })?;
        let disk = self.clone();
        Ok(Box::new(OpenFile { disk, index }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.reads()?;
        let index = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let disk = self.clone();
        Ok(Box::new(OpenFile { disk, index }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.reads()?;
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
        self.changes(|state| {
            let index = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), index);
            state.renamed.push([from, to].map(str::to_owned));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.changes(|state| {
            let removed = state.names.remove(name);
            removed
                .map(|_| ())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn sync_directory(&self, folder: &str) -> io::Result<()> {
        self.changes(|state| {
            let here = |name: &String| name.rsplit_once('/').map_or("", |(f, _)| f) == folder;
            let seen = state.names.clone();
            state.renamed.retain(|names| !names.iter().any(here));
            state.stable_names.retain(|name, _| !here(name));
            let seen = seen.into_iter().filter(|(name, _)| here(name));
            state.stable_names.extend(seen);
            Ok(())
        })
    }

    fn free_space(&self) -> io::Result<u64> {
        let state = self.reads()?;
        let capacity = state.faults.capacity.unwrap_or(1 << 40);
        Ok(capacity.saturating_sub(state.used()))
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn DiskLock>> {
        self.changes(|state| match state.locked.insert(name.to_owned()) {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })?;
        let (disk, name) = (self.clone(), name.to_owned());
        Ok(Box::new(Lock { disk, name }))
    }
}

impl DiskFile for OpenFile {
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.disk.always_changes(|state, failure| {
            let mut data = parts.concat();
            let whole = data.len();
            let room = match (failure, state.faults.capacity) {
                (Some(Failure::ReadOnly), _) => 0,
                (Some(Failure::Short), _) => whole / 2,
                (_, Some(capacity)) => capacity.saturating_sub(state.used()) as usize,
                (_, None) => whole,
            };
            data.truncate(room);
            let length = data.len();
            if length > 0 {
                state.write(self.index, Write::Bytes(offset as usize, data));
                state.last_write = Some((self.index, length));
            }
            match failure {
                Some(failure) => Err(failure.error()),
                None if length < whole => Err(io::ErrorKind::StorageFull.into()),
                None => Ok(()),
            }
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.disk.reads()?;
        let unreadable = state.faults.unreadable.as_ref();
        if unreadable.is_some_and(|name| state.names.get(name) == Some(&self.index)) {
            return Err(io::Error::other("injected"));
        }
        let start = offset as usize;
        let bytes = state.files[self.index]
            .bytes
            .get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.always_changes(|state, failure| {
            state.syncs += 1;
            let file = &mut state.files[self.index];
            file.synced(failure.map_or(Fate::Stable, |_| Fate::Doubtful));
            failure.map_or(Ok(()), |failure| Err(failure.error()))
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.changes(|state| {
            state.write(self.index, Write::Length(length as usize));
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.reads()?;
        Ok(state.files[self.index].bytes.len() as u64)
    }

    fn forget(&self) {}
}

impl DiskLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.name);
    }
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Camera")
    }
}

fn draw(random: &mut u64) -> u64 {
    // xorshift64: enough to choose what a crash leaves.
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 8
}
