//! A key's Secret on a real API server: each step is written onto the version it was planned on and
//! onto no other, what is no longer said goes, and what is read back is what was written.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams};
use postrider_crds::relay_config::KeyAlgorithm;
use postrider_e2e::cluster::ApiServer;
use postrider_operator::{
    apply::{Outcome, Writer},
    error::Retry,
    keys::{DkimKey, KeyState, Life},
    sending_domain::key,
};

const ALGORITHM: KeyAlgorithm = KeyAlgorithm::Ed25519;

struct World {
    secrets: Api<Secret>,
    writer: Writer,
    _server: ApiServer,
}

impl World {
    async fn start() -> Self {
        let server = ApiServer::start().await.expect("an API server");
        let client: Client = server.client().await.expect("a client");
        Self {
            secrets: Api::namespaced(client.clone(), "default"),
            writer: Writer::new(client),
            _server: server,
        }
    }

    async fn read(&self) -> Secret {
        self.secrets.get("example-ed25519-1").await.expect("a key")
    }

    /// Writes `life` onto `secret` as it was read.
    async fn step(&self, secret: &Secret, life: &Life) -> Result<(), Retry> {
        let annotations = life.annotations();
        let written = self.writer.annotate_as_read(secret, &annotations).await;
        written.map_err(|error| error.retry())
    }
}

fn life(secret: &Secret) -> Life {
    DkimKey::try_from(secret).expect("a usable key").life
}

#[tokio::test]
async fn steps_are_written_once_whoever_is_faster() {
    let world = World::start().await;
    let list = world.secrets.list(&ListParams::default()).await;
    assert!(list.expect("secrets").items.is_empty());
    let made = DkimKey {
        secret: "example-ed25519-1".into(),
        sending_domain: "example".into(),
        selector: "pr-1".parse().expect("a selector"),
        algorithm: ALGORITHM,
        life: Life::new(Timestamp::UNIX_EPOCH, Some("2026-12-01".into())),
        private_key: key::generate(ALGORITHM).expect("a key").into(),
    };
    let mut secret = made.to_secret();
    secret.metadata.namespace = Some("default".into());
    world.writer.create(&secret).await.expect("created");
    let again = world.writer.create(&secret).await.expect_err("twice");
    assert_eq!(again.retry(), Retry::Soon);

    let first = world.read().await;
    let created = life(&first).since;
    assert!(
        created > Timestamp::UNIX_EPOCH,
        "the server's time is believed"
    );
    let now = created + SignedDuration::from_secs(5);
    let seen = Life {
        seen: Some(now),
        cached: 300,
        ..life(&first).at(KeyState::Published, now)
    };
    world.step(&first, &seen).await.expect("written");
    assert_eq!(life(&world.read().await), seen);

    // Another operator planned the same, or something else, on the version before.
    for late in [seen.clone(), life(&first).at(KeyState::Withdrawn, now)] {
        assert_eq!(world.step(&first, &late).await, Err(Retry::Soon));
    }
    let stale = world.writer.delete_as_read(&first).await;
    assert_eq!(stale.expect_err("changed since").retry(), Retry::Soon);
    assert_eq!(life(&world.read().await), seen);

    // The record is gone: its time goes from the Secret.
    let second = world.read().await;
    let unseen = Life { seen: None, ..seen };
    world.step(&second, &unseen).await.expect("written");
    assert_eq!(life(&world.read().await), unseen);

    // A person meddles; a step planned before does not undo it.
    let before = world.read().await;
    let outcome = world
        .writer
        .annotate(&before, "postrider.dev/key-state", "Active");
    assert_eq!(outcome.await.expect("written"), Outcome::Written);
    let active = life(&world.read().await);
    assert_eq!(active.state, KeyState::Published, "nothing bears it out");
    let step = world.step(&before, &unseen).await;
    assert_eq!(step, Err(Retry::Soon));

    let last = world.read().await;
    world.writer.delete_as_read(&last).await.expect("deleted");
    world
        .writer
        .delete_as_read(&last)
        .await
        .expect("gone already");
    let gone = world.step(&last, &unseen).await;
    assert!(gone.is_err(), "a deleted key takes no step");
}
