//! Where things lie: the cache of binaries, kept for the next run and for other checkouts, and
//! the state directory, which belongs to one cluster and is emptied between two.
//!
//! Promises: an entry of the cache is either whole or absent, since it is made beside its place
//! and renamed into it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

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

    /// An empty directory in which to make entry `name`; a leftover of a broken run is removed.
    pub(crate) fn begin(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.0.join(format!(".{name}.{}", std::process::id()));
        remove_tree(&dir)?;
        fs::create_dir_all(&dir).on("create", &dir)?;
        Ok(dir)
    }

    /// Puts what was made in `made` into the place of entry `name`. Whoever came first wins.
    pub(crate) fn install(&self, made: &Path, name: &str) -> Result<PathBuf, Error> {
        let place = self.0.join(name);
        match fs::rename(made, &place) {
            Ok(()) => Ok(place),
            Err(_) if place.is_dir() => {
                remove_tree(made)?;
                Ok(place)
            }
            Err(source) => Err(Error::File {
                action: "create",
                path: place,
                source,
            }),
        }
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
