//! The sending domain: its records printed, published, and waited for.

use std::{path::Path, time::Duration};

use super::{Error, Ground, NAMESPACE, world};
use crate::{
    cluster::{self, Progress, command::Program, wait_for},
    product::Kubectl,
};

/// The SendingDomain of the examples.
const SENDING_DOMAIN: &str = "shop";
/// The RelayPool of the examples.
const RELAY_POOL: &str = "default";
/// How long it may take from published records to Ready: a check, the relays' load, a check.
const READY_BOUND: Duration = Duration::from_secs(180);
/// How long keys may take to be generated and shown, and a pool's look at its EHLO name.
const RECORDS_BOUND: Duration = Duration::from_secs(90);

/// Shows the records as `postrider records` prints them, publishes them in the local zone and
/// waits until the domain is Ready.
pub(crate) async fn publish(ground: &Ground, cli: &Path, progress: &Progress) -> Result<(), Error> {
    let kubectl = ground.kubectl();
    let object = ["sendingdomain", "-n", NAMESPACE, SENDING_DOMAIN];
    let log = "kubectl logs -n postrider-system deployment/postrider";
    let printed = wait_for(
        "the records of the domain",
        RECORDS_BOUND,
        log,
        async || {
            let condition = kubectl.condition(&object, "KeysReady").await?;
            Ok(condition.filter(|(status, _)| status == "True").map(drop))
        },
    );
    progress.step("keys generated", printed).await?;
    let ehlo = wait_for("a look at the EHLO name", RECORDS_BOUND, log, async || {
        let status = ehlo_verified(kubectl).await?;
        Ok((status != "Unknown").then_some(()))
    });
    progress.step("EHLO name looked up", ehlo).await?;
    println!("\n$ postrider records {SENDING_DOMAIN} -n {NAMESPACE}");
    println!("{}", records(cli, kubectl, "table").await?);

    let zone = world::sender_zone();
    let wanted = records(cli, kubectl, "zone").await?;
    let text = format!("{}{wanted}", zone.records());
    let published = ground.dns();
    progress
        .step(
            "records published in the zone shop.example",
            published.put_zone(zone.origin(), &text),
        )
        .await?;

    let ready = wait_for("a Ready SendingDomain", READY_BOUND, log, async || {
        let condition = kubectl.condition(&object, "Ready").await?;
        Ok(condition.filter(|(status, _)| status == "True").map(drop))
    });
    progress
        .step(
            "SPF, DKIM, DMARC and return path verified: domain Ready",
            ready,
        )
        .await?;
    let ehlo = wait_for("SPF of the EHLO name", RECORDS_BOUND, log, async || {
        let status = ehlo_verified(kubectl).await?;
        Ok((status == "True").then_some(()))
    });
    progress
        .step("SPF of the EHLO name verified, for bounces", ehlo)
        .await?;
    println!("\n$ kubectl get sendingdomains,relaypools,suppressionlists -n {NAMESPACE}");
    let kinds = "sendingdomains,relaypools,suppressionlists";
    println!("{}", kubectl.run(&["get", kinds, "-n", NAMESPACE]).await?);
    Ok(())
}

/// The status of the pool's condition about its EHLO name; `Unknown` while there is none.
async fn ehlo_verified(kubectl: &Kubectl) -> Result<String, cluster::Error> {
    let pool = ["relaypool", "-n", NAMESPACE, RELAY_POOL];
    let condition = kubectl.condition(&pool, "EHLOVerified").await?;
    Ok(condition.map_or_else(|| "Unknown".to_owned(), |(status, _)| status))
}

async fn records(cli: &Path, kubectl: &Kubectl, format: &str) -> Result<String, Error> {
    let arguments = [
        "records",
        SENDING_DOMAIN,
        "-n",
        NAMESPACE,
        "--format",
        format,
    ];
    let program = Program::new(cli)
        .env("KUBECONFIG", kubectl.kubeconfig())
        .args(arguments);
    Ok(program.output().await?)
}
