//! From applied objects over published records to messages that independent judges find signed with
//! both keys, within SPF and passing DMARC, at two receivers: a scripted one, and a Postfix whose
//! OpenDKIM agrees.

use postrider_e2e::peers::{StopOnDrop, sink::Rules, stop};

use crate::{
    exchange::passes,
    support::{BOUND, Stage},
};

#[tokio::test]
async fn verified_domain_delivers_signed_mail() {
    let stage = Stage::start("journey", 10, Rules::default()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let _stop = StopOnDrop(directory.path().to_owned());
    let postfix = stage.postfix(directory.path(), 11).await;
    stage.ready_to_send().await;

    let sent = stage.send("ada", "A journey").await;
    let taken = stage.delivered(&sent).await;
    let verdicts = stage.judged(&[taken]).await;
    assert_eq!(verdicts.len(), 1);
    verdicts.iter().for_each(passes);

    let mut message = stage.message("ada", "Another");
    message.to = "ada@postfix-journey.example".to_owned();
    let sent = stage.client().await.send(&[message]).await;
    assert!(sent.expect("a session")[0].accepted);
    let arrived = postfix.wait_received("ada@postfix-journey.example", 1, BOUND);
    let arrived = arrived.await.expect("in time").remove(0);
    let opendkim = &arrived.authentication_results;
    assert!(
        opendkim.iter().any(|one| one.contains("dkim=pass")),
        "{arrived:?}"
    );
    assert!(
        !opendkim.iter().any(|one| one.contains("dkim=fail")),
        "{arrived:?}"
    );
    stop(directory.path()).await.expect("stopped");
    stage.finish().await;
}
