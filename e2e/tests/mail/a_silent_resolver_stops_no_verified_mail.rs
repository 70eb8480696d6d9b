//! When DNS gives no answer, a verified domain becomes Unknown, with that as the reason, and its
//! mail goes on, signed; when DNS answers again, it is Ready again.

use postrider_e2e::peers::sink::Rules;
use serde_json::json;

use crate::{
    exchange::passes,
    kstatus::{Health, health},
    support::{DOMAIN, Stage},
};

#[tokio::test]
async fn a_silent_resolver_stops_no_verified_mail() {
    let stage = Stage::start("silent", 16, Rules::default()).await;
    stage.ready_to_send().await;
    let often = json!({"verification": {"interval": "5s"}});
    stage.apply(stage.sending_domain(often)).await;
    stage.current("SendingDomain", DOMAIN).await;

    stage.gate().silence(&stage.domain());
    let object = ("SendingDomain", DOMAIN);
    let said = stage
        .condition(object, "Ready", "Unknown", "DNSUnavailable")
        .await;
    println!("{said}");
    assert!(said.contains(&stage.domain()), "{said}");
    let domain = stage.get("SendingDomain", DOMAIN).await;
    assert_eq!(domain["status"]["admission"], "Send", "{domain:#}");
    assert_eq!(health(&domain), Health::InProgress, "{domain:#}");
    let sent = stage.send("ada", "Into the silence").await;
    let taken = stage.delivered(&sent).await;
    // The judges ask the name server itself, which answers.
    let verdicts = stage.judged(&[taken]).await;
    assert_eq!(verdicts.len(), 1);
    verdicts.iter().for_each(passes);

    stage.gate().speak(&stage.domain());
    stage.current("SendingDomain", DOMAIN).await;
    stage.finish().await;
}
