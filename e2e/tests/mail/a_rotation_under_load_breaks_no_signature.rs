//! Keys that rotate again and again while mail flows through three relays, one of which is killed,
//! as is the operator that leads: every message that arrives carries both signatures, and both
//! verify at the receiver as it arrives and afterwards.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use postrider_e2e::peers::{
    Outcome, Received, Reply, StopOnDrop, sink::Rules, sink::Transaction, stop,
};
use serde_json::{Value, json};

use crate::{
    exchange::{message_id, passes},
    pods::container_of,
    support::{BOUND, DOMAIN, POOL, Stage, eventually_or},
};

/// Relays.
const RELAYS: usize = 3;
/// Messages an application sends in a session, in turn to both receivers.
const MESSAGES: usize = 4;
/// A session begins this long after the one before it has begun, at the earliest.
const PACE: Duration = Duration::from_millis(500);
/// How often somebody looks whether the domain asks for other records.
const PUBLISHER: Duration = Duration::from_secs(1);
/// Looks in vain for all mail after which OpenDKIM, which hangs at times, is started anew.
const PATIENCE: usize = 200;
/// The mailbox of the receiver that verifies as mail arrives.
const MAILBOX: &str = "ada@postfix-rotation.example";

#[tokio::test]
async fn a_rotation_under_load_breaks_no_signature() {
    let stage = Stage::start("rotation", 19, Rules::default()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let _stop = StopOnDrop(directory.path().to_owned());
    let postfix = stage.postfix(directory.path(), 20).await;
    stage.apply(stage.pool(json!({"replicas": RELAYS}))).await;
    ask_for(&stage, "first").await;
    stage.publish_wanted().await;
    stage.current("RelayPool", POOL).await;
    let first = signing(&stage, "first").await;

    let over = Cell::new(false);
    let changes = async {
        let generations = rotations(&stage, first).await;
        over.set(true);
        generations
    };
    let work = async { tokio::join!(load(&stage, &over), changes) };
    let (accepted, generations) = tokio::select! {
        done = work => done,
        never = publisher(&stage) => match never {},
    };

    let now = || {
        let received = postfix.received(MAILBOX).expect("a Maildir");
        (stage.sink.transactions(), received)
    };
    let mut looks = 0;
    let all = async || {
        let seen = Some(now()).filter(|seen| missing(&accepted, seen).is_empty());
        looks += 1;
        if seen.is_none() && looks % PATIENCE == 0 {
            postfix.restart_verifier().await.expect("a verifier");
        }
        seen
    };
    let explain = async || stage.story(&missing(&accepted, &now())).await;
    let (taken, received) = eventually_or("all that was accepted", all, explain).await;
    judge(&stage, &taken, &received, &generations).await;
    stop(directory.path()).await.expect("stopped");
    stage.finish().await;
}

/// Three rotations: a relay is killed in the first, the operator in the second. Returns the
/// selectors that signed, those of `first` and of each rotation, all of which mail was signed with.
async fn rotations(stage: &Stage, first: BTreeSet<String>) -> Vec<BTreeSet<String>> {
    let mut generations = vec![first];
    for trigger in ["second", "third", "fourth"] {
        signs(stage, generations.last().expect("the first")).await;
        ask_for(stage, trigger).await;
        match trigger {
            "second" => kill_relay(stage).await,
            "third" => drop(stage.kill_operator().await),
            _ => {}
        }
        let now = signing(stage, trigger).await;
        let mut before = generations.iter().flatten();
        assert!(
            before.all(|old| !now.contains(old)),
            "{generations:?} {now:?}"
        );
        generations.push(now);
    }
    signs(stage, generations.last().expect("the first")).await;
    generations
}

/// Asks for a rotation by changing its trigger.
async fn ask_for(stage: &Stage, trigger: &str) {
    let rotation = json!({"trigger": trigger, "retireAfter": "1s"});
    let domain = stage.sending_domain(json!({"dkim": {"rotation": rotation}}));
    stage.apply(domain).await;
}

/// Waits until both keys of `trigger` are active; returns their selectors.
async fn signing(stage: &Stage, trigger: &str) -> BTreeSet<String> {
    let selectors = |domain: &Value| -> BTreeSet<String> {
        let keys = domain["status"]["dkim"]["active"].as_array();
        let selector = |key: &Value| key["selector"].as_str().map(str::to_owned);
        keys.into_iter().flatten().filter_map(selector).collect()
    };
    let is = |domain: &Value| {
        domain["status"]["dkim"]["trigger"] == trigger && selectors(domain).len() == 2
    };
    let what = format!("the keys of {trigger}");
    selectors(&stage.until("SendingDomain", DOMAIN, &what, is).await)
}

/// Waits until a message signed with all `selectors` arrives.
async fn signs(stage: &Stage, selectors: &BTreeSet<String>) {
    let signed = |all: &[Transaction]| {
        let path = all.last().and_then(|one| one.message.as_ref());
        path.is_some_and(|path| {
            let text = std::fs::read_to_string(path).expect("a stored message");
            selectors
                .iter()
                .all(|one| text.contains(&format!("s={one};")))
        })
    };
    let waited = stage.sink.wait_for(BOUND, signed).await;
    waited.expect("mail signed with the new keys");
}

async fn kill_relay(stage: &Stage) {
    let relay = stage.get("Pod", &format!("{POOL}-1")).await;
    let killed = stage.cluster.kill_container(&container_of(&relay)).await;
    assert_eq!(killed.expect("killed"), 1, "the relay is one process");
}

/// Sends until it is `over`; returns the replies to what was accepted. A session that a killed
/// relay breaks, or that never comes about, is an application's everyday life.
async fn load(stage: &Stage, over: &Cell<bool>) -> Vec<Reply> {
    let client = stage.client().await;
    let mut accepted = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    while !over.get() {
        pace.tick().await;
        let messages: Vec<_> = (0..MESSAGES)
            .map(|nth| {
                let mut message = stage.message("ada", &format!("Message {nth}"));
                if nth % 2 == 1 {
                    message.to = MAILBOX.to_owned();
                }
                message
            })
            .collect();
        let replies = client.send_until_broken(&messages).await;
        let replies = replies.unwrap_or_default().into_iter();
        accepted.extend(replies.filter(|one| one.accepted));
    }
    accepted
}

/// The domain's owner, who publishes whatever the domain asks for.
async fn publisher(stage: &Stage) -> Infallible {
    let (mut published, mut looks) = (String::new(), tokio::time::interval(PUBLISHER));
    loop {
        looks.tick().await;
        let wanted = stage.records().await;
        if wanted != published {
            stage.publish(&wanted).await;
            published = wanted;
        }
    }
}

/// Those of `accepted` that neither receiver has.
fn missing<'a>(
    accepted: &'a [Reply],
    (taken, received): &(Vec<Transaction>, Vec<Received>),
) -> Vec<&'a Reply> {
    let taken = taken.iter().filter(|one| one.accepted()).map(message_id);
    let received = received.iter().flat_map(|one| one.field("Message-ID"));
    let all: BTreeSet<String> = taken.chain(received.map(str::to_owned)).collect();
    let is = |one: &&Reply| !all.contains(&one.message_id);
    accepted.iter().filter(is).collect()
}

/// Asserts that every signature of every message is good, says dkimpy at both receivers and OpenDKIM
/// at the one, and that every generation of keys and every relay had its part.
async fn judge(
    stage: &Stage,
    taken: &[Transaction],
    received: &[Received],
    generations: &[BTreeSet<String>],
) {
    for one in received {
        let opendkim = one.authentication_results.join("; ");
        let results = opendkim.matches("dkim=").count();
        let passed = opendkim.matches("dkim=pass").count();
        assert!(results > 0 && results == passed, "{opendkim}");
    }
    let nameserver = stage.cluster.dns().address();
    let at_postfix = received.iter().map(|one| one.case(nameserver));
    let cases: Vec<_> = taken
        .iter()
        .filter_map(|one| one.case(nameserver))
        .chain(at_postfix)
        .collect();
    let relays: BTreeSet<_> = cases.iter().map(|one| one.client_ip).collect();
    assert_eq!(relays.len(), RELAYS, "{relays:?}");
    let verdicts = stage.verdicts(&cases).await;
    verdicts.iter().for_each(passes);
    let mut signatures: BTreeMap<&str, usize> = BTreeMap::new();
    for one in verdicts.iter().flat_map(|one| &one.dkim) {
        assert_eq!(one.result, Outcome::Pass, "{one:?}");
        *signatures.entry(&one.selector).or_default() += 1;
    }
    println!(
        "{} messages, signatures by selector: {signatures:?}",
        cases.len()
    );
    let used: BTreeSet<&str> = signatures.into_keys().collect();
    let wanted: BTreeSet<&str> = generations.iter().flatten().map(String::as_str).collect();
    assert_eq!(used, wanted);
}
