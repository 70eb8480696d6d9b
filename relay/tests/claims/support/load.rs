//! Submissions by several clients at once, and the account of them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use super::{Client, World, message, within};

/// Clients at a time.
const CLIENTS: usize = 4;

/// Load that runs until the relay is gone.
pub(crate) struct Load {
    clients: JoinSet<()>,
    accepted: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
    moved: Arc<tokio::sync::Notify>,
}

impl Load {
    /// Starts clients that submit one message after the other; subjects begin with `name`.
    pub(crate) async fn start(world: &World, name: &str) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            accepted: Arc::default(),
            count: Arc::default(),
            moved: Arc::default(),
        };
        for number in 0..CLIENTS {
            let client = Client::login(world, "ann").await;
            let name = format!("{name}-{number}");
            let (accepted, count) = (Arc::clone(&load.accepted), Arc::clone(&load.count));
            let moved = Arc::clone(&load.moved);
            load.clients.spawn(async move {
                submit_all(client, &name, |subject| {
                    accepted.lock().unwrap().push(subject);
                    count.fetch_add(1, Ordering::SeqCst);
                    moved.notify_one();
                })
                .await;
            });
        }
        load
    }

    /// Waits until `count` messages were answered 250.
    pub(crate) async fn reaches(&self, count: usize) {
        within("accepted messages", async {
            while self.count.load(Ordering::SeqCst) < count {
                self.moved.notified().await;
            }
        })
        .await;
    }

    /// Waits until the clients have noticed that the relay is gone; gives the subjects of what was
    /// answered 250.
    pub(crate) async fn ended(mut self) -> Vec<String> {
        within("the clients", async {
            while self.clients.join_next().await.is_some() {}
        })
        .await;
        self.accepted.lock().unwrap().clone()
    }
}

/// Submits until there is no 250 any more. Every fifth recipient greylists, every seventh is
/// unknown.
async fn submit_all(mut client: Client, name: &str, accepted: impl Fn(String)) {
    for number in 0_usize.. {
        let subject = format!("{name}-{number}.");
        let recipient = match (number % 5, number % 7) {
            (_, 3) => format!("unknown-{subject}x@receiver.example"),
            (1, _) => format!("grey-{subject}x@receiver.example"),
            _ => format!("good-{subject}x@receiver.example"),
        };
        let text = message("ann@example.com", &subject);
        let reply = client.submit("ann@example.com", &[&recipient], &text).await;
        if !reply.starts_with("250") {
            return;
        }
        accepted(subject);
    }
}

/// Waits until each message has arrived, or its sender has been told that it did not.
pub(crate) async fn all_arrive(world: &World, subjects: &[String]) {
    for subject in subjects {
        let wanted = format!("Subject: {subject}\r\n");
        world.sink.wait(subject, |m| m.data.contains(&wanted)).await;
    }
}
