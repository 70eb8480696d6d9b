//! Damage: what no crash does and a disk does all the same.

use std::{io, io::Write, sync::Mutex};

use super::*;

/// An event log that can be read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn of(&self, stage: &str) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let events = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
        events.filter(|event| event["stage"] == stage).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_put_aside_and_the_rest_is_read() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    let custody = open(&disk, &clock);
    for number in 1..=3 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
    }
    custody.close().await;
    let name = spool::segment_name(1);
    let bytes = disk.bytes(&name);
    let second = bytes.windows(10).position(|w| w == b"Subject: 2").unwrap();
    disk.damage(&name, second, 1);
    for found in [1, 0] {
        let parts = parts(&disk, &clock);
        let telemetry = Arc::clone(&parts.telemetry);
        let custody = Custody::open(parts).unwrap();
        clock.advance(100);
        let ids: Vec<_> = all_due(&custody).await.iter().map(|c| c.id).collect();
        assert_eq!(ids, [id(1), id(3)]);
        let text = telemetry.render(&custody.figures());
        // Found when it was read, put aside, and recorded as that.
        let counted = format!("postrider_spool_quarantined_total {found}");
        assert!(text.contains(&counted), "{text}");
        // It lies there until somebody removes it.
        let files = "postrider_spool_quarantine_files{kind=\"damaged\"} 1";
        assert!(text.contains(files), "{text}");
        custody.close().await;
    }
    let aside = disk.list("quarantine").unwrap();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = disk.bytes(&format!("quarantine/{}", aside[0]));
    assert!(kept.windows(4).any(|w| w == b"xxxx"));
}

#[tokio::test(start_paused = true)]
async fn a_message_damaged_while_open_is_taken_out_and_put_aside() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    let mut with = parts(&disk, &clock);
    with.limits.hot_bytes = 0;
    let custody = Custody::open(with).unwrap();
    for number in 1..=2 {
        let _ = custody
            .accept(message(number, &["a@one.test"]))
            .await
            .unwrap();
    }
    let name = spool::segment_name(1);
    let bytes = disk.bytes(&name);
    let first = bytes.windows(10).position(|w| w == b"Subject: 1").unwrap();
    disk.damage(&name, first, 3);
    let claim = claim_now(&custody).await.unwrap();
    assert_eq!(claim.id, id(2));
    let done = Settlement {
        results: vec![(0, RecipientResult::Delivered)],
        ..Settlement::default()
    };
    custody.settle(claim, done).await.unwrap();
    assert_eq!(custody.report(), QueueReport::default());
    assert_eq!(disk.list("quarantine").unwrap().len(), 1);
    custody.close().await;
    let custody = open(&disk, &clock);
    assert_eq!(custody.report(), QueueReport::default());
    custody.close().await;
}

/// Puts a file into the quarantine.
fn put(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    let file = disk.create(&format!("quarantine/{name}")).unwrap();
    file.write_at(0, &[bytes]).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory("quarantine").unwrap();
}

#[tokio::test(start_paused = true)]
async fn damage_stays_and_is_told_at_a_start_and_old_torn_tails_go() {
    let (disk, clock) = (SimulatedDisk::new(Faults::default()), ManualClock::new());
    open(&disk, &clock).close().await;
    put(&disk, "0000000000000001-8-3.bad", b"bad");
    for number in 1..=20 {
        put(&disk, &format!("{number:016x}-100-4.torn"), b"torn");
    }
    let log = Lines::default();
    let mut with = parts(&disk, &clock);
    with.telemetry = Arc::new(Telemetry::new(Box::new(log.clone())));
    let telemetry = Arc::clone(&with.telemetry);
    let custody = Custody::open(with).unwrap();
    let aside = disk.list("quarantine").unwrap();
    assert_eq!(aside.len(), 17, "{aside:?}");
    assert!(aside.contains(&"0000000000000001-8-3.bad".to_owned()));
    let oldest = aside.iter().find(|name| name.ends_with(".torn"));
    assert_eq!(oldest.unwrap(), "0000000000000005-100-4.torn");
    let text = telemetry.render(&custody.figures());
    for line in [
        "postrider_spool_quarantine_files{kind=\"damaged\"} 1",
        "postrider_spool_quarantine_bytes{kind=\"damaged\"} 3",
        "postrider_spool_quarantine_files{kind=\"torn\"} 16",
        "postrider_spool_quarantine_bytes{kind=\"torn\"} 64",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let told = log.of("quarantine-holds");
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["files"], &told[0]["bytes"]),
        (&1.into(), &3.into())
    );
    assert_eq!(told[0]["named"], "quarantine/0000000000000001-8-3.bad");
    custody.close().await;
}
