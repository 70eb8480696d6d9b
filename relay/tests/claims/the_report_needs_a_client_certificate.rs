//! The admin API answers those with a certificate of the admin CA and nobody else.

use postrider_crds::{
    digest,
    relay_config::{Admission::Send, Document as _, layout},
};

use crate::support::{World, domain, get, get_report};

#[tokio::test]
async fn of_the_admin_ca() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let other = World::new(Vec::new()).await;
    let _relay = world.relay().await;
    assert!(get_report(&world, None).await.is_none());
    let foreign = other.certificate("operator.example");
    assert!(get_report(&world, Some(foreign)).await.is_none());

    let own = world.certificate("operator.example");
    let (status, report) = get_report(&world, Some(own)).await.unwrap();
    assert_eq!(status, 200);
    let written = digest::of(world.relay_config.to_yaml().as_bytes());
    assert_eq!(report.documents[layout::RELAY_CONFIG], written);
    let (status, body) = get(world.address, "/v1/report").await.unwrap();
    assert_eq!(status, 404, "{body}");
}

#[tokio::test]
async fn and_follows_a_new_certificate() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let before = world.report().await.documents;
    let (certificate, key) = world.certificate("mail.example.net");
    world.write(layout::ADMIN_CERTIFICATE, &certificate);
    world.write(layout::ADMIN_KEY, &key);
    let expected = digest::of(certificate.as_bytes());
    let report = world
        .report_where(|report| report.documents[layout::ADMIN_CERTIFICATE] == expected)
        .await;
    assert_ne!(report.documents, before);
    assert_eq!(report.not_ready, None);
}
