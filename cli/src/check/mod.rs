//! `postrider check`: manifests against their schema and against live DNS, without a cluster.
//!
//! Flow: [`manifest`] reads files into documents, [`schema`] and [`rules`] judge each as an API
//! server would, [`references`] judges them together, [`dns`] asks the world about each SendingDomain
//! and [`pools`] about each RelayPool, through the operator's own code. All of it ends in one [`Report`], printed by
//! [`table`] and [`junit`].
//!
//! Promises: what cannot be known without a cluster is reported as not checked, never as passed.
//! Nothing is written anywhere, and no API server is spoken to.

mod dns;
mod junit;
mod manifest;
mod object;
mod pools;
mod references;
mod report;
mod rules;
mod schema;
mod table;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::{args::CheckOutput, error::Error};

pub(crate) use report::Report;

/// Port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// Checks the manifests at `paths` and asks `resolvers`, or those of the system, about them.
///
/// # Errors
///
/// When a path cannot be read or no resolver can be set up: then nothing is known.
pub(crate) async fn check(paths: &[PathBuf], resolvers: &[SocketAddr]) -> Result<Report, Error> {
    let read = manifest::read(paths)?;
    let mut items = read.problems;
    let definitions = rules::Definitions::new();
    let mut objects = Vec::new();
    for document in read.documents {
        match definitions.judge(document) {
            Ok(judged) => {
                items.push(judged.passed());
                objects.push(judged);
            }
            Err(problems) => items.extend(problems),
        }
    }
    items.extend(references::judge(&objects));
    items.extend(dns::verify(&objects, resolvers).await?);
    Ok(Report::new(items))
}

/// The report in the form asked for.
///
/// # Errors
///
/// When it cannot be written as JSON.
pub(crate) fn print(report: &Report, output: CheckOutput) -> Result<String, Error> {
    match output {
        CheckOutput::Table => Ok(table::table(report)),
        CheckOutput::Json => crate::json(report),
        CheckOutput::Junit => Ok(junit::junit(report)),
    }
}

/// A DNS server from the command line: `ADDRESS` or `ADDRESS:PORT`.
pub(crate) fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>();
    let bare = || {
        text.parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
    };
    address.or_else(|_| bare()).map_err(|_| {
        "is no IP address, with or without port; write 9.9.9.9 or [2620:fe::fe]:53".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_addresses_with_or_without_port() {
        assert_eq!(resolver("192.0.2.1").unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(
            resolver("2001:db8::1").unwrap().to_string(),
            "[2001:db8::1]:53"
        );
        assert_eq!(resolver("192.0.2.1:5353").unwrap().port(), 5353);
        assert!(resolver("dns.example.net").is_err());
    }
}
