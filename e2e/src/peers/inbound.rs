//! What a domain says of mail to it and what addresses are called, decided by software that is not
//! ours: checkdmarc, in `e2e/judge/inbound.py`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    Judge, Outcome,
    error::Error,
    judge::Nameserver,
    python::{Script, json_lines, parse_lines},
};

/// Something to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matter {
    /// The MTA-STS record of a domain (RFC 8461 section 3.1).
    MtaSts(String),
    /// The TLSRPT record of a domain (RFC 8460 section 3).
    TlsRpt(String),
    /// The text of an MTA-STS policy (RFC 8461 section 3.2).
    Policy(String),
    /// Whether the names of an address lead back to it (RFC 1912 section 2.1).
    Reverse(IpAddr),
}

/// What the judge says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ruling {
    /// In the words of RFC 8601: `None` where there is nothing.
    pub result: Outcome,
    /// Why, unless it passed.
    pub detail: String,
}

impl Judge {
    /// The ruling on each matter, in their order, as `nameserver` tells the world.
    ///
    /// # Errors
    /// When the judge does not run. A record that is wrong is a ruling, not an error.
    pub async fn rule(
        &self,
        nameserver: SocketAddr,
        matters: &[Matter],
    ) -> Result<Vec<Ruling>, Error> {
        let questions: Vec<_> = matters
            .iter()
            .map(|matter| Question::of(matter, nameserver))
            .collect();
        let input = json_lines(INBOUND, &questions)?;
        let output = self.python.run(INBOUND, &input).await?;
        parse_lines(INBOUND, &output, Some(matters.len()))
    }
}

/// A matter in the script's words.
#[derive(Serialize)]
struct Question {
    kind: &'static str,
    subject: String,
    nameserver: Nameserver,
}

impl Question {
    fn of(matter: &Matter, nameserver: SocketAddr) -> Self {
        let (kind, subject) = match matter {
            Matter::MtaSts(domain) => ("mta_sts", domain.clone()),
            Matter::TlsRpt(domain) => ("tls_rpt", domain.clone()),
            Matter::Policy(text) => ("policy", text.clone()),
            Matter::Reverse(address) => ("reverse", address.to_string()),
        };
        Self {
            kind,
            subject,
            nameserver: nameserver.into(),
        }
    }
}

const INBOUND: Script = Script {
    name: "inbound.py",
    text: include_str!("../../judge/inbound.py"),
};
