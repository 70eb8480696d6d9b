//! The machine crashes, or the process is killed, after any call, with any of what was not synced
//! lost; a write is torn at any byte; it happens again while the spool is read.

use std::collections::HashSet;

use super::{
    driver::{Driver, LONG, Leave, deferred, live_on, script},
    ledger::{Crash, Ledger},
    *,
};
use crate::ports::simulated_disk::Survivors;

/// The disk and the ledger at one moment.
struct Picture {
    disk: SimulatedDisk,
    ledger: Ledger,
}

/// What chance may leave of one moment, so many times.
const CHANCES: u64 = 4;

type Album = Arc<Mutex<Vec<Picture>>>;

/// Pictures of every moment from now on.
fn photograph(disk: &SimulatedDisk, ledger: &Arc<Mutex<Ledger>>) -> Album {
    let album = Album::default();
    let (into, ledger) = (Arc::clone(&album), Arc::clone(ledger));
    disk.photograph(move |disk| {
        let ledger = ledger.lock().unwrap().clone();
        into.lock().unwrap().push(Picture { disk, ledger });
    });
    album
}

/// Pictures of a whole run, opening and closing included.
async fn pictures(run: impl AsyncFn(&Driver)) -> Vec<Picture> {
    let (disk, ledger) = (SimulatedDisk::new(Faults::default()), Arc::default());
    let album = photograph(&disk, &ledger);
    let driver = Driver::open(&disk, &ledger).unwrap();
    run(&driver).await;
    driver.custody.close().await;
    disk.put_camera_away();
    std::mem::take(&mut album.lock().unwrap())
}

/// Each way a crash at this moment can leave the disk.
fn outcomes(picture: &Picture, moment: usize) -> impl Iterator<Item = (SimulatedDisk, Survivors)> {
    let fixed = [
        Survivors::All,
        Survivors::Synced,
        Survivors::Names,
        Survivors::Bytes,
    ];
    let chances = (0..CHANCES).map(move |n| Survivors::Chance(moment as u64 * CHANCES + n));
    let all = fixed.into_iter().chain(chances);
    all.map(|survivors| (picture.disk.after_crash(survivors), survivors))
}

fn crash_of(survivors: Survivors) -> Crash {
    match survivors {
        Survivors::All => Crash::Killed,
        _ => Crash::PowerLost,
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_call_loses_nothing_and_repeats_nothing_settled() {
    let pictures = pictures(script).await;
    let mut seen = HashSet::new();
    // Of so many states one is followed through a second life.
    let second_lives = effort(5, 1);
    for (moment, picture) in pictures.iter().enumerate() {
        for (disk, survivors) in outcomes(picture, moment) {
            let crash = crash_of(survivors);
            let state = (disk.fingerprint(), picture.ledger.version);
            if !seen.insert((state, crash == Crash::Killed)) {
                continue;
            }
            let context = format!("call {moment} of {}, {survivors:?}", pictures.len());
            let driver = Driver::reopen(&disk, &picture.ledger, (crash, LONG), &context).await;
            if seen.len().is_multiple_of(second_lives) {
                let leave = Leave::nth((seen.len() / second_lives) as u64);
                live_on(&disk, driver, leave, &context).await;
            }
        }
    }
    assert!(pictures.len() > 250, "{} moments", pictures.len());
    assert!(seen.len() > 700, "{} states", seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_the_spool_is_opened_changes_nothing() {
    let mut crashes = 0;
    let step = effort(11, 1);
    for (moment, picture) in pictures(script).await.iter().enumerate() {
        if !moment.is_multiple_of(step) {
            continue;
        }
        let chance = Survivors::Chance(moment as u64);
        let disk = picture.disk.after_crash(chance);
        let ledger = Arc::new(Mutex::new(picture.ledger.clone()));
        let album = photograph(&disk, &ledger);
        let at = (Crash::PowerLost, LONG);
        let context = format!("call {moment}, {chance:?}");
        let driver = Driver::reopen(&disk, &picture.ledger, at, &context).await;
        driver.custody.close().await;
        disk.put_camera_away();
        let settled = driver.ledger().clone();
        let album = std::mem::take(&mut *album.lock().unwrap());
        for (call, second) in album.iter().enumerate() {
            for (disk, survivors) in outcomes(second, moment * 1000 + call) {
                let context = format!("{context}, then call {call}, {survivors:?}");
                Driver::reopen(&disk, &picture.ledger, at, &context).await;
                crashes += 1;
            }
        }
        // Once open, what was in doubt is settled for good.
        let disk = disk.after_crash(Survivors::Synced);
        Driver::reopen(&disk, &settled, at, &format!("{context}, then closed")).await;
    }
    assert!(crashes > 500, "{crashes} crashes of a recovery");
}

/// Names of the segments on a disk.
fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list("").unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_outlives_its_newer_copy_brings_nothing_back() {
    let pictures = pictures(script).await;
    let mut removals = 0;
    for pair in pictures.windows(2) {
        // About to be removed, all that is needed of it being elsewhere.
        let later = segments(&pair[1].disk);
        let there = segments(&pair[0].disk);
        let Some(victim) = there.iter().find(|name| !later.contains(name)) else {
            continue;
        };
        removals += 1;
        for leave in [Leave::Odd, Leave::Even, Leave::Nothing] {
            let disk = pair[0].disk.after_crash(Survivors::Synced);
            // A damaged header that cannot be put aside keeps the segment where it is.
            disk.damage(victim, 9, 1);
            disk.set_faults(Faults {
                unwritable: Some("quarantine/"),
                ..Faults::default()
            });
            let context = format!("removal {removals}, of {victim}");
            let at = (Crash::PowerLost, LONG);
            let driver = Driver::reopen(&disk, &pair[0].ledger, at, &context).await;
            live_on(&disk, driver, leave, &context).await;
            assert!(segments(&disk).contains(victim), "{context}: removed");
        }
    }
    assert!(removals > 6, "{removals} removals");
}

/// Every kind of write once, so that each can be torn at each of its bytes.
async fn every_kind_of_write(driver: &Driver) {
    driver.accept(message(1, &["a@one.test"])).await;
    driver
        .accept_all((2..4).map(|number| message(number, &["a@one.test", "b@two.test"])))
        .await;
    driver.attempt(deferred(600)).await;
    driver.bounce(50).await;
    driver.attempt(RecipientResult::Delivered).await;
    driver.accept(message(4, &["a@one.test"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_torn_at_any_byte_is_there_or_not() {
    let (mut writes, mut tears, mut copies) = (0, 0, 0);
    for (moment, picture) in pictures(every_kind_of_write).await.iter().enumerate() {
        let Some(length) = picture.disk.last_write() else {
            continue;
        };
        writes += 1;
        for kept in 0..length {
            let disk = picture.disk.after_crash(Survivors::Torn(kept));
            let context = format!("write {moment} torn after {kept} of {length}");
            let at = (Crash::PowerLost, LONG);
            Driver::reopen(&disk, &picture.ledger, at, &context).await;
            tears += 1;
            let aside = disk.list("quarantine").unwrap();
            copies += aside.iter().filter(|name| name.ends_with(".torn")).count();
        }
    }
    assert!(copies > 2000, "{copies} torn tails were kept");
    assert!(
        writes > 8 && tears > 2500,
        "{tears} tears of {writes} writes"
    );
}
