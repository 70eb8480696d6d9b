//! What DNS says of the domains that answers to a SendingDomain's mail go to: replies to the domain
//! itself, notifications, which quote the mail, to its return path. MTA-STS and TLSRPT protect mail
//! to a domain, and a policy of a parent does not hold for what is below it (RFC 8461 §3.4), so both
//! are looked at.

use futures::future;
use postrider_crds::{DomainName, Requirement, SendingDomainSpec};

use crate::dns::{Addressee, Finding, PolicyHosts, Resolver, mta_sts, return_path, tls_rpt};

/// A finding for each domain that takes mail.
pub type Looked = Vec<(DomainName, Finding)>;

/// What DNS says; `None`: not looked, because it is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// MTA-STS.
    pub mta_sts: Option<Looked>,
    /// Where reports about TLS go.
    pub tls_rpt: Option<Looked>,
}

/// Asks about what `spec` asks for; `hostname` is that of the pool, if it exists.
pub(super) async fn look(
    resolver: &dyn Resolver,
    policies: &dyn PolicyHosts,
    spec: &SendingDomainSpec,
    hostname: Option<&str>,
) -> Answers {
    let pool = hostname.map(return_path::pool_host);
    let return_path = spec.return_path_domain();
    let own = Addressee {
        domain: &spec.domain,
        exchange: None,
    };
    let bounces = Addressee {
        domain: &return_path,
        exchange: pool.as_deref(),
    };
    let mta_sts = async {
        let asked = spec.verification.mta_sts != Requirement::Off;
        let looks = [own, bounces].map(|addressee| mta_sts::check(resolver, policies, addressee));
        match asked {
            true => Some(looked([own, bounces], future::join_all(looks).await)),
            false => None,
        }
    };
    let tls_rpt = async {
        let asked = spec.verification.tls_rpt != Requirement::Off;
        let looks = [own, bounces].map(|addressee| tls_rpt::check(resolver, addressee));
        match asked {
            true => Some(looked([own, bounces], future::join_all(looks).await)),
            false => None,
        }
    };
    let (mta_sts, tls_rpt) = future::join(mta_sts, tls_rpt).await;
    Answers { mta_sts, tls_rpt }
}

fn looked(of: [Addressee<'_>; 2], found: Vec<Option<Finding>>) -> Looked {
    let found = of.into_iter().zip(found);
    found
        .filter_map(|(addressee, finding)| Some((addressee.domain.clone(), finding?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use postrider_crds::RecordState::{Missing, Verified};

    use super::*;
    use crate::dns::fake::{FakePolicies, FakeResolver};

    fn spec(mta_sts: &str, tls_rpt: &str) -> SendingDomainSpec {
        serde_json::from_value(serde_json::json!({
            "domain": "example.com", "poolRef": {"name": "default"},
            "verification": {"mtaSts": mta_sts, "tlsRpt": tls_rpt},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn both_domains_are_asked_about_and_only_when_it_is_asked_for() {
        let resolver = FakeResolver::default()
            .with_mx("example.com", &[(10, "mx.example.net")])
            .with_txt(
                "_smtp._tls.example.com",
                &["v=TLSRPTv1; rua=mailto:r@example.com"],
            );
        let policies = FakePolicies::default();
        let hostname = Some("mail-{ordinal}.example.net");
        let looked = async |spec| look(&resolver, &policies, &spec, hostname).await;
        assert_eq!(looked(spec("Skip", "Skip")).await, Answers::default());
        let Answers { mta_sts, tls_rpt } = looked(spec("Warn", "Required")).await;
        let told = |looked: Option<Looked>| -> Vec<_> {
            let looked = looked.unwrap().into_iter();
            looked
                .map(|(domain, finding)| (domain.to_string(), finding.state))
                .collect()
        };
        // The return path has no MX yet; it is going to be the pool.
        let bounces = "bounce.example.com".to_owned();
        assert!(
            mta_sts.as_ref().unwrap()[1]
                .1
                .message
                .contains("mx: mail.example.net")
        );
        assert_eq!(
            told(mta_sts),
            [("example.com".into(), Missing), (bounces.clone(), Missing)]
        );
        assert_eq!(
            told(tls_rpt),
            [("example.com".into(), Verified), (bounces, Missing)]
        );
        let nobody = FakeResolver::default();
        let found = look(&nobody, &policies, &spec("Warn", "Skip"), None).await;
        assert_eq!(found.mta_sts, Some(Vec::new()));
    }
}
