//! Programs out of Debian packages and the npm registry: kept in the user's cache, never
//! installed.
//!
//! Promises: no package script runs; an entry of the cache is whole or absent, since it is made
//! beside its place and renamed into it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, OnPath as _},
    measure::keeper::Mount,
};

/// The user's cache of the benchmark's programs.
fn cache() -> Result<PathBuf, Error> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.map(|base| base.join("postrider/bench"))
        .ok_or_else(|| Error::Usage {
            field: "HOME",
            value: String::new(),
            remedy: "set HOME or XDG_CACHE_HOME; the contenders' programs are kept there".into(),
        })
}

/// The entry `name` of the cache; `make` fills an empty directory where it is missing.
fn entry(name: &str, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
    let cache = cache()?;
    let place = cache.join(name);
    if place.is_dir() {
        return Ok(place);
    }
    let made = cache.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir_all(&made).on("create", &made)?;
    let filled = make(&made);
    if filled.is_err() || fs::rename(&made, &place).is_err() {
        // Broken, or another was quicker.
        fs::remove_dir_all(&made).on("remove", &made)?;
    }
    filled.map(|()| place)
}

/// Debian packages, unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    root: PathBuf,
    /// Version of the first package.
    pub(super) version: String,
}

impl Unpacked {
    /// The packages `packages`, of which the first is the contender and the others are libraries
    /// that a minimal Debian lacks.
    pub(super) fn get(name: &str, packages: &[&str]) -> Result<Self, Error> {
        let release = fs::read_to_string("/etc/debian_version").unwrap_or_default();
        let release = release.split('.').next().unwrap_or_default().trim();
        if release.is_empty() {
            return Err(Error::Program {
                program: name.to_owned(),
                reason: "this machine is no Debian".to_owned(),
            });
        }
        let root = entry(&format!("{name}-debian-{release}"), |dir| {
            download(dir, packages)
        })?;
        let version = root.join(VERSION);
        let version = fs::read_to_string(&version).on("read", &version)?;
        Ok(Self { root, version })
    }

    /// The mount that shows what is in `/usr`.
    pub(super) fn programs(&self) -> Mount {
        over(self.root.join("usr"), "/usr")
    }

    /// The mounts that make it look installed, with the state directory `state`, in which there
    /// are `etc`, `var` and `run`.
    pub(super) fn mounts(&self, state: &Path) -> Vec<Mount> {
        let bind = |from: &str, at: &str| Mount::Bind {
            from: state.join(from),
            at: at.into(),
        };
        let mut mounts = vec![self.programs()];
        let libraries = self.root.join("lib");
        if libraries.is_dir() {
            mounts.push(over(libraries, "/usr/lib"));
        }
        mounts.push(over(state.join("etc"), "/etc"));
        mounts.push(bind("run", "/run"));
        mounts.push(bind("var", "/var"));
        mounts
    }
}

fn over(from: PathBuf, at: &str) -> Mount {
    Mount::Over {
        from,
        at: at.into(),
    }
}

/// The file with the contender's version.
const VERSION: &str = "version";

fn download(dir: &Path, packages: &[&str]) -> Result<(), Error> {
    let archives = dir.join("archives");
    fs::create_dir_all(&archives).on("create", &archives)?;
    let get = || {
        let mut get = Command::new("apt-get");
        get.args(["download", "-q"]).args(packages);
        get.current_dir(&archives);
        get
    };
    if run(&mut get()).is_err() {
        run(Command::new("apt-get").args(["update", "-q"]))?;
        run(&mut get())?;
    }
    for archive in fs::read_dir(&archives).on("list", &archives)? {
        let archive = archive.on("list", &archives)?.path();
        run(Command::new("dpkg").arg("-x").arg(&archive).arg(dir))?;
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let mut parts = name.split('_');
        if parts.next() == packages.first().copied() {
            let version = parts.next().unwrap_or_default().replace("%3a", ":");
            fs::write(dir.join(VERSION), version).on("write", dir)?;
        }
    }
    fs::remove_dir_all(&archives).on("remove", &archives)
}

/// An npm package with what it depends on, its scripts not run.
pub(super) fn npm(package: &str, version: &str) -> Result<PathBuf, Error> {
    run(Command::new("node").arg("--version"))?;
    entry(&format!("{}-{version}", package.to_lowercase()), |dir| {
        let mut install = Command::new("npm");
        install.args([
            "install",
            "--no-save",
            "--ignore-scripts",
            "--omit=optional",
        ]);
        install.arg(format!("{package}@{version}"));
        run(install.current_dir(dir))
    })
}

/// Runs a program; its output is in the error if it fails.
pub(super) fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| Error::Program {
        program: program.clone(),
        reason: source.to_string(),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Program {
        program,
        reason: format!("{}: {said}", output.status),
    })
}
