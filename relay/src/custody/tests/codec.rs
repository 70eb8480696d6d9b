//! The bytes of the spool: what is encoded is decoded, garbage is not, and the format stays.

use proptest::prelude::*;

use super::{
    spool::{
        format::{RecordHeader, SEGMENT_HEADER, SegmentHeader, Stretch, scan},
        record::{self, DecodeError, Encoded, MessageFields, Record, SettledFields},
    },
    state::{LegState, Progress, State},
    *,
};

fn state_of(envelope: &Envelope, attempts: u32, due: i64, done: &[u8]) -> State {
    let mut state = State::new(envelope, start(), &[]);
    for leg in &mut state.legs {
        *leg = LegState {
            attempts,
            delay_warned: attempts % 2 == 1,
            due: jiff::Timestamp::from_microsecond(due).unwrap(),
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

fn payload(record: &Encoded) -> Vec<u8> {
    [record.head.as_slice(), &record.body].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn result() -> impl Strategy<Value = RecipientResult> {
    prop_oneof![
        Just(RecipientResult::Delivered),
        Just(RecipientResult::Bounced),
        Just(RecipientResult::Expired),
        Just(RecipientResult::Suppressed),
        (0..4_000_000_000_000_000_i64).prop_map(|micros| RecipientResult::Deferred {
            until: jiff::Timestamp::from_microsecond(micros).unwrap(),
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
        with_notification: bool,
    ) {
        let envelope = envelope(&["a@one.test", "b@two.test", "c@one.test"]);
        let state = state_of(&envelope, attempts, due, &done);
        let body = Bytes::from(bytes);
        let fields = MessageFields {
            id: id(number), accepted: start(), state: &state, envelope: &envelope, body: &body,
        };
        let encoded = record::message(&fields);
        let bytes = payload(&encoded);
        prop_assert_eq!(crc32fast::hash(&bytes), encoded.sum);
        let Record::Message(read) = record::decode(encoded.kind, 1, &bytes).unwrap() else {
            panic!("no message");
        };
        prop_assert_eq!((read.id, &read.state, &read.envelope), (id(number), &state, &envelope));
        prop_assert_eq!(&bytes[read.body_start..], &body[..]);

        let encoded = record::settled(&SettledFields {
            id: id(1), home: number, leg: 1, attempts, delay_warned: with_notification,
            results: &results, notification: with_notification.then_some(fields),
        });
        let bytes = payload(&encoded);
        prop_assert_eq!(crc32fast::hash(&bytes), encoded.sum);
        let Record::Settled { home, results: read, notification, attempts: tried, .. } =
            record::decode(encoded.kind, 1, &bytes).unwrap() else { panic!("no settlement") };
        prop_assert_eq!((home, read, tried), (number, results, attempts));
        prop_assert_eq!(notification.is_some(), with_notification);
        if let Some(told) = notification {
            prop_assert_eq!(told.body, &body[..]);
        }
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(kind: u8, version in 0..3_u8, bytes: Vec<u8>) {
        let _ = record::decode(kind, version, &bytes);
        let _ = SegmentHeader::decode(&bytes);
        let covered: usize = scan(&bytes, 7).iter().map(|stretch| match stretch {
            Stretch::Record { payload, .. } => payload.len() + 24,
            Stretch::Damaged(range) | Stretch::Torn(range) => range.len(),
        }).sum();
        prop_assert_eq!(covered, bytes.len().saturating_sub(SEGMENT_HEADER));
    }

    #[test]
    fn any_flipped_byte_spoils_one_record_only(position in 0..300_usize, flip in 1..=255_u8) {
        let (bytes, starts) = three_records();
        let position = SEGMENT_HEADER + position % (bytes.len() - SEGMENT_HEADER);
        let mut spoiled = bytes.clone();
        spoiled[position] ^= flip;
        let intact = scan(&spoiled, MARKER).iter().filter(|s| matches!(s, Stretch::Record { .. })).count();
        prop_assert_eq!(intact, 2, "{:?}", starts);
    }
}

const MARKER: u64 = 0x0123_4567_89ab_cdef;

fn three_records() -> (Vec<u8>, Vec<usize>) {
    let header = SegmentHeader {
        version: 1,
        number: 1,
        marker: MARKER,
    };
    let mut bytes = header.encode().to_vec();
    let mut starts = Vec::new();
    for number in 1..=3 {
        let record = record::attempt(id(number), 1, 0, 1);
        starts.push(bytes.len());
        let header = RecordHeader {
            length: u32::try_from(record.payload_length()).unwrap(),
            kind: record.kind,
            version: 1,
            payload_sum: record.sum,
        };
        bytes.extend(header.encode(MARKER));
        bytes.extend(payload(&record));
    }
    (bytes, starts)
}

#[test]
fn the_format_stays_as_it_is_drawn() {
    let header = SegmentHeader {
        version: 1,
        number: 2,
        marker: MARKER,
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    assert_eq!(hex(&header.encode()), GOLDEN_SEGMENT);
    let (bytes, starts) = three_records();
    assert_eq!(hex(&bytes[starts[0]..starts[1]]), GOLDEN_ATTEMPT);
    let envelope = envelope(&["a@one.test"]);
    let state = State::new(&envelope, start(), &[]);
    let message = record::message(&MessageFields {
        id: id(1),
        accepted: start(),
        state: &state,
        envelope: &envelope,
        body: &Bytes::from_static(b"A: b\r\n\r\nc\r\n"),
    });
    assert_eq!(hex(&payload(&message)), GOLDEN_MESSAGE);
}

#[test]
fn a_newer_kind_or_version_is_named() {
    let unknown = |kind, version| Err(DecodeError::Unknown { kind, version });
    assert_eq!(record::decode(6, 1, &[]), unknown(6, 1));
    assert_eq!(record::decode(1, 2, &[]), unknown(1, 2));
    assert_eq!(
        record::decode(1, 1, &[]),
        Err(DecodeError::Malformed { kind: 1 })
    );
}

const GOLDEN_SEGMENT: &str = "504f535452534547010000000200000000000000efcdab8967452301cc2e32ed";
const GOLDEN_ATTEMPT: &str = "efcdab896745230120000000020100004e54fc8842726de40100000000000000000000a8da769b0101000000000000000000000001000000";
const GOLDEN_MESSAGE: &str = "0100000000000000000000a8da769b010040204648470600010000000000000000004020464847060001000000009d0000007b2272657475726e5f70617468223a7b224d61696c626f78223a2273656e646572406578616d706c652e636f6d227d2c22726563697069656e7473223a5b7b226d61696c626f78223a2261406f6e652e74657374227d5d2c22626f64795f6b696e64223a22536576656e426974222c22646f6d61696e223a226578616d706c652e636f6d222c2274656e616e74223a22617070732f6c6567616379227d0b0000000ec4245b413a20620d0a0d0a630d0a";
