//! A directory of files and what it takes to know that they are on stable storage.
//!
//! Promises: no call syncs what it was not asked to sync. Names are relative to the directory.

use std::{
    fs, io,
    io::IoSlice,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use rustix::{
    fs::{Advice, FlockOperation, OFlags},
    io::Errno,
};

/// A directory on a volume. Names may have one folder: `quarantine/x`.
pub trait Disk: Send + Sync + 'static {
    /// Makes a folder; no error where it exists.
    fn create_folder(&self, name: &str) -> io::Result<()>;
    /// Makes a file that must not exist, to write and read.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that exists, to write and read.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Names of the files in the directory (`""`) or in a folder, sorted; folders are left out.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Its room may come back a moment later.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once names made, changed and removed in the directory or folder are stable.
    fn sync_directory(&self, folder: &str) -> io::Result<()>;
    /// Bytes this process may still write to the volume.
    fn free_space(&self) -> io::Result<u64>;
    /// Locks the file `name`, made if missing, until the value is dropped or the process ends.
    /// `WouldBlock` where somebody has it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes the parts one after the other from `offset` on. On an error any part of them may have
    /// been written.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// Fills `buffer` from `offset`; `UnexpectedEof` where the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Returns once data and length are stable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// What is there is not read again: the system need not keep it in memory.
    fn forget(&self);
}

/// A lock, held while this lives.
pub trait DiskLock: Send + Sync {}

/// A directory of the machine.
#[derive(Debug)]
pub struct SystemDisk {
    root: PathBuf,
    /// Removed files, to be closed beside what goes on: a file system takes milliseconds to free a
    /// large one, which it does when the last handle is closed.
    removed: SyncSender<fs::File>,
}

struct SystemFile(fs::File);

#[derive(Debug)]
struct SystemLock {
    _file: fs::File,
}

impl SystemDisk {
    /// The directory `root`, made if missing, with its name on stable storage.
    pub fn open(root: &Path) -> io::Result<Self> {
        make(root)?;
        let (removed, files) = sync_channel(MAX_REMOVED);
        thread::Builder::new()
            .name("spool-closer".to_owned())
            .spawn(move || files.into_iter().for_each(drop::<fs::File>))?;
        Ok(Self {
            root: root.to_owned(),
            removed,
        })
    }
}

/// Makes a directory and those it lies in, each with a name that a power failure leaves it.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        // The root, which is always there.
        None => return Err(io::ErrorKind::NotADirectory.into()),
    };
    make(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    fs::File::open(parent)?.sync_all()
}

impl Disk for SystemDisk {
    fn create_folder(&self, name: &str) -> io::Result<()> {
        match fs::create_dir(self.root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.root.join(name))?;
        Ok(Box::new(SystemFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(self.root.join(name))?;
        Ok(Box::new(SystemFile(file)))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        let file = fs::File::open(&path);
        fs::remove_file(&path)?;
        if let Ok(file) = file {
            // Where too many wait it is closed here.
            drop(self.removed.try_send(file));
        }
        Ok(())
    }

    fn sync_directory(&self, folder: &str) -> io::Result<()> {
        let directory = rustix::fs::open(
            self.root.join(folder),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        Ok(rustix::fs::fsync(directory)?)
    }

    fn free_space(&self) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(&self.root)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn DiskLock>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.root.join(name))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(SystemLock { _file: file })),
            Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl DiskFile for SystemFile {
    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = rest.get(..MAX_SLICES).unwrap_or(rest);
            match rustix::io::pwritev(&self.0, batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn forget(&self) {
        // Advice, no more.
        let _ = rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed);
    }
}

impl DiskLock for SystemLock {}

/// Removed files that may wait to be closed.
const MAX_REMOVED: usize = 16;
/// Slices one `pwritev` takes (Linux `IOV_MAX`).
const MAX_SLICES: usize = 1024;
