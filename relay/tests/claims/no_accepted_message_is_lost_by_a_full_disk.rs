//! On a full or read-only volume nothing is promised, and what was promised before is kept.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Account, Load, Relay, Volume, World, domain};

/// Bytes of the volume: a little more than the relay wants free.
const VOLUME: u64 = 262 << 20;

/// A world whose spool is on a small volume; `None` where the tests that take one are left out.
async fn small_world() -> Option<World> {
    let mut world = World::new(vec![domain("example.com", Send)]).await;
    world.volume = Some(Volume::mount(&world.spool(), VOLUME).await?);
    Some(world)
}

/// Fills the volume under load; the relay says so and refuses.
async fn fill_up(world: &World, relay: &Relay, account: &mut Account, name: &str) {
    let load = Load::start(world, name).await;
    load.reaches(40).await;
    let volume = world.volume.as_ref().unwrap();
    volume.fill().await;
    account.promised(load.ended().await);
    relay.readyz_says(|status, _| status == 503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_has_room_again() {
    let Some(world) = small_world().await else {
        return;
    };
    let mut account = Account::default();
    let relay = world.relay().await;
    for round in 0..2 {
        fill_up(&world, &relay, &mut account, &format!("full-{round}")).await;
        world.volume.as_ref().unwrap().free().await;
        relay.ready().await;
    }
    world.drained().await;
    let (code, events) = relay.terminate().await;
    assert_eq!(code, Some(0));
    account.life_ended(&world, events).await;
    let figures = account.close(&world);
    assert_eq!(figures.duplicates, 0, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn even_when_the_relay_is_killed_on_it() {
    let Some(world) = small_world().await else {
        return;
    };
    let mut account = Account::default();
    let relay = world.relay().await;
    fill_up(&world, &relay, &mut account, "full").await;
    // Its log is left out: it says `delivered` of what it could not record.
    relay.kill().await;
    world.volume.as_ref().unwrap().free().await;
    let _relay = world.relay().await;
    world.drained().await;
    let figures = account.close(&world);
    eprintln!("killed on a full volume: {figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_by_a_read_only_one() {
    let Some(world) = small_world().await else {
        return;
    };
    let mut account = Account::default();
    let relay = world.relay().await;
    let load = Load::start(&world, "before").await;
    load.reaches(30).await;
    let events = relay.kill().await;
    account.promised(load.ended().await);
    account.life_ended(&world, events).await;
    let volume = world.volume.as_ref().unwrap();
    volume.remount("ro").await;
    assert_eq!(Relay::start(&world).await.exits().await, Some(1));
    volume.remount("rw").await;
    let _relay = world.relay().await;
    world.drained().await;
    account.close(&world);
}
