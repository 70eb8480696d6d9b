//! Submissions by several clients at once, and the account of them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use super::{Client, Promise, World, message, within};

/// Clients at a time.
const CLIENTS: usize = 4;

/// Load that runs until the relay is gone.
pub(crate) struct Load {
    clients: JoinSet<()>,
    accepted: Arc<Mutex<Vec<Promise>>>,
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
                submit_all(client, &name, |promise| {
                    accepted.lock().unwrap().push(promise);
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

    /// Waits until the clients have been refused or have noticed that the relay is gone; gives what
    /// was answered 250.
    pub(crate) async fn ended(mut self) -> Vec<Promise> {
        within("the clients", async {
            while self.clients.join_next().await.is_some() {}
        })
        .await;
        self.accepted.lock().unwrap().clone()
    }
}

/// Submits until there is no 250 any more. Every fifth recipient greylists, every seventh is
/// unknown, every third message has a second one at another domain.
async fn submit_all(mut client: Client, name: &str, accepted: impl Fn(Promise)) {
    for number in 0_usize.. {
        let subject = format!("{name}-{number}.");
        let mut recipients = vec![match (number % 5, number % 7) {
            (_, 3) => format!("unknown-{subject}x@receiver.example"),
            (1, _) => format!("grey-{subject}x@receiver.example"),
            _ => format!("good-{subject}x@receiver.example"),
        }];
        if number % 3 == 0 {
            recipients.push(format!("good-{subject}x@other.example"));
        }
        let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let text = message("ann@example.com", &subject);
        let reply = client.submit("ann@example.com", &to, &text).await;
        if !reply.starts_with("250") {
            return;
        }
        accepted(Promise {
            subject,
            recipients,
        });
    }
}
