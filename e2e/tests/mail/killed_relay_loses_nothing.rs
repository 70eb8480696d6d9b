//! A relay killed with SIGKILL while applications send to it and it sends to receivers: every
//! message it answered with 250 is delivered, bounced or still queued when it is back.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use futures::future::join_all;
use postrider_e2e::peers::{
    Reply,
    sink::{Rules, Script, Transaction},
};
use serde_json::Value;

use crate::{
    exchange::message_id,
    pods::{Container, container_of},
    support::{BOUND, POOL, Stage, eventually},
};

/// Applications that send side by side.
const SESSIONS: usize = 4;
/// Messages in each of their sessions, of which one follows the other.
const MESSAGES: usize = 20;
/// The relay is killed when this many have arrived.
const ARRIVED: usize = 40;
/// Connections a relay opens to a site: as many messages may be on their way when it is killed.
const IN_FLIGHT: usize = 10;

#[tokio::test]
async fn killed_relay_loses_nothing() {
    let stage = Stage::start("killed", 13, rules()).await;
    stage.ready_to_send().await;
    let relay = stage.get("Pod", &format!("{POOL}-0")).await;
    let container = container_of(&relay);

    let over = Cell::new(false);
    let load = join_all((0..SESSIONS).map(|_| until_killed(&stage, &over)));
    let kill = async {
        let enough = |all: &[Transaction]| all.iter().filter(|one| one.accepted()).count();
        let waited = stage.sink.wait_for(BOUND, |all| enough(all) >= ARRIVED);
        waited.await.expect("a load");
        let killed = stage.cluster.kill_container(&container).await;
        assert_eq!(killed.expect("killed"), 1, "the relay is one process");
        over.set(true);
    };
    let (sent, ()) = tokio::join!(load, kill);
    assert!(sent.iter().any(|one| one.broken), "nobody was sending");
    let replies = sent.into_iter().flat_map(|one| one.replies);
    let accepted: Vec<Reply> = replies.filter(|one| one.accepted).collect();

    let again = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        container["restartCount"] == 1 && container["ready"] == true
    };
    stage
        .until("Pod", &format!("{POOL}-0"), "a new relay", again)
        .await;
    let after = stage.send("ada", "After the crash").await;
    stage.delivered(&after).await;
    let fates = eventually("the fate of every message", async || {
        let fates = Fates::gather(&stage).await;
        fates.lost(&accepted).is_empty().then_some(fates)
    })
    .await;
    fates.tell(&accepted);
    stage.finish().await;
}

/// What became of an application's sessions.
struct Sent {
    replies: Vec<Reply>,
    /// A session broke.
    broken: bool,
}

/// An application that sends until the relay has been killed.
async fn until_killed(stage: &Stage, over: &Cell<bool>) -> Sent {
    let client = stage.client().await;
    let messages: Vec<_> = (0..MESSAGES)
        .map(|nth| {
            stage.message(
                RECIPIENTS[nth % RECIPIENTS.len()],
                &format!("Message {nth}"),
            )
        })
        .collect();
    let (mut replies, mut broken) = (Vec::new(), false);
    while !over.get() {
        // A relay killed between two sessions refuses the next.
        let answered = client
            .send_until_broken(&messages)
            .await
            .unwrap_or_default();
        broken |= answered.len() < MESSAGES;
        replies.extend(answered);
    }
    Sent { replies, broken }
}

/// Whom mail is for, in turn: who takes it, takes it slowly, is unknown, or is never there.
const RECIPIENTS: [&str; 8] = ["ada", "bea", "slow", "cas", "later", "dan", "eva", "nobody"];
/// The one who is never there.
const NEVER_THERE: &str = "later@to-killed.example";

fn rules() -> Rules {
    let script = |who: &str, script| (format!("{who}@to-killed.example"), script);
    Rules {
        recipients: BTreeMap::from([
            script("slow", Script::Slow { seconds: 1 }),
            script("later", Script::Defer),
            script("nobody", Script::UnknownUser),
        ]),
        ..Rules::default()
    }
}

/// What has become of messages, by what others saw.
#[derive(Debug)]
struct Fates {
    /// How often the receiver took each, by Message-ID.
    delivered: BTreeMap<String, usize>,
    /// The notifications of failure that came back.
    notifications: Vec<String>,
    /// Messages to who is never there that the new relay has tried in vain and keeps, by its ids.
    queued: BTreeSet<String>,
    /// How often the new relay had to put off the others, by class.
    put_off: BTreeMap<String, usize>,
}

impl Fates {
    async fn gather(stage: &Stage) -> Self {
        let taken = stage.sink.transactions();
        let (notices, mail): (Vec<_>, Vec<_>) = taken
            .iter()
            .filter(|one| one.accepted())
            .partition(|one| one.mail_from.is_empty());
        let mut delivered = BTreeMap::new();
        for one in mail {
            *delivered.entry(message_id(one)).or_default() += 1;
        }
        let read = |one: &Transaction| {
            let path = one.message.as_ref().expect("a stored message");
            std::fs::read_to_string(path).expect("text")
        };
        let pod = stage.pod(0).await;
        let events = stage.events(&pod, Container::Present).await;
        let (mut queued, mut put_off) = (BTreeSet::new(), BTreeMap::new());
        for event in events.iter().filter(|event| event["stage"] == "deferred") {
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            if event["recipient"] == NEVER_THERE {
                queued.insert(text("id"));
            } else {
                *put_off.entry(text("class")).or_default() += 1;
            }
        }
        Self {
            delivered,
            notifications: notices.into_iter().map(read).collect(),
            queued,
            put_off,
        }
    }

    /// Those of `accepted` that have no end yet.
    fn lost<'a>(&self, accepted: &'a [Reply]) -> Vec<&'a Reply> {
        let lost = |reply: &&Reply| {
            !self.delivered.contains_key(&reply.message_id)
                && !self.bounced(reply)
                && !self.is_queued(reply)
        };
        accepted.iter().filter(lost).collect()
    }

    fn bounced(&self, reply: &Reply) -> bool {
        let about = |notice: &String| notice.contains(&reply.message_id);
        self.notifications.iter().any(about)
    }

    fn is_queued(&self, reply: &Reply) -> bool {
        reply.id.as_ref().is_some_and(|id| self.queued.contains(id))
    }

    /// Says what became of them, and asserts that little was sent twice.
    fn tell(&self, accepted: &[Reply]) {
        let of = |fate: &dyn Fn(&Reply) -> bool| accepted.iter().filter(|one| fate(one)).count();
        let twice = self.delivered.values().filter(|times| **times > 1).count();
        println!(
            "{} answered 250: {} delivered, {} bounced, {} queued; {twice} delivered twice; put off: {:?}",
            accepted.len(),
            of(&|one| self.delivered.contains_key(&one.message_id)),
            of(&|one| self.bounced(one)),
            of(&|one| self.is_queued(one)),
            self.put_off,
        );
        assert!(self.delivered.values().all(|times| *times <= 2));
        assert!(twice <= IN_FLIGHT, "{twice} messages were delivered twice");
    }
}
