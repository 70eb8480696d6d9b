//! A web server of our own on loopback, with a certificate of our own authority, and what is said of
//! each of its answers.

use std::{convert::Infallible, net::Ipv4Addr};

use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::*;

const HOST: &str = "mta-sts.example.com";
const HERE: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
const POLICY: &str = "version: STSv1\nmode: none\nmax_age: 1\n";

/// An authority and what it issues.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)
            .unwrap();
        Arc::new(config).into()
    }
}

/// Answers every request in the same way.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
}

impl Answer {
    fn of(status: u16, kind: &'static [(&'static str, &'static str)], body: &str) -> Self {
        Self {
            status,
            headers: kind,
            body: body.into(),
        }
    }
}

const PLAIN: &[(&str, &str)] = &[("content-type", "text/plain")];

/// A server of its own for each test; the port, and the task to end.
async fn serve(acceptor: TlsAcceptor, answer: Answer) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(respond(&request, answer)) }
                });
                let connection = http1::Builder::new();
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (port, task)
}

fn respond(request: &Request<Incoming>, answer: Answer) -> Response<Full<Bytes>> {
    let asked = request
        .headers()
        .get("host")
        .is_some_and(|host| host == HOST);
    let found = asked && request.uri().path() == PATH;
    let mut response = Response::builder().status(if found { answer.status } else { 421 });
    for (name, value) in answer.headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(answer.body.into())).unwrap()
}

async fn fetched(
    authority: &Authority,
    acceptor: TlsAcceptor,
    answer: Answer,
) -> Result<String, Trouble> {
    let (port, server) = serve(acceptor, answer).await;
    let hosts = HttpsPolicyHosts::new(authority.roots(), port, Reach::Anywhere);
    let policy = hosts.policy(HOST, &HERE).await;
    server.abort();
    policy
}

#[tokio::test]
async fn table_of_answers() {
    let authority = Authority::new("ours");
    let large = "x".repeat(MAX_POLICY + 1);
    let kept = "x".repeat(MAX_POLICY);
    let unusable = |part: &'static str| Err((part, false));
    let unavailable = |part: &'static str| Err((part, true));
    type Expected<'a> = Result<&'a str, (&'static str, bool)>;
    let cases: [(Answer, Expected<'_>); 13] = [
        (Answer::of(200, PLAIN, POLICY), Ok(POLICY)),
        (
            Answer::of(
                200,
                &[("content-type", "Text/Plain; charset=utf-8")],
                POLICY,
            ),
            Ok(POLICY),
        ),
        (Answer::of(200, PLAIN, &kept), Ok(&kept)),
        (Answer::of(200, PLAIN, &large), unusable("64 KiB")),
        (
            Answer::of(200, &[("content-type", "text/html")], POLICY),
            unusable("Content-Type"),
        ),
        (Answer::of(200, &[], POLICY), unusable("Content-Type")),
        (
            Answer::of(301, &[("location", "https://mta-sts.example.com/x")], ""),
            unusable("redirect (301)"),
        ),
        (Answer::of(404, PLAIN, ""), unusable("answers 404")),
        (Answer::of(204, PLAIN, ""), unusable("answers 204")),
        (Answer::of(403, PLAIN, POLICY), unusable("answers 403")),
        (Answer::of(503, PLAIN, ""), unavailable("answers 503")),
        (Answer::of(429, PLAIN, ""), unavailable("answers 429")),
        (
            Answer {
                body: vec![0xff],
                ..Answer::of(200, PLAIN, "")
            },
            unusable("UTF-8"),
        ),
    ];
    for (answer, expected) in cases {
        let status = answer.status;
        let acceptor = authority.server(HOST, |_| {});
        match (fetched(&authority, acceptor, answer).await, expected) {
            (Ok(text), Ok(wanted)) => assert_eq!(text, wanted),
            (Err(Trouble::Unusable(what)), Err((part, false)))
            | (Err(Trouble::Unavailable(what)), Err((part, true))) => {
                assert!(what.contains(part), "{status}: {what}");
            }
            (seen, _) => panic!("{status}: {seen:?}, wanted {expected:?}"),
        }
    }
}

#[tokio::test]
async fn table_of_certificates() {
    type Change = fn(&mut CertificateParams);
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let cases: [(&Authority, &str, Change, &str); 4] = [
        (&ours, "mta-sts.example.org", |_| {}, "does not name it"),
        (&other, HOST, |_| {}, "no public authority has issued"),
        (
            &ours,
            HOST,
            |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            "has expired",
        ),
        (
            &ours,
            HOST,
            |params| params.not_before = rcgen::date_time_ymd(2100, 1, 1),
            "is not valid yet",
        ),
    ];
    for (issuer, name, change, part) in cases {
        let acceptor = issuer.server(name, change);
        let policy = fetched(&ours, acceptor, Answer::of(200, PLAIN, POLICY)).await;
        let Err(Trouble::Unusable(what)) = policy else {
            panic!("{part}: {policy:?}");
        };
        assert_eq!(what, format!("has a certificate that {part}"));
    }
    let wildcard = ours.server("*.example.com", |_| {});
    let policy = fetched(&ours, wildcard, Answer::of(200, PLAIN, POLICY)).await;
    assert_eq!(policy.unwrap(), POLICY);
}

#[tokio::test]
async fn who_does_not_answer_is_unknown() {
    let hosts = |port, reach| HttpsPolicyHosts::new(RootCertStore::empty(), port, reach);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    // Whoever connects is sent away.
    let rude = tokio::spawn(async move {
        while let Ok((mut stream, _)) = free.accept().await {
            let _ = stream.shutdown().await;
        }
    });
    let policy = hosts(port, Reach::Anywhere).policy(HOST, &HERE).await;
    let Err(Trouble::Unavailable(what)) = policy else {
        panic!("{policy:?}");
    };
    assert!(what.contains("before it has answered"), "{what}");
    rude.abort();
    let _ = rude.await;
    let policy = hosts(port, Reach::Anywhere).policy(HOST, &HERE).await;
    let Err(Trouble::Unavailable(what)) = policy else {
        panic!("{policy:?}");
    };
    assert!(what.contains(&format!("127.0.0.1 port {port}")), "{what}");
    let policy = hosts(port, Reach::World).policy(HOST, &HERE).await;
    let Err(Trouble::Unavailable(what)) = policy else {
        panic!("{policy:?}");
    };
    assert!(what.contains("nobody outside"), "{what}");
}

#[tokio::test]
async fn a_silent_host_is_not_waited_for_without_end() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let hosts = HttpsPolicyHosts::new(RootCertStore::empty(), port, Reach::Anywhere);
    let asked = tokio::spawn(async move { hosts.policy(HOST, &HERE).await });
    // It is connected before time is made to pass.
    let _kept = silent.accept().await.unwrap();
    tokio::time::pause();
    let Err(Trouble::Unavailable(what)) = asked.await.unwrap() else {
        panic!("an answer of a host that said nothing");
    };
    assert!(what.contains("within 10 s"), "{what}");
}

#[test]
fn table_of_addresses() {
    for (address, public) in [
        ("8.8.8.8", true),
        ("100.63.255.255", true),
        ("100.64.0.1", false),
        ("0.1.2.3", false),
        ("10.0.0.1", false),
        ("127.0.0.1", false),
        ("169.254.169.254", false),
        ("172.31.0.1", false),
        ("192.168.1.1", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("2606:4700::1", true),
        ("::1", false),
        ("::", false),
        ("fd00::1", false),
        ("fe80::1", false),
        ("ff02::1", false),
        ("::ffff:10.0.0.1", false),
        ("::ffff:8.8.8.8", true),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
    }
}
