//! The directories that a contender from Debian packages has instead of the machine's.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use crate::error::{Error, OnPath as _};

/// An account that a package's script would have made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    /// Name of user and group.
    pub(super) name: &'static str,
    /// Its number: far from those that a machine gives out.
    pub(super) id: u32,
}

/// A state directory with `etc`, `var` and `run` in it.
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// One in `root`, with the machine's accounts and these.
    pub(super) fn new(root: PathBuf, accounts: &[Account]) -> Result<Self, Error> {
        let machine = Self { root };
        for dir in ["etc", "run", "var/log", "var/spool", "var/lib", "var/tmp"] {
            machine.dir(dir, 0, 0o755)?;
        }
        let lines = |form: fn(&Account) -> String| accounts.iter().map(form).collect::<String>();
        let user = |a: &Account| format!("{}:x:{1}:{1}::/nonexistent:/bin/false\n", a.name, a.id);
        let group = |a: &Account| format!("{}:x:{}:\n", a.name, a.id);
        for (file, more) in [("passwd", lines(user)), ("group", lines(group))] {
            let path = Path::new("/etc").join(file);
            let text = fs::read_to_string(&path).on("read", &path)?;
            machine.file(&format!("etc/{file}"), &format!("{text}{more}"))?;
        }
        let run = machine.root.join("var/run");
        if run.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("/run", &run).on("create", &run)?;
        }
        Ok(machine)
    }

    /// Makes a directory that belongs to `owner`.
    pub(super) fn dir(&self, name: &str, owner: u32, mode: u32) -> Result<(), Error> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).on("create", &dir)?;
        chown(&dir, Some(owner), Some(owner)).on("change owner of", &dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).on("set rights of", &dir)
    }

    /// Gives a directory another group.
    pub(super) fn group(&self, name: &str, group: u32) -> Result<(), Error> {
        let dir = self.root.join(name);
        chown(&dir, None, Some(group)).on("change group of", &dir)
    }

    /// Writes a file.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).on("create", folder)?;
        }
        fs::write(&path, text).on("write", &path)
    }
}

/// Files below `dir` whose name `wanted` holds for.
pub(super) fn count_files(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<u64, Error> {
    let mut count = 0;
    let entries = match fs::read_dir(dir) {
        // A queue may remove directories while it is looked at.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.on("list", dir)?,
    };
    for entry in entries {
        let entry = entry.on("list", dir)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            count += count_files(&entry.path(), wanted)?;
        } else if wanted(&entry.file_name().to_string_lossy()) {
            count += 1;
        }
    }
    Ok(count)
}
