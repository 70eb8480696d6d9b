//! Spools of version 3, which an older relay wrote, are read as what they are. The encoder here is
//! what that relay had.

use proptest::prelude::*;

use super::{
    codec::{any_record, orders_of, payload, result, state_of},
    reopening::{Reopened, reopen},
    spool::{
        Sync,
        format::SegmentHeader,
        record::{self, Encoded, Head, Record},
        segment_name,
    },
    state::State,
    *,
};

const VERSION: u8 = 3;

/// A record with its header.
pub(super) fn framed(marker: u64, record: &Record, body: &[u8]) -> Vec<u8> {
    let (kind, payload) = encode(record, body);
    with_header(marker, kind, &payload)
}

fn with_header(marker: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = marker.to_le_bytes().to_vec();
    put_length(&mut bytes, payload.len());
    bytes.extend([kind, VERSION, 0, 0]);
    bytes.extend(crc32fast::hash(payload).to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn encode(record: &Record, body: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    if let Some((id, home)) = record.subject() {
        bytes.extend(id.to_u128().to_le_bytes());
        bytes.extend(home.to_le_bytes());
    }
    let kind = match record {
        Record::Message(message) => {
            put_message(&mut bytes, message, body);
            1
        }
        Record::Attempt { leg, number, .. } => {
            bytes.extend(leg.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            2
        }
        Record::Settled {
            leg,
            attempts,
            delay_warned,
            results,
            notification,
            ..
        } => {
            bytes.extend(leg.to_le_bytes());
            bytes.extend(attempts.to_le_bytes());
            bytes.push(u8::from(*delay_warned));
            put_results(&mut bytes, results);
            bytes.push(u8::from(notification.is_some()));
            if let Some(notification) = notification {
                put_message(&mut bytes, notification, body);
            }
            3
        }
        Record::State { state, .. } => {
            put_state(&mut bytes, state);
            4
        }
        Record::Finished { .. } => 5,
        Record::Moved { from, message } => {
            bytes.extend(from.to_le_bytes());
            put_message(&mut bytes, message, body);
            6
        }
        Record::Orders(orders) => {
            put_json(&mut bytes, &**orders);
            9
        }
    };
    (kind, bytes)
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend(u32::try_from(length).unwrap().to_le_bytes());
}

fn put_json(bytes: &mut Vec<u8>, value: &impl serde::Serialize) {
    let json = serde_json::to_vec(value).unwrap();
    put_length(bytes, json.len());
    bytes.extend(json);
}

fn put_results(bytes: &mut Vec<u8>, results: &[(u32, RecipientResult)]) {
    put_length(bytes, results.len());
    for (recipient, result) in results {
        bytes.extend(recipient.to_le_bytes());
        match result {
            RecipientResult::Delivered => bytes.push(1),
            RecipientResult::Bounced => bytes.push(2),
            RecipientResult::Expired => bytes.push(3),
            RecipientResult::Suppressed => bytes.push(4),
            RecipientResult::Deferred { until } => {
                bytes.push(5);
                bytes.extend(until.as_microsecond().to_le_bytes());
            }
        }
    }
}

fn put_message(bytes: &mut Vec<u8>, message: &Head, body: &[u8]) {
    bytes.extend(message.id.to_u128().to_le_bytes());
    bytes.extend(message.accepted.as_microsecond().to_le_bytes());
    put_state(bytes, &message.state);
    put_json(bytes, &*message.envelope);
    put_length(bytes, body.len());
    bytes.extend(body);
}

fn put_state(bytes: &mut Vec<u8>, state: &State) {
    put_length(bytes, state.legs.len());
    for leg in &state.legs {
        bytes.extend(leg.attempts.to_le_bytes());
        bytes.push(u8::from(leg.delay_warned));
        bytes.extend(leg.due.as_microsecond().to_le_bytes());
    }
    put_length(bytes, state.recipients.len());
    let number = |progress: &state::Progress| *progress as u8;
    bytes.extend(state.recipients.iter().map(number));
}

/// Puts a segment where the next opening finds it.
fn put_segment(disk: &SimulatedDisk, number: u64, records: &[Encoded], is_sealed: bool) {
    let header = SegmentHeader {
        version: VERSION.into(),
        number,
        marker: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        repeats: 0,
        orders: records
            .iter()
            .any(|record| matches!(record.record, Record::Orders(_))),
    };
    let mut bytes = header.encode().to_vec();
    for record in records {
        bytes.extend(framed(header.marker, &record.record, &record.body));
    }
    if is_sealed {
        // Its index is not read: nobody writes such any more.
        let (index, at) = ([0; 33], bytes.len() as u64);
        bytes.extend(with_header(header.marker, record::INDEX, &index));
        let trailer = [at.to_le_bytes().as_slice(), &33_u32.to_le_bytes()].concat();
        bytes.extend(with_header(header.marker, record::TRAILER, &trailer));
    }
    let file = disk.create(&segment_name(number)).unwrap();
    file.write_at(0, &[&bytes]).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory("").unwrap();
}

/// What a spool holds: how far each message is, and which orders are in force.
fn contents(reopened: &Reopened) -> (Vec<(MessageId, State)>, Arc<orders::Orders>) {
    let states = (0..8).map(id).filter_map(|id| {
        let (_, state) = reopened.queue.current(id)?;
        Some((id, state))
    });
    (states.collect(), reopened.spool.orders())
}

fn empty() -> SimulatedDisk {
    SimulatedDisk::new(Faults::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_payload_comes_back(
        kind in 0..7_u8, number in 0..6_u64, home: u64, result in result(), bytes: Vec<u8>,
        cut: prop::sample::Index, flip in 1..=255_u8,
    ) {
        let record = any_record(kind, number, home, result);
        let body = if record.message().is_some() { bytes } else { Vec::new() };
        let (kind, mut payload) = encode(&record, &body);
        let (read, at) = record::decode(kind, VERSION, &payload).unwrap();
        prop_assert_eq!(&read, &record);
        prop_assert_eq!(&payload[at], &body[..]);
        let cut = cut.index(payload.len());
        prop_assert!(record::decode(kind, VERSION, &payload[..cut]).is_err());
        payload[cut] ^= flip;
        let _ = record::decode(kind, VERSION, &payload);
    }

    #[test]
    fn a_spool_of_version_3_holds_what_one_of_version_4_does(
        segments in prop::collection::vec(
            prop::collection::vec((0..7_u8, 0..6_u64, 0..2_u64, result()), 1..20), 1..4),
        is_sealed: bool,
    ) {
        let (old, new) = (empty(), empty());
        let mut writing = reopen(&new);
        for (number, records) in (1..).zip(&segments) {
            let record = |(kind, about, before, result): &(u8, u64, u64, _)| {
                let home = u64::saturating_sub(number, *before).max(1);
                let record = any_record(*kind, *about, home, *result);
                match record.message() {
                    Some(_) => Encoded::new(record, body(*about)),
                    None => Encoded::of(record),
                }
            };
            let records: Vec<_> = records.iter().map(record).collect();
            put_segment(&old, number, &records, is_sealed || number < segments.len() as u64);
            writing.spool.append(&records, Sync::Now).unwrap();
            writing.spool.seal().unwrap();
        }
        drop(writing);
        let wanted = contents(&reopen(&new));
        // The second opening finds the index that the first one wrote.
        for _ in 0..2 {
            prop_assert_eq!(&contents(&reopen(&old)), &wanted);
        }
    }
}

fn message_record(number: u64, attempts: u32) -> Encoded {
    let envelope = Arc::new(envelope(&["a@one.test"]));
    let due = start().as_microsecond() + 1;
    let head = Head {
        id: id(number),
        accepted: start(),
        state: state_of(&envelope, attempts, due, &[]),
        envelope,
    };
    Encoded::new(Record::Message(head), body(number))
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_relay_delivers_what_the_older_one_accepted() {
    let (disk, clock) = (empty(), ManualClock::new());
    let messages: Vec<_> = (1..=3).map(|number| message_record(number, 2)).collect();
    let finished = Encoded::of(Record::Finished { id: id(2), home: 1 });
    put_segment(&disk, 1, &messages, true);
    put_segment(
        &disk,
        2,
        &[finished, Encoded::of(Record::Orders(orders_of(1)))],
        false,
    );
    let custody = open(&disk, &clock);
    clock.advance(10);
    let claims = all_due(&custody).await;
    let found: Vec<_> = claims.iter().map(|c| (c.id, c.attempts)).collect();
    assert_eq!(found, [(id(1), 2), (id(3), 2)]);
    assert_eq!(claims[1].body, body(3));
    assert_eq!(custody.orders().len(), 1);
    drop(claims);
    custody.close().await;
}

#[test]
fn the_old_index_is_replaced_and_read_from_then_on() {
    let disk = empty();
    put_segment(&disk, 1, &[message_record(1, 0)], true);
    let length = disk.bytes(&segment_name(1)).len();
    let first = contents(&reopen(&disk));
    let with_index = disk.bytes(&segment_name(1)).len();
    assert!(with_index > length);
    assert_eq!(contents(&reopen(&disk)), first);
    assert_eq!(disk.bytes(&segment_name(1)).len(), with_index);
}

#[test]
fn a_payload_of_version_4_is_none_of_version_3() {
    let record = any_record(0, 1, 7, RecipientResult::Delivered);
    let new = Encoded::new(record, body(1));
    assert!(record::decode(new.kind, VERSION, &payload(&new)).is_err());
}
