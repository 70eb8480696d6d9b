//! Damage: what no crash does and a disk does all the same.

use super::*;

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
