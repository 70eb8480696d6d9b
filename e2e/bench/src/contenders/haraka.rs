//! Haraka from the npm registry.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{Contender, Dkim, Launch, machine::count_files, packages};
use crate::{
    error::{Error, OnPath as _},
    world::{PORT, World},
};

/// The last that runs with Node.js 20.
const VERSION: &str = "3.1.7";

/// Haraka.
#[derive(Debug)]
pub struct Haraka {
    root: PathBuf,
}

impl Haraka {
    /// Finds it in the cache, or gets it.
    ///
    /// # Errors
    /// Without Node.js, or when it cannot be had.
    pub fn get() -> Result<Self, Error> {
        let root = packages::npm("Haraka", VERSION)?;
        Ok(Self { root })
    }
}

impl Haraka {
    /// Begins with what it is shipped with.
    fn copy_configuration(&self, to: &Path) -> Result<(), Error> {
        fs::create_dir_all(to).on("create", to)?;
        let shipped = self.root.join("node_modules/Haraka/config");
        for entry in fs::read_dir(&shipped).on("list", &shipped)? {
            let entry = entry.on("list", &shipped)?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                fs::copy(entry.path(), to.join(entry.file_name())).on("copy", entry.path())?;
            }
        }
        Ok(())
    }
}

impl Contender for Haraka {
    fn name(&self) -> String {
        format!("Haraka {VERSION}")
    }

    fn key(&self) -> &'static str {
        "haraka"
    }

    fn setting(&self) -> &'static str {
        "as shipped: one process; a plugin of three lines accepts and routes"
    }

    fn door(&self, world: &World) -> SocketAddr {
        SocketAddr::new(world.address(5), PORT)
    }

    fn prepare(&self, world: &World, _: Dkim) -> Result<Launch, Error> {
        let state = world.dir().join(self.state());
        let door = self.door(world);
        let mut routes = String::new();
        for (domain, at) in world.routes() {
            let (host, port) = (at.ip(), at.port());
            // Writing to a String cannot fail.
            let _ = writeln!(
                routes,
                "  '{domain}': {{priority: 0, exchange: '{host}', port: {port}}},"
            );
        }
        let plugin = format!("const routes = {{\n{routes}}};\n{PLUGIN}");
        self.copy_configuration(&state.join("config"))?;
        for (file, text) in [
            ("config/smtp.ini", format!("listen={door}\n")),
            ("config/plugins", "bench\n".to_owned()),
            ("config/me", "haraka.bench.example\n".to_owned()),
            ("config/loglevel", "WARN\n".to_owned()),
            ("config/outbound.ini", "enable_tls=false\n".to_owned()),
            ("plugins/bench.js", plugin),
        ] {
            write(&state.join(file), &text)?;
        }
        let program = self.root.join("node_modules/Haraka/bin/haraka");
        Ok(Launch {
            program: "node".into(),
            args: vec![
                program.display().to_string(),
                "-c".to_owned(),
                state.display().to_string(),
            ],
            env: Vec::new(),
            mounts: Vec::new(),
        })
    }

    fn queued(&self, world: &World) -> Result<u64, Error> {
        let queue = world.dir().join(self.state()).join("queue");
        count_files(&queue, &|name| !name.starts_with("__tmp__"))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).on("create", folder)?;
    }
    fs::write(path, text).on("write", path)
}

/// What the plugin does with the routes above it.
const PLUGIN: &str = "\
exports.hook_mail = (next, connection) => { connection.relaying = true; next(OK); };
exports.hook_rcpt = (next) => next(OK);
exports.hook_get_mx = (next, hmail, domain) => next(OK, [routes[domain]]);
";
