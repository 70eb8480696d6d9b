//! The records of a SendingDomain as Terraform resources.
//!
//! They are those of the provider hashicorp/dns, which updates any server that takes RFC 2136: the
//! one provider that belongs to no cloud. Names and texts are written out in full, so they are
//! copied into the resources of another provider as they stand.
//!
//! Promises: the text parses as HCL whatever a record holds, and no record's text is taken for a
//! template (`${`, `%{`).

use std::fmt::Write as _;

use postrider_crds::{RecordPurpose, RecordState, RecordStatus, RecordType};

use crate::{
    domain_records::{DomainRecords, verified},
    text::{counted, printable},
    zone::{TTL, preference_and_host},
};

/// The configuration.
pub(crate) fn configuration(domain: &DomainRecords) -> String {
    let mut out = String::new();
    let total = counted(domain.records.len(), "record");
    let verified = verified(&domain.records);
    comment(
        &mut out,
        &format!(
            "SendingDomain {}/{}: {}, {verified} of {total} verified",
            domain.namespace, domain.name, domain.domain
        ),
    );
    if let Some(caveat) = domain.caveat() {
        comment(&mut out, &caveat);
    }
    if domain.records.is_empty() {
        return out;
    }
    let _ = write!(
        out,
        "\nvariable \"zone\" {{\n  type        = string\n  default     = {}\n  description = \"The zone that holds the records, with the last dot.\"\n}}\n",
        quoted(&format!("{}.", domain.domain))
    );
    for record in domain.by_hand() {
        out.push('\n');
        resource(&mut out, record);
    }
    out
}

fn comment(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {}", printable(text));
}

fn resource(out: &mut String, record: &RecordStatus) {
    comment(out, &format!("{:?}: {:?}", record.purpose, record.state));
    if !record.message.is_empty() {
        comment(out, &record.message);
    }
    if matches!(record.state, RecordState::Mismatch | RecordState::Conflict) {
        let seen = record.seen.as_deref().unwrap_or_default();
        comment(out, &format!("replaces what is published: {seen}"));
    }
    let kind = match record.r#type {
        RecordType::TXT => "dns_txt_record_set",
        RecordType::MX => "dns_mx_record_set",
        RecordType::CNAME => "dns_cname_record",
        RecordType::A => "dns_a_record_set",
        RecordType::AAAA => "dns_aaaa_record_set",
        RecordType::PTR => "dns_ptr_record",
    };
    let name = record.name.trim_end_matches('.');
    let _ = write!(
        out,
        "resource \"{kind}\" \"{}\" {{\n  zone = var.zone\n  name = trimsuffix({}, format(\".%s\", trimsuffix(var.zone, \".\")))\n",
        label(record),
        quoted(name)
    );
    match record.r#type {
        RecordType::CNAME | RecordType::PTR => {
            let key = if record.r#type == RecordType::PTR {
                "ptr"
            } else {
                "cname"
            };
            let target = quoted(&format!("{}.", record.wanted.trim_end_matches('.')));
            let _ = writeln!(out, "  {key} = {target}");
        }
        RecordType::A | RecordType::AAAA => {
            let _ = writeln!(out, "  addresses = [{}]", quoted(&record.wanted));
        }
        RecordType::TXT => {
            let _ = writeln!(out, "  txt  = [{}]", quoted(&record.wanted));
        }
        RecordType::MX => {
            let (preference, host) = preference_and_host(&record.wanted);
            let host = quoted(&format!("{}.", host.trim_end_matches('.')));
            let _ = writeln!(
                out,
                "  mx {{\n    preference = {preference}\n    exchange   = {host}\n  }}"
            );
        }
    }
    let _ = writeln!(out, "  ttl  = {TTL}\n}}");
}

/// A name for the resource that stays the same as long as the record does.
fn label(record: &RecordStatus) -> String {
    let of_name = |kind: &str, name: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        format!("{kind}_{}", name.chars().map(plain).collect::<String>())
    };
    match record.purpose {
        RecordPurpose::SPF => "spf".to_owned(),
        RecordPurpose::DMARC => "dmarc".to_owned(),
        RecordPurpose::ReturnPath => "return_path".to_owned(),
        RecordPurpose::EHLO => "ehlo".to_owned(),
        RecordPurpose::DKIM => {
            let selector = record.name.split("._domainkey.").next();
            of_name("dkim", selector.unwrap_or_default())
        }
        // There is one for the domain and one for its return path.
        RecordPurpose::MTASTS => of_name("mta_sts", record.name.trim_start_matches("_mta-sts.")),
        RecordPurpose::TLSRPT => of_name("tls_rpt", record.name.trim_start_matches("_smtp._tls.")),
        RecordPurpose::PTR => of_name("ptr", &record.name),
    }
}

/// `text` as a quoted template without interpolation.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '{' if before == '$' || before == '%' => {
                // `$${` and `%%{` stand for themselves.
                out.push(before);
                out.push('{');
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
        before = c;
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use hcl::Body;

    use super::*;
    use crate::golden::{self, check};

    fn resources(text: &str) -> Body {
        let body: Body = hcl::parse(text).unwrap();
        body.into_blocks()
            .filter(|block| block.identifier() == "resource")
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    fn text(domain: &DomainRecords) -> String {
        configuration(domain)
    }

    #[test]
    fn configuration_of_a_domain() {
        check("records_terraform.tf", &text(&golden::shop()));
    }

    #[test]
    fn a_parser_of_others_reads_every_record_back() {
        let domain = golden::shop();
        let body = resources(&text(&domain));
        let blocks: Vec<_> = body.blocks().collect();
        assert_eq!(blocks.len(), domain.records.len());
        let texts: Vec<_> = blocks
            .iter()
            .filter_map(|block| {
                let attribute = block.body().attributes().find(|a| a.key() == "txt")?;
                let value: serde_json::Value =
                    hcl::from_str(&format!("v = {}", attribute.expr())).unwrap();
                value["v"][0].as_str().map(str::to_owned)
            })
            .collect();
        let wanted: Vec<_> = domain
            .records
            .iter()
            .filter(|r| r.r#type == RecordType::TXT)
            .map(|r| r.wanted.clone())
            .collect();
        assert_eq!(texts, wanted);
        let mx = blocks.last().unwrap().body().blocks().next().unwrap();
        assert_eq!(mx.identifier(), "mx");
    }

    #[test]
    fn foreign_text_is_no_template_and_leaves_no_string() {
        let mut domain = golden::shop();
        for record in &mut domain.records {
            record.wanted = "a\"b\\c${file(\"x\")}%{if}$${d}\nresource \"x\" \"y\" {}".into();
            record.message = "line\nresource \"x\" \"y\" {}".into();
        }
        let body = resources(&text(&domain));
        assert_eq!(body.blocks().count(), domain.records.len());
        assert!(body.blocks().all(|block| block.labels()[0].as_str() != "x"));
    }

    #[test]
    fn aliases_are_resources_of_their_own() {
        let mut domain = golden::shop();
        domain.records.truncate(1);
        domain.records[0].r#type = RecordType::CNAME;
        domain.records[0].wanted = "target.example.".into();
        let body = resources(&text(&domain));
        let block = body.blocks().next().unwrap();
        assert_eq!(block.labels()[0].as_str(), "dns_cname_record");
        let cname = block.body().attributes().find(|a| a.key() == "cname");
        assert_eq!(cname.unwrap().expr().to_string(), "\"target.example.\"");
    }

    #[test]
    fn a_fresh_domain_is_only_comments() {
        let text = text(&golden::fresh_shop());
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }
}
