//! The mounted configuration directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use postrider_crds::relay_config::layout;

/// Where documents come from: paths below the configuration directory, with their bytes.
pub trait Documents: Send + 'static {
    /// Gives `take` each document that is there now, path and octets, one at a time: together they
    /// may be large. A file that is not there is not an error.
    fn each(&self, take: &mut dyn FnMut(&str, &[u8])) -> io::Result<()>;

    /// Everything that is there now.
    fn read(&self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        self.each(&mut |path, octets| {
            found.insert(path.to_owned(), octets.to_vec());
        })?;
        Ok(found)
    }

    /// What tells cheaply, without reading, that nothing has changed; `None`: nothing does.
    fn signs(&self) -> Option<Signs> {
        None
    }
}

/// What each document's file looked like, by path. A kubelet replaces the directory that the links
/// lead to as a whole, so a changed volume has other files, by device and inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signs(BTreeMap<String, Sign>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sign {
    device: u64,
    inode: u64,
    octets: u64,
    /// Seconds and nanoseconds of the last change of content, then of anything.
    changed: [i64; 4],
}

/// A directory, as Kubernetes mounts it: entries are links into a `..data` directory that is
/// replaced as a whole, so names that start with a dot are not documents themselves.
#[derive(Clone, Debug)]
pub struct MountedDirectory {
    root: PathBuf,
}

/// Whether a file was there.
enum Found {
    Yes,
    No,
}

/// The documents whose names are known.
const FILES: [&str; 7] = [
    layout::RELAY_CONFIG,
    layout::CREDENTIALS,
    layout::TLS_CERTIFICATE,
    layout::TLS_KEY,
    layout::ADMIN_CERTIFICATE,
    layout::ADMIN_KEY,
    layout::ADMIN_CA,
];
/// Longest document that is read: a Secret or ConfigMap holds 1 MiB, standalone files may be larger.
const MAX_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

impl MountedDirectory {
    /// The directory at `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Reads a file into `octets`, if it is there.
    fn read_file(&self, path: &str, octets: &mut Vec<u8>) -> io::Result<Found> {
        octets.clear();
        let full = self.root.join(path);
        let mut read = || {
            // Looked at first: to open what is no file may take for ever.
            let metadata = fs::metadata(&full)?;
            if !metadata.is_file() {
                return Ok(Found::No);
            }
            if metadata.len() > MAX_DOCUMENT_BYTES {
                let problem = format!("is larger than {MAX_DOCUMENT_BYTES} octets");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
            }
            File::open(&full)?.read_to_end(octets)?;
            Ok(Found::Yes)
        };
        match read() {
            Err(error) if is_absent(&error) => Ok(Found::No),
            Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
            found => found,
        }
    }

    /// The documents that may be there.
    fn paths(&self) -> io::Result<Vec<String>> {
        let mut paths = FILES.map(str::to_owned).to_vec();
        for directory in [layout::KEYRING, layout::SUPPRESSION] {
            self.list(directory, &mut paths)?;
        }
        Ok(paths)
    }

    fn list(&self, path: &str, into: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(path)) {
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
            Ok(entries) => entries,
        };
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with('.') {
                into.push(format!("{path}/{name}"));
            }
        }
        Ok(())
    }
}

impl Documents for MountedDirectory {
    fn each(&self, take: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        let mut octets = Vec::new();
        for path in self.paths()? {
            match self.read_file(&path, &mut octets)? {
                Found::Yes => take(&path, &octets),
                Found::No => {}
            }
        }
        Ok(())
    }

    fn signs(&self) -> Option<Signs> {
        let mut signs = BTreeMap::new();
        for path in self.paths().ok()? {
            match fs::metadata(self.root.join(&path)) {
                Ok(file) => {
                    let sign = Sign {
                        device: file.dev(),
                        inode: file.ino(),
                        octets: file.len(),
                        changed: [
                            file.mtime(),
                            file.mtime_nsec(),
                            file.ctime(),
                            file.ctime_nsec(),
                        ],
                    };
                    signs.insert(path, sign);
                }
                Err(error) if is_absent(&error) => {}
                Err(_) => return None,
            }
        }
        Some(Signs(signs))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn reads_through_the_links_of_a_projected_volume() {
        let root = tempfile::tempdir().unwrap();
        let keyring = root.path().join("keyring");
        fs::create_dir_all(keyring.join("..2026_01")).unwrap();
        fs::write(keyring.join("..2026_01/00.yaml"), "one").unwrap();
        symlink("..2026_01", keyring.join("..data")).unwrap();
        symlink("..data/00.yaml", keyring.join("00.yaml")).unwrap();
        let found = MountedDirectory::new(root.path().into()).read().unwrap();
        let expected = BTreeMap::from([("keyring/00.yaml".to_owned(), b"one".to_vec())]);
        assert_eq!(found, expected);
    }

    #[test]
    fn signs_change_with_a_swapped_volume_and_an_edited_file() {
        let root = tempfile::tempdir().unwrap();
        let keyring = root.path().join("keyring");
        for version in ["..1", "..2"] {
            fs::create_dir_all(keyring.join(version)).unwrap();
            // As many octets, and as old as each other.
            let file = File::create(keyring.join(version).join("00.yaml")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        symlink("..1", keyring.join("..data")).unwrap();
        symlink("..data/00.yaml", keyring.join("00.yaml")).unwrap();
        let mounted = MountedDirectory::new(root.path().into());
        let first = mounted.signs().unwrap();
        assert_eq!(mounted.signs().unwrap(), first);
        symlink("..2", keyring.join("..data_tmp")).unwrap();
        fs::rename(keyring.join("..data_tmp"), keyring.join("..data")).unwrap();
        let swapped = mounted.signs().unwrap();
        assert_ne!(swapped, first);
        fs::write(keyring.join("..2/00.yaml"), "x").unwrap();
        let edited = mounted.signs().unwrap();
        assert_ne!(edited, swapped);
        fs::create_dir_all(root.path().join("tls")).unwrap();
        fs::write(root.path().join(layout::TLS_KEY), "key").unwrap();
        assert_ne!(mounted.signs().unwrap(), edited);
    }

    #[test]
    fn a_missing_directory_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let missing = MountedDirectory::new(root.path().join("no/such"));
        assert!(missing.read().unwrap().is_empty());
    }
}
