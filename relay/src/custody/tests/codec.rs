//! The bytes of the spool: what is encoded is decoded, garbage is not, and the format stays.

use proptest::prelude::*;

use super::{
    orders::Orders,
    spool::{
        format::{RecordHeader, SEGMENT_HEADER, SEGMENT_VERSION, SegmentHeader, Stretch, scan},
        index::Index,
        record::{self, DecodeError, Encoded, Head, Record, VERSION},
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

/// A record of the kind about a message of segment `home`, of which there are few.
fn any_record(kind: u8, number: u64, home: u64, result: RecipientResult) -> Record {
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
fn orders_of(number: u64) -> Arc<Orders> {
    let domains = (0..number).map(|n| at_domain(&format!("d{n}.test")));
    let hold = |orders: Orders, scope| {
        let given = orders.obey(command(Verb::Hold, scope), start(), |_| true);
        given.unwrap().0
    };
    Arc::new(domains.fold(Orders::default(), hold))
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
        with_notification: bool,
    ) {
        let envelope = Arc::new(envelope(&["a@one.test", "b@two.test", "c@one.test"]));
        let state = state_of(&envelope, attempts, due, &done);
        let body = Bytes::from(bytes);
        let head = Head { id: id(number), accepted: start(), state, envelope };
        let notification = with_notification.then(|| head.clone());
        let settled = Record::Settled {
            id: id(1), home: number, leg: 1, attempts, delay_warned: with_notification,
            results, notification,
        };
        let state = Record::State { id: id(2), home: number, state: head.state.clone() };
        let moved = Record::Moved { from: number, message: head.clone() };
        let orders = Record::Orders(orders_of(number % 3));
        for record in [Record::Message(head), settled, state, moved, orders] {
            let with_body = record.message().is_some();
            let body = if with_body { body.clone() } else { Bytes::new() };
            let encoded = Encoded::new(record.clone(), body.clone());
            let bytes = payload(&encoded);
            prop_assert_eq!(crc32fast::hash(&bytes), encoded.sum);
            let (read, at) = record::decode(encoded.kind, VERSION, &bytes).unwrap();
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
    fn garbage_is_an_error_and_no_panic(kind: u8, version in 0..4_u8, bytes: Vec<u8>) {
        let _ = record::decode(kind, version, &bytes);
        let _ = Index::decode(1, &bytes);
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
        let header = RecordHeader {
            length: u32::try_from(record.payload_length()).unwrap(),
            kind: record.kind,
            version: VERSION,
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
        version: 3,
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
    assert_eq!(record::decode(10, VERSION, &[]), unknown(10, VERSION));
    assert_eq!(record::decode(9, 2, &[]), unknown(9, 2));
    assert_eq!(record::decode(1, 4, &[]), unknown(1, 4));
    assert_eq!(
        record::decode(1, VERSION, &[]),
        Err(DecodeError::Malformed { kind: 1 })
    );
}

#[test]
fn records_and_segments_of_the_version_before_are_read() {
    let record = Encoded::of(any_record(1, 3, 7, RecipientResult::Delivered));
    let (read, _) = record::decode(record.kind, 2, &payload(&record)).unwrap();
    assert_eq!(read, record.record);
    let header = SegmentHeader {
        version: 2,
        number: 1,
        marker: MARKER,
        repeats: 4,
        orders: false,
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
}

const GOLDEN_SEGMENT: &str =
    "504f535452534547030001000200000000000000efcdab8967452301a1eeaec80100000000000000f7df88a9";
const GOLDEN_ATTEMPT: &str = "efcdab896745230120000000020300004e54fc886b63f2730100000000000000000000a8da769b0101000000000000000000000001000000";
const GOLDEN_MESSAGE: &str = "0100000000000000000000a8da769b010040204648470600010000000000000000004020464847060001000000009d0000007b2272657475726e5f70617468223a7b224d61696c626f78223a2273656e646572406578616d706c652e636f6d227d2c22726563697069656e7473223a5b7b226d61696c626f78223a2261406f6e652e74657374227d5d2c22626f64795f6b696e64223a22536576656e426974222c22646f6d61696e223a226578616d706c652e636f6d222c2274656e616e74223a22617070732f6c6567616379227d0b000000413a20620d0a0d0a630d0a";
const GOLDEN_INDEX: &str = "01010000000100000000000000010000000100000000000000010000000b00617070732f6c6567616379020000000b006578616d706c652e636f6d08006f6e652e74657374010000000200000000000000000000a8da769b01030100000000000000040000000100010000000000000002010000000100000000000000000000a8da769b0100402046484706002c0000002c0100000000000001000000010100000001000000000000000100000000000000000040204648470600010000000001b20100003c000000a70000007b227265766973696f6e223a312c226c617374223a312c226c697374223a5b7b226e756d626572223a312c2276657262223a22686f6c64222c22646f6d61696e223a2264302e74657374222c226279223a22616e6e222c22636c69656e74223a22706f737472696465722d6f70657261746f72222c22726561736f6e223a22494e432d37222c22676976656e223a22323032362d30312d30315430303a30303a30305a227d5d7d";
