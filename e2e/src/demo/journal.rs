//! What the relays say happened: their event logs, gathered by message.

use std::collections::BTreeMap;

use serde_json::Value;

use super::NAMESPACE;
use crate::{cluster::Error, product::Kubectl};

/// The events of all relays, by message and in order of time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    events: BTreeMap<String, Vec<Value>>,
}

impl Journal {
    /// Reads the logs of all pods of the pool `default`.
    pub(crate) async fn read(kubectl: &Kubectl) -> Result<Self, Error> {
        let text = kubectl
            .run(&[
                "logs",
                "-n",
                NAMESPACE,
                "-l",
                "postrider.dev/pool=default",
                "--tail=-1",
            ])
            .await?;
        Ok(Self::parse(&text))
    }

    /// Takes the lines that are events; others are for people.
    pub(crate) fn parse(text: &str) -> Self {
        let mut journal = Self::default();
        for event in text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        {
            let (Some(id), Some(_)) = (field(&event, "id"), field(&event, "stage")) else {
                continue;
            };
            journal.events.entry(id.to_owned()).or_default().push(event);
        }
        for events in journal.events.values_mut() {
            events.sort_by(|a, b| field(a, "time").cmp(&field(b, "time")));
        }
        journal
    }

    /// The stages of a message, in order of time.
    pub(crate) fn stages(&self, id: &str) -> Vec<String> {
        let stage = |event: &Value| field(event, "stage").unwrap_or_default().to_owned();
        self.events
            .get(id)
            .into_iter()
            .flatten()
            .map(stage)
            .collect()
    }

    /// The stages for people: a deferral or bounce with its class, once each.
    pub(crate) fn told(&self, id: &str) -> String {
        let told = self.events.get(id).into_iter().flatten().map(|event| {
            let stage = field(event, "stage").unwrap_or_default();
            match field(event, "class") {
                Some(class) => format!("{stage} ({class})"),
                None => stage.to_owned(),
            }
        });
        told.collect::<Vec<_>>().join(" > ")
    }

    /// The notification a bounced message caused.
    pub(crate) fn notification(&self, id: &str) -> Option<&str> {
        let events = self.events.get(id)?;
        events.iter().find_map(|event| field(event, "notification"))
    }
}

fn field<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event.get(name).and_then(Value::as_str)
}
