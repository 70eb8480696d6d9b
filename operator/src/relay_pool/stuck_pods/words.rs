//! The words of the cluster's components, as they may stand in a status that is to come to rest.
//!
//! Promises: what is said again about the same trouble reads the same, though ids, addresses and times in
//! it differ; none of it is longer than [`refusal::cut`] lets it be.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use crate::refusal;

/// What stands in place of what differs.
const DIFFERS: &str = "...";
/// Lengths of the parts of a UUID (RFC 9562 section 4).
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
/// Hexadecimal digits from which on a word counts as an id.
const ID: usize = 12;

/// `said`, without what differs each time it is said.
pub(super) fn steady(said: &str) -> String {
    let said = said
        .strip_prefix("(combined from similar events): ")
        .unwrap_or(said);
    let said = without_codes(said);
    let words = said.split_whitespace().map(|word| {
        let mut steady = String::with_capacity(word.len());
        let word = without_query(word);
        let mut rest = word.as_str();
        while let Some(character) = rest.chars().next() {
            let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end.max(character.len_utf8()));
            steady.push_str(&masked(name));
            rest = after;
        }
        steady
    });
    refusal::cut(words.collect::<Vec<_>>().join(" "))
}

/// `said` without the codes of calls between components: "rpc error: code = NotFound desc = ".
fn without_codes(said: &str) -> String {
    let mut parts = said.split("rpc error: code = ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once(" desc = ").map_or(part, |(_, desc)| desc));
    }
    plain
}

/// `word` without the query of a URL, which may be signed anew each time.
fn without_query(word: &str) -> String {
    match word.split_once('?') {
        Some((url, query)) if url.contains("://") => {
            let query = query.trim_end_matches(['"', ':', ',']).len();
            let closing = word.get(url.len() + 1 + query..).unwrap_or_default();
            format!("{url}{closing}")
        }
        Some(_) | None => word.to_owned(),
    }
}

const fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_')
}

/// `name`, or what stands in place of it.
fn masked(name: &str) -> String {
    let (start, end) = (
        name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()),
        name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()),
    );
    let (before, after) = (name.len() - start.len(), end.len());
    let (Some(head), Some(core), Some(tail)) = (
        name.get(..before),
        name.get(before..after),
        name.get(after..),
    ) else {
        return name.to_owned();
    };
    let differs = core.parse::<IpAddr>().is_ok()
        || core.parse::<SocketAddr>().is_ok()
        || core.parse::<Timestamp>().is_ok()
        || is_duration(core);
    match differs {
        true => format!("{head}{DIFFERS}{tail}"),
        false => format!("{head}{}{tail}", without_ids(core)),
    }
}

/// As Go writes one, such as 2m40s or 1.5s.
fn is_duration(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.ends_with('s')
        && word
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's' | 'u' | 'n'))
}

fn without_ids(word: &str) -> String {
    let parts: Vec<&str> = word
        .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .collect();
    let mut plain = String::with_capacity(word.len());
    let mut rest = parts.as_slice();
    while let Some((part, after)) = rest.split_first() {
        let last = match rest.split_at_checked(UUID.len()) {
            Some((five, after)) if is_uuid(five) => {
                rest = after;
                five.last()
            }
            Some(_) | None => {
                rest = after;
                is_id(part).then_some(part)
            }
        };
        match last {
            Some(last) => {
                plain.push_str(DIFFERS);
                plain.push_str(last.trim_start_matches(|c: char| c.is_ascii_alphanumeric()));
            }
            None => plain.push_str(part),
        }
    }
    plain
}

fn is_uuid(parts: &[&str]) -> bool {
    let mut pairs = parts.iter().zip(UUID);
    pairs.all(|(part, length)| hexadecimal(part).is_some_and(|digits| digits.len() == length))
}

fn is_id(part: &str) -> bool {
    hexadecimal(part)
        .is_some_and(|digits| digits.len() >= ID && digits.contains(|c: char| c.is_ascii_digit()))
}

/// The digits of `part`, which may have a separator behind them, if it has no others.
fn hexadecimal(part: &str) -> Option<&str> {
    let digits = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    digits
        .chars()
        .all(|c| c.is_ascii_hexdigit())
        .then_some(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_each_time_is_left_out() {
        for (said, steadily) in [
            (
                "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.example/relay:1.2.3\": not found",
                "failed to pull and unpack image \"registry.example/relay:1.2.3\": not found",
            ),
            (
                "Head \"https://registry.example/v2/\": dial tcp: lookup registry.example on 10.96.0.10:53: read udp 10.244.0.5:41234->10.96.0.10:53: i/o timeout",
                "Head \"https://registry.example/v2/\": dial tcp: lookup registry.example on ...: read udp ...->...: i/o timeout",
            ),
            (
                "dial tcp [2001:db8::1]:443: connect: connection refused",
                "dial tcp [...]:443: connect: connection refused",
            ),
            (
                "MountVolume.SetUp failed for volume \"pvc-1f0e8400-e29b-41d4-a716-446655440000\" : timed out after 2m3s",
                "MountVolume.SetUp failed for volume \"pvc-...\" : timed out after ...",
            ),
            (
                "failed to reserve container name \"relay_default-0_mail_1f0e8400-e29b-41d4-a716-446655440000_0\": name is reserved for \"5b1c3a9d7e2f\"",
                "failed to reserve container name \"relay_default-0_mail_..._0\": name is reserved for \"...\"",
            ),
            (
                "Get \"https://blobs.example/x?Expires=1700000000&Signature=aGVsbG8\": net/http: TLS handshake timeout",
                "Get \"https://blobs.example/x\": net/http: TLS handshake timeout",
            ),
            (
                "(combined from similar events): at 2026-01-31T09:00:00.123Z it was\n  late",
                "at ... it was late",
            ),
            (
                "couldn't find key username in Secret mail/deadbeef-feedface",
                "couldn't find key username in Secret mail/deadbeef-feedface",
            ),
            ("\u{e9}t\u{e9} --: ?", "\u{e9}t\u{e9} --: ?"),
        ] {
            assert_eq!(steady(said), steadily);
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_and_read_the_same_again(said in "\\PC{0,100}") {
            let once = steady(&said);
            prop_assert_eq!(steady(&once), once.clone());
        }

        #[test]
        fn ids_and_addresses_make_no_difference(
            a in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            b in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            from in any::<std::net::Ipv4Addr>(),
            to in any::<std::net::Ipv4Addr>(),
            port in any::<u16>(),
        ) {
            let said = |id: &str, address: std::net::Ipv4Addr| {
                steady(&format!("volume pvc-{id}: read udp {address}:{port}->{address}:53: no"))
            };
            prop_assert_eq!(said(&a, from), said(&b, to));
        }
    }
}
