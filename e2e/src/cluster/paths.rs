//! Where things lie: the cache of binaries, kept for the next run and for other checkouts, and
//! the state directory, which belongs to one cluster and is emptied between two.
//!
//! Promises: an entry of the cache is either whole or absent, since it is made beside its place
//! and renamed into it, by one maker at a time.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use tokio::task::spawn_blocking;

use super::error::{Error, OnPath};

/// The cache of binaries: `$XDG_CACHE_HOME/postrider/bin`.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// The user's cache.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn of_user() -> Result<Self, Error> {
        let base = env::var_os("XDG_CACHE_HOME")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
        let base = base.ok_or_else(|| Error::Usage {
            field: "HOME",
            value: String::new(),
            remedy: "set HOME or XDG_CACHE_HOME, the binaries of the cluster are kept there".into(),
        })?;
        Ok(Self(base.join("postrider/bin")))
    }

    /// The place of entry `name`, if it has been installed.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.join(name)).filter(|dir| dir.is_dir())
    }

    /// The place of entry `name`. If it is missing, `make` fills an empty directory that then takes
    /// this place. Whoever else wants it meanwhile, in this process or another, waits.
    pub(crate) async fn entry(
        &self,
        name: &str,
        make: impl AsyncFnOnce(PathBuf) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        if let Some(place) = self.find(name) {
            return Ok(place);
        }
        let _lock = self.lock(name).await?;
        if let Some(place) = self.find(name) {
            return Ok(place);
        }
        // What a broken run left is removed.
        let dir = self.0.join(format!(".{name}"));
        remove_tree(&dir)?;
        fs::create_dir_all(&dir).on("create", &dir)?;
        make(dir.clone()).await?;
        let place = self.0.join(name);
        fs::rename(&dir, &place).on("create", &place)?;
        Ok(place)
    }

    /// Keeps all others from making entry `name`, until it is dropped or this process ends.
    async fn lock(&self, name: &str) -> Result<fs::File, Error> {
        fs::create_dir_all(&self.0).on("create", &self.0)?;
        let path = self.0.join(format!(".{name}.lock"));
        let file = fs::File::create(&path).on("create", &path)?;
        let locked = spawn_blocking(move || {
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        let locked = locked.await.unwrap_or_else(|error| Err(error.into()));
        locked.on("lock", &path)
    }
}

/// The directory of one cluster: pid files, logs, keys, data.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The cluster in `dir`, which need not exist yet.
    ///
    /// # Errors
    /// When the working directory, against which a relative path is resolved, cannot be read.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        std::path::absolute(dir).map(Self).on("resolve", dir)
    }

    /// The directory itself, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    /// Empties it and marks it as a cluster's.
    ///
    /// A directory that holds something and lacks the mark is refused: it is somebody's else.
    pub(crate) fn empty(&self) -> Result<(), Error> {
        let mark = self.join(MARK);
        let holds_something =
            fs::read_dir(&self.0).is_ok_and(|mut entries| entries.next().is_some());
        if holds_something && !mark.exists() {
            return Err(Error::Usage {
                field: "--dir",
                value: self.0.display().to_string(),
                remedy: "it holds other things; give an empty directory or one that does not exist"
                    .to_owned(),
            });
        }
        remove_tree(&self.0)?;
        self.write(
            MARK,
            "The state of a cluster; removed and made again by e2e-cluster.\n",
        )?;
        Ok(())
    }

    /// Removes everything but the mark and the logs. Does nothing to a directory without the mark.
    pub(crate) fn empty_but_logs(&self) -> Result<(), Error> {
        if !self.join(MARK).exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.0).on("list", &self.0)? {
            let entry = entry.on("list", &self.0)?;
            let path = entry.path();
            if entry.file_name() == "logs" || entry.file_name() == MARK {
                continue;
            }
            if path.is_dir() {
                remove_tree(&path)?;
            } else {
                fs::remove_file(&path).on("remove", &path)?;
            }
        }
        Ok(())
    }

    /// A directory in it, created.
    pub(crate) fn make(&self, relative: &str) -> Result<PathBuf, Error> {
        let dir = self.join(relative);
        fs::create_dir_all(&dir).on("create", &dir)?;
        Ok(dir)
    }

    /// Writes a file in it, creating the directories above.
    pub(crate) fn write(&self, relative: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).on("create", parent)?;
        }
        fs::write(&path, text).on("write", &path)?;
        Ok(path)
    }
}

/// The file that marks a directory as a cluster's.
const MARK: &str = ".postrider-e2e-cluster";

/// Removes a tree if it is there.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.on("remove", dir),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn an_entry_wanted_twice_at_once_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache(dir.path().join("bin"));
        let made = AtomicUsize::new(0);
        let make = async |dir: PathBuf| {
            made.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
            fs::write(dir.join("program"), "text").on("write", &dir)
        };
        let (one, other) = tokio::join!(cache.entry("tool", make), cache.entry("tool", make));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(made.into_inner(), 1);
        assert!(cache.find("tool").unwrap().join("program").is_file());
    }

    #[tokio::test]
    async fn an_entry_that_failed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache(dir.path().join("bin"));
        let broken = cache.entry("tool", async |dir| {
            fs::write(dir.join("half"), "text").on("write", &dir)?;
            Err(Error::Usage {
                field: "HOME",
                value: String::new(),
                remedy: "none".into(),
            })
        });
        broken.await.unwrap_err();
        assert_eq!(cache.find("tool"), None);
        let place = cache.entry("tool", async |_| Ok(())).await.unwrap();
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    }
}
