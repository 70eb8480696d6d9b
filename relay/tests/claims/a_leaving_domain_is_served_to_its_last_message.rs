//! A domain that is being deleted takes no more mail. What it has goes on being sent and signed, and
//! the report counts it to the last message, over a crash too.

use postrider_crds::{
    DomainName,
    relay_config::{
        Admission::{Hold, Send},
        Intake,
    },
};

use crate::support::{Client, World, domain, message};

const FROM: &str = "ann@leaving.example";
const TO: [&str; 1] = ["a@receiver.example"];

#[tokio::test]
async fn and_counted_until_then() {
    let mut leaving = domain("leaving.example", Hold);
    let staying = domain("example.com", Send);
    let name: DomainName = leaving.domain.clone();
    let world = World::new(vec![leaving.clone(), staying.clone()]).await;
    let relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    for subject in ["one", "two"] {
        let text = message(FROM, subject);
        let id = client.accepted(FROM, &TO, &text).await;
        relay.events.of("held", &id).await;
    }
    assert!(world.report().await.remaining.is_empty(), "none is leaving");

    leaving.intake = Intake::Closed;
    world.write_domains(vec![leaving.clone(), staying.clone()]);
    let counts = |wanted| {
        let name = name.clone();
        move |report: &postrider_crds::relay_config::Report| {
            report.remaining.get(&name) == Some(&wanted) && report.remaining.len() == 1
        }
    };
    world.report_where(counts(2)).await;
    let reply = client.submit(FROM, &TO, &message(FROM, "late")).await;
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    assert!(
        reply.contains("leaving.example takes no more mail"),
        "{reply}"
    );
    let other = message("ann@example.com", "another's");
    client.accepted("ann@example.com", &TO, &other).await;
    relay.kill().await;

    let _relay = world.relay().await;
    world.report_where(counts(2)).await;
    leaving.admission = Send;
    world.write_domains(vec![leaving, staying]);
    world.report_where(counts(0)).await;
    for subject in ["one", "two"] {
        let wanted = format!("Subject: {subject}");
        let got = world
            .sink
            .wait(subject, move |mail| mail.data.contains(&wanted))
            .await;
        let signatures = got.data.matches("DKIM-Signature:").count();
        assert_eq!(signatures, 2, "{}", got.data);
    }
}
