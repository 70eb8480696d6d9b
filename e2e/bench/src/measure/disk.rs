//! The disk below the spools: what one sync costs while nothing else happens.

use std::{fs, io::Write as _, path::Path, time::Duration};

use super::statistics::percentile;
use crate::{
    clock,
    error::{Error, OnPath as _},
};

/// Synced writes that are measured.
const ROUNDS: usize = 400;
/// Octets of each.
const BLOCK: usize = 4096;

/// The median time of an `fdatasync` after 4 KiB were appended to a file in `dir`.
///
/// # Errors
/// When the file cannot be written.
pub fn sync_time(dir: &Path) -> Result<Duration, Error> {
    let path = dir.join("sync-probe");
    let mut file = fs::File::create(&path).on("create", &path)?;
    let block = [b'x'; BLOCK];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        file.write_all(&block).on("write", &path)?;
        let start = clock::now();
        file.sync_data().on("sync", &path)?;
        times.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    fs::remove_file(&path).on("remove", &path)?;
    let median = percentile(&mut times, 0.5).unwrap_or(0);
    Ok(Duration::from_micros(u64::from(median)))
}

/// Refuses a directory whose files lie in memory: syncs would cost nothing there.
///
/// # Errors
/// When it is one, or does not exist.
pub fn must_be_real(dir: &Path) -> Result<(), Error> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(dir)
        .map_err(Into::into)
        .on("look at", dir)?
        .f_type;
    if [TMPFS, RAMFS].contains(&(kind as i64)) {
        return Err(Error::Usage {
            field: "--dir",
            value: dir.display().to_string(),
            remedy: "its files lie in memory, where nothing is durable; give a directory on a disk"
                .to_owned(),
        });
    }
    Ok(())
}
