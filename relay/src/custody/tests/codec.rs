//! The bytes of the spool: what is encoded is decoded, garbage is not, and the format stays.

use proptest::prelude::*;

use super::{
    orders::Orders,
    spool::{
        format::{
            Framing, PAYLOAD_VERSION, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader, Stretch,
            only_record, scan,
        },
        index::Index,
        record::{self, DecodeError, Encoded, Head, Record},
    },
    state::{LegState, Progress, State},
    *,
};
use crate::mail::Priority;

pub(super) fn state_of(envelope: &Envelope, attempts: u32, due: i64, done: &[u8]) -> State {
    let mut state = State::new(envelope, start(), &[]);
    for leg in &mut state.legs {
        *leg = LegState {
            attempts,
            delay_warned: attempts % 2 == 1,
            due: Timestamp::from_microsecond(due).unwrap(),
        };
    }
    for (progress, done) in state.recipients.iter_mut().zip(done) {
        *progress = match done % 5 {
            0 => Progress::Pending,
            1 => Progress::Delivered,
            2 => Progress::Bounced,
            3 => Progress::Expired,
            _ => Progress::Suppressed,
        };
    }
    state
}

/// An envelope to several that has or lacks what may be lacking, by the bits of `kind`.
fn any_envelope(kind: u8) -> Envelope {
    let full = envelope(&["a@one.test", "\"b b\"@two.test", "c@one.test"]);
    let other = || "other.test".parse().unwrap();
    Envelope {
        return_path: match kind & 1 {
            0 => full.return_path,
            _ => ReturnPath::Null,
        },
        body_kind: match kind & 2 {
            0 => BodyKind::SevenBit,
            _ => BodyKind::EightBitMime,
        },
        // The one of 15 is none.
        priority: Some((kind >> 4) as i8 - 5).and_then(Priority::new),
        domain: match kind & 12 {
            0 => None,
            4 => Some(other()),
            _ => full.domain,
        },
        ..full
    }
}

/// A record of the kind about a message of segment `home`, of which there are few.
pub(super) fn any_record(kind: u8, number: u64, home: u64, result: RecipientResult) -> Record {
    let envelope = Arc::new(envelope(&["a@one.test", "b@two.test"]));
    let head = Head {
        id: id(number),
        accepted: start(),
        state: State::new(&envelope, start(), &[]),
        envelope,
    };
    let (id, leg) = (id(number), u32::from(number % 2 == 1));
    match kind {
        0 => Record::Message(head),
        1 => Record::Moved {
            from: home.min(6),
            message: head,
        },
        2 => Record::Attempt {
            id,
            home,
            leg,
            number: 3,
        },
        3 => Record::Settled {
            id,
            home,
            leg,
            attempts: 4,
            delay_warned: number == 2,
            results: vec![(leg, result)],
            notification: None,
        },
        4 => Record::State {
            id,
            home,
            state: head.state,
        },
        5 => Record::Finished { id, home },
        _ => Record::Orders(orders_of(number)),
    }
}

/// A table of that many orders.
pub(super) fn orders_of(number: u64) -> Arc<Orders> {
    let domains = (0..number).map(|n| at_domain(&format!("d{n}.test")));
    let hold = |orders: Orders, scope| {
        let given = orders.obey(command(Verb::Hold, scope), start(), |_| true);
        given.unwrap().0
    };
    Arc::new(domains.fold(Orders::default(), hold))
}

pub(super) fn payload(record: &Encoded) -> Vec<u8> {
    [record.head.as_slice(), &record.body].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn result() -> impl Strategy<Value = RecipientResult> {
    prop_oneof![
        Just(RecipientResult::Delivered),
        Just(RecipientResult::Bounced),
        Just(RecipientResult::Expired),
        Just(RecipientResult::Suppressed),
        (0..4_000_000_000_000_000_i64).prop_map(|micros| RecipientResult::Deferred {
            until: Timestamp::from_microsecond(micros).unwrap(),
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn messages_and_settlements_come_back(
        number: u64,
        bytes: Vec<u8>,
        attempts: u32,
        due in 0..4_000_000_000_000_000_i64,
        done: [u8; 3],
        results in prop::collection::vec((any::<u32>(), result()), 0..5),
        (kind, with_notification) in any::<(u8, bool)>(),
        micros in -2_000_000..2_000_000_i64,
    ) {
        let envelope = Arc::new(any_envelope(kind));
        let state = state_of(&envelope, attempts, due, &done);
        let body = Bytes::from(bytes);
        let accepted = start() + SignedDuration::from_micros(micros);
        let fresh = State::new(&envelope, accepted, &[]);
        let fresh = Head { id: id(number), accepted, state: fresh, envelope: Arc::clone(&envelope) };
        let head = Head { id: id(number), accepted, state, envelope };
        let notification = with_notification.then(|| head.clone());
        let settled = Record::Settled {
            id: id(1), home: number, leg: 1, attempts, delay_warned: with_notification,
            results, notification,
        };
        let state = Record::State { id: id(2), home: number, state: head.state.clone() };
        let moved = Record::Moved { from: number, message: head.clone() };
        let orders = Record::Orders(orders_of(number % 3));
        let result = RecipientResult::Delivered;
        let (attempt, finished) = (any_record(2, number, 3, result), any_record(5, number, 3, result));
        let messages = [Record::Message(fresh), Record::Message(head)];
        for record in messages.into_iter().chain([settled, state, moved, orders, attempt, finished]) {
            let with_body = record.message().is_some();
            let body = if with_body { body.clone() } else { Bytes::new() };
            let encoded = Encoded::new(record.clone(), body.clone());
            let bytes = payload(&encoded);
            prop_assert_eq!(crc32fast::hash(&bytes), encoded.sum);
            let (read, at) = record::decode(encoded.kind, PAYLOAD_VERSION, &bytes).unwrap();
            prop_assert_eq!(&read, &record);
            prop_assert_eq!(&bytes[at], &body[..]);
        }
    }

    #[test]
    fn an_index_is_what_it_was_encoded_from(
        steps in prop::collection::vec((0..7_u8, 0..6_u64, 0..2_u64, result()), 0..60),
        repeats in 0..2_u64,
    ) {
        let mut index = Index::new(7, repeats);
        for (at, (kind, number, other, result)) in (0..).zip(&steps) {
            let record = any_record(*kind, *number, 7 - other, *result);
            index.add(&record, at * 100, 100);
        }
        let read = Index::decode(7, &index.encode());
        prop_assert_eq!(read.as_ref(), Some(&index));
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(kind: u8, version in 0..6_u8, bytes: Vec<u8>) {
        let _ = record::decode(kind, version, &bytes);
        let _ = Index::decode(1, &bytes);
        let _ = SegmentHeader::decode(&bytes);
        let _ = only_record(&bytes);
        for version in [3, SEGMENT_VERSION] {
            prop_assert_eq!(covered(&bytes, Framing::new(version, 7)), bytes.len().saturating_sub(SEGMENT_HEADER));
        }
    }

    #[test]
    fn a_spoiled_payload_is_an_error_or_another_record_and_no_panic(
        kind in 0..7_u8, number in 0..4_u64, result in result(), cut: prop::sample::Index,
        flip in 1..=255_u8,
    ) {
        let encoded = Encoded::of(any_record(kind, number, 7, result));
        let whole = payload(&encoded);
        let at = cut.index(whole.len());
        let cut = whole.get(..at).unwrap();
        // The body has no length: a message that ends within it is one with a shorter body.
        if let Ok((read, _)) = record::decode(encoded.kind, PAYLOAD_VERSION, cut) {
            prop_assert_ne!(read, encoded.record);
        }
        let mut flipped = whole.clone();
        flipped[at] ^= flip;
        let _ = record::decode(encoded.kind, PAYLOAD_VERSION, &flipped);
    }

    #[test]
    fn any_flipped_byte_spoils_one_record_only(position: prop::sample::Index, flip in 1..=255_u8) {
        let (bytes, starts) = three_records();
        let position = SEGMENT_HEADER + position.index(bytes.len() - SEGMENT_HEADER);
        let mut spoiled = bytes.clone();
        spoiled[position] ^= flip;
        prop_assert_eq!(intact(&spoiled), 2, "{:?}", starts);
    }

    #[test]
    fn what_is_cut_off_spoils_no_record_before(length: prop::sample::Index) {
        let (bytes, starts) = three_records();
        let length = SEGMENT_HEADER + length.index(bytes.len() - SEGMENT_HEADER);
        let cut = bytes.get(..length).unwrap();
        let whole = starts.iter().skip(1).filter(|start| **start <= length).count();
        prop_assert_eq!(intact(cut), whole);
        prop_assert_eq!(covered(cut, FRAMING), length - SEGMENT_HEADER);
    }
}

#[test]
fn padding_is_one_record_of_the_size_that_is_asked_for() {
    for bytes in 0..5000 {
        let padding = FRAMING.padding(bytes);
        let found = FRAMING.only_record(&padding);
        match bytes {
            0..12 | 140 => assert!(padding.is_empty(), "{bytes}"),
            _ => assert_eq!(found.map(|found| found.whole), Some(0..bytes)),
        }
    }
}

/// Bytes that a scan speaks of.
fn covered(bytes: &[u8], framing: Framing) -> usize {
    let stretches = scan(bytes, framing).into_iter();
    let lengths = stretches.map(|stretch| match stretch {
        Stretch::Record(found) => found.whole.len(),
        Stretch::Damaged(range) | Stretch::Torn(range) => range.len(),
    });
    lengths.sum()
}

fn intact(bytes: &[u8]) -> usize {
    let is_record = |stretch: &&Stretch| matches!(stretch, Stretch::Record(_));
    scan(bytes, FRAMING).iter().filter(is_record).count()
}

const FRAMING: Framing = Framing::new(SEGMENT_VERSION, MARKER);
const MARKER: u64 = 0x0123_4567_89ab_cdef;

fn three_records() -> (Vec<u8>, Vec<usize>) {
    let header = SegmentHeader {
        version: SEGMENT_VERSION,
        number: 1,
        marker: MARKER,
        repeats: 0,
        orders: false,
    };
    let mut bytes = header.encode().to_vec();
    let mut starts = Vec::new();
    for number in 1..=3 {
        let record = Encoded::of(Record::Attempt {
            id: id(number),
            home: 1,
            leg: 0,
            number: 1,
        });
        starts.push(bytes.len());
        let length = u32::try_from(record.payload_length()).unwrap();
        FRAMING.put_header(&mut bytes, record.kind, length, record.sum);
        bytes.extend(payload(&record));
    }
    (bytes, starts)
}

#[test]
fn the_format_stays_as_it_is_drawn() {
    let header = SegmentHeader {
        version: SEGMENT_VERSION,
        number: 2,
        marker: MARKER,
        repeats: 1,
        orders: true,
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    let (bytes, starts) = three_records();
    let envelope = Arc::new(envelope(&["a@one.test"]));
    let message = Record::Message(Head {
        id: id(1),
        accepted: start(),
        state: State::new(&envelope, start(), &[]),
        envelope,
    });
    let body = Bytes::from_static(b"A: b\r\n\r\nc\r\n");
    let encoded = Encoded::new(message.clone(), body);
    let mut index = Index::new(2, 1);
    index.add(&message, 44, 300);
    index.add(&any_record(3, 2, 1, RecipientResult::Bounced), 344, 90);
    index.add(&Record::Orders(orders_of(1)), 434, 60);
    let drawn = [
        hex(&header.encode()),
        hex(&bytes[starts[0]..starts[1]]),
        hex(&payload(&encoded)),
        hex(&index.encode()),
    ];
    let golden = [GOLDEN_SEGMENT, GOLDEN_ATTEMPT, GOLDEN_MESSAGE, GOLDEN_INDEX];
    assert_eq!(drawn, golden);
}

#[test]
fn a_newer_kind_or_version_is_named() {
    let unknown = |kind, version| Err(DecodeError::Unknown { kind, version });
    let newer = PAYLOAD_VERSION + 1;
    assert_eq!(record::decode(10, 4, &[]), unknown(10, 4));
    assert_eq!(record::decode(1, 2, &[]), unknown(1, 2));
    assert_eq!(record::decode(1, newer, &[]), unknown(1, newer));
    for version in [3, PAYLOAD_VERSION] {
        let malformed = Err(DecodeError::Malformed { kind: 1 });
        assert_eq!(record::decode(1, version, &[]), malformed);
    }
}

/// What is recorded about a message of one recipient that is delivered at once, as `docs/spool.md`
/// has it.
#[test]
fn a_message_delivered_at_once_takes_few_bytes() {
    let envelope = Arc::new(envelope(&["someone@example.net"]));
    let head = Head {
        id: id(1),
        accepted: start() + SignedDuration::from_micros(999),
        state: State::new(&envelope, start() + SignedDuration::from_micros(999), &[]),
        envelope,
    };
    let (id, home, leg) = (head.id, 300, 0);
    let attempt = Record::Attempt {
        id,
        home,
        leg,
        number: 1,
    };
    let settled = Record::Settled {
        id,
        home,
        leg,
        attempts: 1,
        delay_warned: false,
        results: vec![(0, RecipientResult::Delivered)],
        notification: None,
    };
    let body = Bytes::from(vec![b'x'; 2048]);
    let records = [
        (Record::Message(head), body.clone()),
        (attempt, Bytes::new()),
        (settled, Bytes::new()),
    ];
    let sizes = records.map(|(record, body)| {
        let written = Encoded::new(record.clone(), body.clone());
        let length = u32::try_from(written.payload_length()).unwrap();
        let new = FRAMING.header_length(length) + written.head.len();
        let old = version3::framed(MARKER, &record, &body).len() - body.len();
        (old, new)
    });
    assert_eq!(sizes, [(244, 84), (56, 32), (67, 34)]);
}

const GOLDEN_SEGMENT: &str =
    "504f535452534547040001000200000000000000efcdab89674523013248ea290100000000000000f7df88a9";
const GOLDEN_ATTEMPT: &str = "efcdab89674565ab85a902130100000000000000000000a8da769b01010001";
const GOLDEN_MESSAGE: &str = "0100000000000000000000a8da769b0104001273656e646572406578616d706c652e636f6d0b617070732f6c6567616379010a61406f6e652e74657374413a20620d0a0d0a630d0a";
const GOLDEN_INDEX: &str = "0101010101010b617070732f6c6567616379020b6578616d706c652e636f6d086f6e652e74657374010200000000000000000000a8da769b010301000900010002010100000000000000000000a8da769b01002cac02000003010100010000010001b2033c0101010101020764302e7465737403616e6e12706f737472696465722d6f70657261746f7205494e432d3780e4ad950d0000";
