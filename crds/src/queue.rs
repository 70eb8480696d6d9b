//! What a relay's admin API says of its queue, and the orders an operator gives it about the mail
//! there. `docs/queue.md` says what each verb means.
//!
//! Promises: an [`Order`] names who gave it and why; one that lacks either, or that could be meant
//! for more mail than its author thinks, is refused by [`OrderRequest::check`] with the field, its
//! value and what to write instead.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DomainName, MessageId, relay_config::QueueReport};

/// Longest reason, tenant or author, in characters.
pub const MAX_TEXT: usize = 256;

/// Paths of the admin API.
pub mod paths {
    /// GET: [`super::QueueOverview`].
    pub const QUEUE: &str = "/v1/queue";
    /// POST [`super::OrderRequest`]: [`super::OrderAnswer`].
    pub const ORDERS: &str = "/v1/queue/orders";
}

/// What an operator does with queued mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Is not attempted and waits aside, until it is released.
    Hold,
    /// Ends a hold; a message that is released is not kept by any hold given before.
    Release,
    /// A destination or tenant is not attempted, for a while or until it is resumed.
    Suspend,
    /// Ends a suspension.
    Resume,
    /// What waits for its next attempt is due now.
    Flush,
    /// Is given up now, and its senders are told.
    Expire,
}

/// Which mail an order is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One message.
    Message(MessageId),
    /// A recipient domain.
    Domain(DomainName),
    /// The receivers that share limits.
    Site(SiteName),
    /// Whom messages are counted for.
    Tenant(String),
}

/// A site as it is named in an order: as events print it, or by any one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteName(String);

/// Why a text is no name of a site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "site {0:?} is not one host name or several with commas between; write it as the event log does, or one of its hosts, such as \"mx.example.com\""
)]
pub struct SiteNameError(String);

/// An order that is in force, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Names it within its relay; later ones have higher numbers.
    pub number: u64,
    /// What is done.
    pub verb: Verb,
    /// With what.
    #[serde(flatten)]
    pub scope: Scope,
    /// Who gave it.
    pub by: String,
    /// The name in the client certificate it came with.
    pub client: String,
    /// Why.
    pub reason: String,
    /// When.
    pub given: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What an operator asks for: a checked [`OrderRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub verb: Verb,
    /// With what.
    pub scope: Scope,
    /// Who asks.
    pub by: String,
    /// The name in the client certificate.
    pub client: String,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// The body of a POST to [`paths::ORDERS`]. Exactly one of `message`, `domain`, `site` and `tenant`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrderRequest {
    /// A [`Verb`].
    pub verb: String,
    /// A message id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A recipient domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// A [`SiteName`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// A tenant, as events name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Why; not empty.
    pub reason: String,
    /// Who asks; default: the name in the client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When a suspension ends by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderAnswer {
    /// The pod.
    pub pod: String,
    /// The order that is in force now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Orders it ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Order>,
    /// Messages it was about when it came.
    pub messages: u64,
}

/// A relay's queue in detail: `GET` of [`paths::QUEUE`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueOverview {
    /// The pod.
    pub pod: String,
    /// Messages by state.
    pub queue: QueueReport,
    /// Orders in force.
    pub orders: Vec<Order>,
    /// By site; a message counts at each of its recipient domains.
    pub sites: Breakdown,
    /// By recipient domain.
    pub domains: Breakdown,
    /// By tenant; a message counts once.
    pub tenants: Breakdown,
}

/// Depths by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breakdown {
    /// The deepest, deepest first.
    pub top: Vec<Depth>,
    /// Names that are left out.
    pub left_out: u64,
}

/// How much waits under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Depth {
    /// Site, domain or tenant; empty: sites that are not known yet.
    pub name: String,
    /// Waiting for a delivery slot or being attempted.
    pub due: u64,
    /// Waiting for their next attempt.
    pub deferred: u64,
    /// Kept back by a suspension.
    pub suspended: u64,
    /// Kept back by admission or a hold.
    pub held: u64,
    /// Seconds since the oldest was accepted.
    pub oldest_seconds: u64,
}

/// Why a request cannot be an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderProblem {
    /// No verb there is.
    #[error("verb {0:?} is unknown; use hold, release, suspend, resume, flush or expire")]
    Verb(String),
    /// Not one scope.
    #[error("{0}; give exactly one of message, domain, site and tenant")]
    Scope(String),
    /// A field with a value it cannot have.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// Value, problem and remedy.
        problem: String,
    },
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 6] = [
        Self::Hold,
        Self::Release,
        Self::Suspend,
        Self::Resume,
        Self::Flush,
        Self::Expire,
    ];

    /// The name in requests, answers and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Flush => "flush",
            Self::Expire => "expire",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = OrderProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|verb| verb.as_str() == text);
        found.ok_or_else(|| OrderProblem::Verb(text.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(id) => write!(f, "message {id}"),
            Self::Domain(domain) => write!(f, "domain {domain}"),
            Self::Site(site) => write!(f, "site {site}"),
            Self::Tenant(tenant) => write!(f, "tenant {tenant}"),
        }
    }
}

impl SiteName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the site that events print as `site` is meant.
    #[must_use]
    pub fn is_of(&self, site: &str) -> bool {
        site == self.0 || site.split(',').any(|host| host == self.0)
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SiteName {
    type Err = SiteNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text_of_host = |host: &str| {
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            (!host.is_empty() && host.chars().all(fits)).then_some(host)
        };
        let hosts: Option<Vec<String>> = text.split(',').map(text_of_host).collect();
        let hosts = hosts.ok_or_else(|| SiteNameError(text.to_owned()))?;
        Ok(Self(hosts.join(",")))
    }
}

impl TryFrom<String> for SiteName {
    type Error = SiteNameError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<SiteName> for String {
    fn from(site: SiteName) -> Self {
        site.0
    }
}

impl OrderRequest {
    /// The command, given by the holder of a certificate of the name `client`.
    ///
    /// # Errors
    ///
    /// Names the field, its value and the remedy.
    pub fn check(self, client: &str) -> Result<Command, OrderProblem> {
        let verb = Verb::from_str(&self.verb)?;
        let scope = self.scope()?;
        if matches!(
            (verb, &scope),
            (Verb::Suspend | Verb::Resume, Scope::Message(_))
        ) {
            return Err(field(
                "message",
                format!(
                    "one message cannot be told to {verb}; hold or release it, or {verb} its domain, site or tenant"
                ),
            ));
        }
        let until = match &self.until {
            None => None,
            Some(_) if verb != Verb::Suspend => {
                return Err(field(
                    "until",
                    format!("{verb} has no end of its own; leave it out"),
                ));
            }
            Some(text) => Some(text.parse().map_err(|_| {
                field(
                    "until",
                    format!(
                        "{text:?} is no time; write RFC 3339, such as \"2026-01-31T12:00:00Z\""
                    ),
                )
            })?),
        };
        let by = self.by.unwrap_or_else(|| client.to_owned());
        Ok(Command {
            verb,
            scope,
            by: told("by", &by, "who gives the order")?,
            client: client.to_owned(),
            reason: told("reason", &self.reason, "why the order is given")?,
            until,
        })
    }

    fn scope(&self) -> Result<Scope, OrderProblem> {
        let given = [
            ("message", &self.message),
            ("domain", &self.domain),
            ("site", &self.site),
            ("tenant", &self.tenant),
        ];
        let mut given = given
            .iter()
            .filter_map(|(name, value)| value.as_deref().map(|value| (*name, value)));
        let Some((name, value)) = given.next() else {
            return Err(OrderProblem::Scope("no mail is named".into()));
        };
        if let Some((other, second)) = given.next() {
            let both = format!("both {name} {value:?} and {other} {second:?} are named");
            return Err(OrderProblem::Scope(both));
        }
        let wrong = |problem: &dyn fmt::Display| field(name, problem.to_string());
        Ok(match name {
            "message" => Scope::Message(value.parse().map_err(|e| {
                wrong(&format!(
                    "{e}; copy it from an event or from the reply to the client"
                ))
            })?),
            "domain" => Scope::Domain(
                value
                    .parse()
                    .map_err(|e: crate::domain::DomainNameError| wrong(&e))?,
            ),
            "site" => Scope::Site(value.parse().map_err(|e: SiteNameError| wrong(&e))?),
            _ => Scope::Tenant(told("tenant", value, "the tenant as events name it")?),
        })
    }
}

/// A text that must say something, on one line.
fn told(name: &'static str, text: &str, what: &str) -> Result<String, OrderProblem> {
    let text = text.trim();
    if text.is_empty() {
        return Err(field(name, format!("{text:?} says nothing; write {what}")));
    }
    let length = text.chars().count();
    if length > MAX_TEXT {
        return Err(field(
            name,
            format!("{length} characters are more than {MAX_TEXT}; shorten it"),
        ));
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(field(
            name,
            format!("{c:?} in {text:?} is a control character; write one line of text"),
        ));
    }
    Ok(text.to_owned())
}

fn field(field: &'static str, problem: String) -> OrderProblem {
    OrderProblem::Field { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(verb: &str) -> OrderRequest {
        OrderRequest {
            verb: verb.into(),
            domain: Some("One.Test.".into()),
            reason: " INC-7 ".into(),
            ..OrderRequest::default()
        }
    }

    #[test]
    fn a_request_becomes_a_command_with_who_and_why() {
        let command = request("hold").check("operator").unwrap();
        assert_eq!(command.scope, Scope::Domain("one.test".parse().unwrap()));
        assert_eq!((&*command.by, &*command.client), ("operator", "operator"));
        assert_eq!((command.verb, &*command.reason), (Verb::Hold, "INC-7"));
        let mut named = request("suspend");
        named.by = Some("ann@example.net".into());
        named.until = Some("2026-01-31T12:00:00+01:00".into());
        let command = named.check("operator").unwrap();
        assert_eq!(
            (&*command.by, &*command.client),
            ("ann@example.net", "operator")
        );
        assert_eq!(command.until, "2026-01-31T11:00:00Z".parse().ok());
    }

    /// Makes one thing of a request not right.
    type Spoilt = fn(&mut OrderRequest);

    fn refused(spoil: Spoilt, parts: [&str; 2]) {
        let mut spoilt = request("hold");
        spoil(&mut spoilt);
        let problem = spoilt.check("operator").expect_err(parts[0]).to_string();
        for part in parts {
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn mail_that_is_not_named_once_is_refused_with_the_remedy() {
        let table: [(Spoilt, [&str; 2]); 6] = [
            (
                |r| r.domain = None,
                ["no mail is named", "exactly one of message"],
            ),
            (
                |r| r.site = Some("mx.x".into()),
                ["domain \"One.Test.\" and site \"mx.x\"", "exactly one"],
            ),
            (
                |r| r.domain = Some("nodots".into()),
                ["domain: domain name \"nodots\"", "write a lower-case"],
            ),
            (
                |r| (r.domain, r.message) = (None, Some("x1".into())),
                ["message: message id \"x1\"", "copy it from"],
            ),
            (
                |r| (r.domain, r.site) = (None, Some("a b".into())),
                ["site: site \"a b\"", "such as"],
            ),
            (
                |r| (r.domain, r.tenant) = (None, Some(" ".into())),
                ["tenant: \"\" says nothing", "write the tenant"],
            ),
        ];
        for (spoil, parts) in table {
            refused(spoil, parts);
        }
    }

    #[test]
    fn a_field_that_says_nothing_is_refused_with_the_remedy() {
        let table: [(Spoilt, [&str; 2]); 7] = [
            (
                |r| r.verb = "hodl".into(),
                ["verb \"hodl\"", "use hold, release"],
            ),
            (
                |r| r.reason = String::new(),
                ["reason: \"\" says nothing", "write why"],
            ),
            (
                |r| r.reason = "x".repeat(257),
                ["reason: 257 characters", "shorten it"],
            ),
            (
                |r| r.reason = "a\nb".into(),
                ["reason: '\\n' in", "one line"],
            ),
            (
                |r| r.by = Some(String::new()),
                ["by: \"\" says nothing", "write who"],
            ),
            (
                |r| r.until = Some("tomorrow".into()),
                ["until: hold has no end", "leave it out"],
            ),
            (
                |r| (r.verb, r.until) = ("suspend".into(), Some("tomorrow".into())),
                ["until: \"tomorrow\" is no time", "write RFC 3339"],
            ),
        ];
        for (spoil, parts) in table {
            refused(spoil, parts);
        }
    }

    #[test]
    fn one_message_is_held_and_not_suspended() {
        for verb in ["suspend", "resume"] {
            let one = OrderRequest {
                domain: None,
                message: Some("00000000000000000000000007".into()),
                ..request(verb)
            };
            let problem = one.check("operator").expect_err(verb).to_string();
            assert!(problem.contains("message: one message") && problem.contains("its domain"));
        }
    }

    #[test]
    fn a_site_is_named_whole_or_by_one_of_its_hosts() {
        let printed = "mx1.example.org,mx2.example.org";
        for (name, is_meant) in [
            (printed, true),
            ("MX2.example.org.", true),
            ("example.org", false),
            ("mx2.example.org,mx1.example.org", false),
        ] {
            let name: SiteName = name.parse().unwrap();
            assert_eq!(name.is_of(printed), is_meant, "{name}");
        }
        for text in ["", "mx1.example.org,", "mx 1", "m\u{e9}"] {
            assert!(text.parse::<SiteName>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_order_is_flat_json_and_comes_back() {
        let order = Order {
            number: 3,
            verb: Verb::Suspend,
            scope: Scope::Site("mx.example.org".parse().unwrap()),
            by: "ann".into(),
            client: "postrider-operator".into(),
            reason: "INC-7".into(),
            given: "2026-01-01T00:00:00Z".parse().unwrap(),
            until: "2026-01-01T01:00:00Z".parse().ok(),
        };
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(
            text,
            "{\"number\":3,\"verb\":\"suspend\",\"site\":\"mx.example.org\",\"by\":\"ann\",\
             \"client\":\"postrider-operator\",\"reason\":\"INC-7\",\
             \"given\":\"2026-01-01T00:00:00Z\",\"until\":\"2026-01-01T01:00:00Z\"}"
        );
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }
}
