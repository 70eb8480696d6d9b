//! The application: it has a password and an SMTP client, nothing else.

use std::{collections::BTreeMap, path::Path, time::Duration};

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use serde_json::Value;

use super::{
    Error, Ground, NAMESPACE, is_early,
    messages::{FROM, Message, Sent},
};
use crate::{
    cluster::{Progress, error::OnPath as _, wait_for},
    peers::{Client, Reply, Submission, Tls},
    product::{Kubectl, root},
};

/// The Secret that the examples' SendingDomain names in `senders`.
const CREDENTIAL: &str = "shop-app";
/// How long the relays may take to accept mail.
const ACCEPTING_BOUND: Duration = Duration::from_secs(180);

/// Makes the credential, applies the examples, waits until the pool accepts mail, and returns a
/// client for it, which keeps the pool's authority in `directory`.
pub(crate) async fn apply_examples(
    ground: &Ground,
    directory: &Path,
    progress: &Progress,
) -> Result<Client, Error> {
    let kubectl = ground.kubectl();
    let password = credential(kubectl).await?;
    let examples = root().join("examples/demo").display().to_string();
    let arguments = ["apply", "--server-side", "-k", examples.as_str()];
    progress
        .step("examples/demo applied", kubectl.run(&arguments))
        .await?;
    ground.adapt().await?;
    let pool = ["relaypool", "-n", NAMESPACE, "default"];
    let log = format!("kubectl describe pods -n {NAMESPACE}");
    let ready = wait_for("a Ready RelayPool", ACCEPTING_BOUND, &log, async || {
        let condition = kubectl.condition(&pool, "Ready").await?;
        Ok(condition.filter(|(status, _)| status == "True").map(drop))
    });
    progress.step("two relays accept mail", ready).await?;
    client(ground, directory, password).await
}

/// Sends the messages that come before the domain is verified.
pub(crate) async fn too_early(
    client: &Client,
    all: &[Message],
    progress: &Progress,
) -> Result<Vec<Sent>, Error> {
    let early: Vec<Message> = all.iter().filter(|m| is_early(m)).cloned().collect();
    send(client, early, "1 message sent too early", progress).await
}

/// Sends the others.
pub(crate) async fn the_rest(
    client: &Client,
    all: &[Message],
    progress: &Progress,
) -> Result<Vec<Sent>, Error> {
    let rest: Vec<Message> = all.iter().filter(|m| !is_early(m)).cloned().collect();
    let step = format!("{} messages sent with smtplib", rest.len());
    send(client, rest, &step, progress).await
}

async fn send(
    client: &Client,
    messages: Vec<Message>,
    step: &str,
    progress: &Progress,
) -> Result<Vec<Sent>, Error> {
    let submissions: Vec<Submission> = messages.iter().map(submission).collect();
    let replies = client.send(&submissions).await?;
    progress.done(step);
    messages
        .into_iter()
        .zip(replies)
        .map(|(message, reply)| sent(message, reply))
        .collect()
}

fn submission(message: &Message) -> Submission {
    Submission {
        from: format!("Shop <{FROM}>"),
        to: message.to.clone(),
        subject: message.subject.clone(),
        body: "Thank you for your order.\n\n.A line that begins with a dot.\n".to_owned(),
        headers: BTreeMap::new(),
    }
}

fn sent(message: Message, reply: Reply) -> Result<Sent, Error> {
    match reply.id {
        Some(id) if reply.accepted => Ok(Sent { message, id }),
        _ => Err(Error::Unexpected {
            what: format!("the reply to {} for {}", reply.command, reply.to),
            found: format!("{} {}", reply.code, reply.reply),
            expected: "250 with the message's id",
        }),
    }
}

/// The password in the credential Secret, which is made if it is not there.
async fn credential(kubectl: &Kubectl) -> Result<String, Error> {
    let name = ["secret", "-n", NAMESPACE, CREDENTIAL];
    if let Some(secret) = kubectl.get(&name).await? {
        return data(&secret, "password");
    }
    let mut random = [0_u8; 24];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Unexpected {
        what: "the system's randomness".to_owned(),
        found: "none".to_owned(),
        expected: "24 octets",
    })?;
    let password = URL_SAFE_NO_PAD.encode(random);
    let (user, pass) = (
        format!("--from-literal=username={CREDENTIAL}"),
        format!("--from-literal=password={password}"),
    );
    let kind = "--type=kubernetes.io/basic-auth";
    kubectl
        .run(&[
            "create", "secret", "generic", CREDENTIAL, "-n", NAMESPACE, kind, &user, &pass,
        ])
        .await?;
    Ok(password)
}

/// A client that reaches the pool's Service from the machine and trusts the pool's CA.
async fn client(ground: &Ground, directory: &Path, password: String) -> Result<Client, Error> {
    let door = ground.door("default", 587).await?;
    let kubectl = ground.kubectl();
    let tls = kubectl
        .get(&["secret", "-n", NAMESPACE, "default-tls"])
        .await?
        .unwrap_or_default();
    let authority = data(&tls, "ca.crt")?;
    let file = directory.join("pool-ca.pem");
    std::fs::write(&file, authority).on("write", &file)?;
    Ok(Client {
        host: "default.mail.svc".to_owned(),
        address: Some(door.address),
        port: door.port,
        tls: Tls::StartTls,
        ca_file: Some(file),
        user: Some(CREDENTIAL.to_owned()),
        password,
    })
}

/// A key of a Secret as text.
fn data(secret: &Value, key: &str) -> Result<String, Error> {
    let found = secret
        .get("data")
        .and_then(|d| d.get(key))
        .and_then(Value::as_str);
    let bytes = found.and_then(|text| STANDARD.decode(text).ok());
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::Unexpected {
            what: format!("key {key} of a Secret"),
            found: found.unwrap_or("absent").to_owned(),
            expected: "text",
        })
}
