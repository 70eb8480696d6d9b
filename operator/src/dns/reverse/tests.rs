//! Addresses and names that lead to each other, or do not.

use std::sync::atomic::Ordering;

use postrider_crds::RecordState::{Mismatch, Missing, Unknown, Verified};
use proptest::prelude::*;

use super::*;
use crate::dns::fake::FakeResolver;

const ONE: &str = "203.0.113.10";
const TWO: &str = "203.0.113.11";
const SIX: &str = "2001:db8::10";

fn world(ptr: &[(&str, &[&str])], forward: &[(&str, &[&str])]) -> FakeResolver {
    let mut resolver = FakeResolver::default();
    for (address, names) in ptr {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        resolver.ptr.insert(address.parse().unwrap(), names);
    }
    forward
        .iter()
        .fold(resolver, |resolver, (name, addresses)| {
            resolver.with_addresses(name, addresses)
        })
}

async fn look(resolver: &FakeResolver, egress: &[&str], names: &[&str]) -> Reverse {
    let egress: Vec<EgressRange> = egress.iter().map(|e| e.parse().unwrap()).collect();
    let names: Vec<DomainName> = names.iter().map(|n| n.parse().unwrap()).collect();
    let expected = Expectation {
        egress: &egress,
        names: &names,
    };
    check(resolver, expected).await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story or table, told in a row")]
async fn table_of_one_address_and_one_name() {
    const MAIL: &str = "mail.example.net";
    const HOST: &str = "host7.isp.example";
    type Records = &'static [(&'static str, &'static [&'static str])];
    let mapped: Records = &[(ONE, &[MAIL])];
    let elsewhere: Records = &[(ONE, &[HOST])];
    type Expected = (RecordState, &'static str);
    let cases: [(Records, Records, Expected, Expected); 10] = [
        (mapped, &[(MAIL, &[ONE])], (Verified, ""), (Verified, "")),
        (
            &[(ONE, &[HOST, MAIL])],
            &[(MAIL, &[ONE, TWO])],
            (Verified, ""),
            (Verified, ""),
        ),
        (
            &[],
            &[(MAIL, &[ONE])],
            (Missing, "has no name"),
            (Verified, ""),
        ),
        (
            &[(ONE, &[""])],
            &[(MAIL, &[ONE])],
            (Missing, "has no name"),
            (Verified, ""),
        ),
        (
            mapped,
            &[],
            (Mismatch, "publish A mail.example.net 203.0.113.10"),
            (Missing, "EHLO"),
        ),
        (
            mapped,
            &[(MAIL, &[TWO])],
            (Mismatch, "does not lead back"),
            (Mismatch, "none of spec.egress.addresses"),
        ),
        // Some other name that leads back will do for the address alone.
        (
            elsewhere,
            &[(HOST, &[ONE])],
            (Verified, ""),
            (Missing, "EHLO"),
        ),
        (
            elsewhere,
            &[(HOST, &[ONE]), (MAIL, &[ONE])],
            (Mismatch, "has another name"),
            (Verified, ""),
        ),
        (
            elsewhere,
            &[(MAIL, &[ONE])],
            (Mismatch, "host7"),
            (Verified, ""),
        ),
        (&[], &[], (Missing, "has no name"), (Missing, "EHLO")),
    ];
    for (ptr, forward, address, name) in cases {
        let seen = look(&world(ptr, forward), &[ONE], &[MAIL]).await;
        let shown = format!("{ptr:?} {forward:?}: {seen:?}");
        for (finding, (state, part)) in [(&seen.addresses[0].1, address), (&seen.names[0].1, name)]
        {
            assert_eq!(finding.state, state, "{shown}");
            assert!(finding.message.contains(part), "{shown}");
        }
        let wanted = seen.addresses[0].1.wanted.as_deref().unwrap();
        assert!(
            wanted.contains("mail.example.net.") || address.0 == Verified,
            "{shown}"
        );
        assert_eq!(seen.names[0].1.wanted.as_deref(), Some(ONE), "{shown}");
    }
}

#[tokio::test]
async fn relays_share_addresses_or_have_their_own() {
    let names = ["mail-0.example.net", "mail-1.example.net"];
    let own = world(
        &[(ONE, &[names[0]]), (TWO, &[names[1]])],
        &[(names[0], &[ONE]), (names[1], &[TWO])],
    );
    let shared = world(
        &[(ONE, &[names[0]])],
        &[(names[0], &[ONE]), (names[1], &[ONE])],
    );
    for seen in [
        look(&own, &[ONE, TWO], &names).await,
        look(&shared, &[ONE], &names).await,
    ] {
        assert!(
            seen.findings().all(|finding| finding.state == Verified),
            "{seen:?}"
        );
    }
    let nothing = look(&FakeResolver::default(), &[ONE, TWO, SIX], &names).await;
    let wanted: Vec<_> = nothing
        .findings()
        .map(|f| f.wanted.clone().unwrap())
        .collect();
    let expected = [
        ONE,
        TWO,
        "mail-0.example.net.",
        "mail-1.example.net.",
        "mail-0.example.net.",
    ];
    assert_eq!(wanted, expected);
}

#[tokio::test]
async fn families_are_asked_about_as_they_are_used() {
    let mail = "mail.example.net";
    let both = world(&[(ONE, &[mail]), (SIX, &[mail])], &[(mail, &[ONE, SIX])]);
    let seen = look(&both, &[ONE, SIX], &[mail]).await;
    assert!(
        seen.findings().all(|finding| finding.state == Verified),
        "{seen:?}"
    );
    let half = world(&[(ONE, &[mail]), (SIX, &[mail])], &[(mail, &[ONE])]);
    let seen = look(&half, &[ONE, SIX], &[mail]).await;
    assert_eq!(seen.addresses[1].1.state, Mismatch);
    assert!(
        seen.addresses[1]
            .1
            .message
            .contains("AAAA mail.example.net 2001:db8::10")
    );
    assert_eq!(seen.names[0].1.state, Verified);
    let name = record_name(SIX.parse().unwrap());
    assert!(
        name.starts_with("0.1.0.0.0") && name.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"),
        "{name}"
    );
    assert_eq!(
        record_name(ONE.parse().unwrap()),
        "10.113.0.203.in-addr.arpa"
    );
}

#[tokio::test]
async fn trouble_is_unknown_and_a_good_answer_beside_it_counts() {
    let mail = "mail.example.net";
    let good = || world(&[(ONE, &[mail])], &[(mail, &[ONE])]);
    let seen = look(&good().with_failing(ONE), &[ONE], &[mail]).await;
    assert_eq!(
        (seen.addresses[0].1.state, seen.names[0].1.state),
        (Unknown, Verified)
    );
    assert!(
        seen.addresses[0]
            .1
            .message
            .contains("10.113.0.203.in-addr.arpa")
    );
    let seen = look(&good().with_failing(mail), &[ONE], &[mail]).await;
    assert_eq!(
        (seen.addresses[0].1.state, seen.names[0].1.state),
        (Unknown, Unknown)
    );
    let two = world(&[(ONE, &["dead.example", mail])], &[(mail, &[ONE])]);
    let seen = look(&two.with_failing("dead.example"), &[ONE], &[mail]).await;
    assert_eq!(seen.addresses[0].1.state, Verified);
}

#[tokio::test]
async fn a_name_is_followed_once_however_many_addresses_have_it() {
    let mut resolver = FakeResolver::default();
    let range: EgressRange = "203.0.113.0/24".parse().unwrap();
    for address in range.addresses() {
        resolver
            .ptr
            .insert(address, vec!["mail.example.net".into()]);
    }
    let all: Vec<String> = range.addresses().map(|a| a.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let resolver = resolver.with_addresses("mail.example.net", &all);
    let seen = look(&resolver, &["203.0.113.0/24", ONE], &["mail.example.net"]).await;
    assert_eq!(seen.addresses.len(), 256);
    assert!(seen.findings().all(|finding| finding.state == Verified));
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 257);
}

fn any_answer<T: Clone + std::fmt::Debug + 'static>(
    values: Vec<T>,
) -> impl Strategy<Value = Answer<T>> {
    let some = proptest::sample::subsequence(values.clone(), 1..=values.len());
    prop_oneof![
        4 => some.prop_map(|records| Answer::Found { records, ttl: 60 }),
        1 => Just(Answer::NoData),
        1 => Just(Answer::NxDomain),
        1 => Just(Answer::Unavailable(FakeResolver::failure())),
    ]
}

const NAMES: [&str; 3] = ["a.test", "b.test", "c.test"];

proptest! {
    /// Verified is only what a receiver finds verified whichever way it looks, and what is failed
    /// stays failed when the answers that did not come do come.
    #[test]
    fn verdicts_hold_whatever_the_lost_answers_are(
        ptr in proptest::collection::vec(any_answer(NAMES.map(str::to_owned).to_vec()), 2),
        forward in proptest::collection::vec(any_answer(vec![ONE.parse::<IpAddr>().unwrap(), TWO.parse().unwrap()]), 3),
        later in any_answer(vec![ONE.parse::<IpAddr>().unwrap(), TWO.parse().unwrap()]),
    ) {
        let egress: Vec<EgressRange> = vec![ONE.parse().unwrap(), TWO.parse().unwrap()];
        let names = [NAMES[0], NAMES[2]].map(|name| name.parse::<DomainName>().unwrap());
        let expected = Expectation { egress: &egress, names: &names };
        let addresses = expected.addresses();
        let mut view = View {
            names: addresses.iter().copied().zip(ptr).collect(),
            addresses: NAMES.map(|name| (name.to_owned(), Family::V4)).into_iter().zip(forward).collect(),
        };
        let before = judge(&view, expected);
        for (address, finding) in &before.addresses {
            let names = followed(&view.names[address]);
            let leads = |name: &String| view.leads(name, *address) == Ok(true);
            prop_assert!(finding.state != Verified || names.iter().any(leads));
            prop_assert!(finding.wanted.is_some());
        }
        for answer in view.addresses.values_mut() {
            if matches!(answer, Answer::Unavailable(_)) {
                *answer = later.clone();
            }
        }
        let after = judge(&view, expected);
        for ((_, before), (_, after)) in before.addresses.iter().zip(&after.addresses) {
            prop_assert!(!matches!(before.state, Missing | Mismatch) || before.state == after.state, "{before:?} {after:?}");
        }
    }
}
