//! An operator that is told to stop gives its Lease up, so that the next one leads without waiting, and
//! ends well; one whose Lease somebody else has takes that as its end, and says so.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use postrider_e2e::{
    cluster::{ApiServer, wait_for},
    peers::loopback,
};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    crd_manifests::define,
    mail_world::BOUND,
    programs::{self, Running},
};

/// The Lease.
const LEASE: &str = "postrider-operator";
/// Last octets of the operators' addresses.
const HOSTS: [u8; 2] = [96, 97];
/// Longer than the test takes, in seconds.
const FOR_LONG: i32 = 3600;

#[tokio::test]
async fn and_the_next_one_leads() {
    let server = ApiServer::start().await.expect("an API server");
    let client = server.client().await.expect("a client");
    define(&client).await;
    let mut first = Operator::start(&server, "first", HOSTS[0]);
    first.leads(&client).await;
    first.process.signal(Signal::TERM);
    assert_eq!(first.exit_code().await, Some(0), "{}", first.log());
    // What was under way had ended within the time it has for that.
    assert!(!first.log().contains("cut off"), "{}", first.log());
    let given_up = lease(&client).await;
    assert_eq!(given_up.holder_identity.as_deref(), Some(""));

    let mut second = Operator::start(&server, "second", HOSTS[1]);
    second.leads(&client).await;
    assert_eq!(lease(&client).await.lease_transitions, Some(1));
    take(&client, "somebody else").await;
    assert_eq!(second.exit_code().await, Some(1), "{}", second.log());
    let log = second.log();
    assert!(log.contains("the lease was lost"), "{log}");
    let taken = lease(&client).await;
    assert_eq!(taken.holder_identity.as_deref(), Some("somebody else"));
}

/// An operator that stands for election.
struct Operator {
    name: &'static str,
    process: Running,
    log: PathBuf,
}

impl Operator {
    fn start(server: &ApiServer, name: &'static str, host: u8) -> Self {
        let log = server.dir().join(format!("{name}.log"));
        let process = Running::start(
            Command::new(programs::built("postrider-operator"))
                .args(["--relay-image=relay:1", "--watch-namespace=default"])
                // Nobody answers there.
                .args(["--resolver", "127.0.0.1:9"])
                .arg(format!("--metrics-address={}:9090", loopback(host)))
                .args(["--leader-elect", "--lease-namespace=default"])
                .args(["--identity", name])
                .env("KUBECONFIG", server.kubeconfig())
                // The log is read.
                .env("NO_COLOR", "1")
                .stderr(File::create(&log).expect("a log")),
        );
        Self { name, process, log }
    }

    /// Waits until it holds the Lease and works.
    async fn leads(&self, client: &Client) {
        let what = format!("the {} operator at work", self.name);
        let works = wait_for(&what, BOUND, "-", async || {
            Ok(self.log().contains("reconciling").then_some(()))
        });
        works
            .await
            .unwrap_or_else(|error| panic!("{error}; {}", self.log()));
        let holder = lease(client).await.holder_identity;
        assert_eq!(holder.as_deref(), Some(self.name));
    }

    /// Waits until it has ended by itself.
    async fn exit_code(&mut self) -> Option<i32> {
        let what = format!("the end of the {} operator", self.name);
        let ended = wait_for(&what, BOUND, "-", async || Ok(self.process.ended()));
        let ended = ended.await;
        ended
            .unwrap_or_else(|error| panic!("{error}; {}", self.log()))
            .code()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }
}

/// The Lease as it is.
async fn lease(client: &Client) -> LeaseSpec {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let lease = leases.get(LEASE).await.expect("a Lease");
    lease.spec.unwrap_or_default()
}

/// Makes `holder` hold the Lease, whoever does.
async fn take(client: &Client, holder: &str) {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let patch = json!({"spec": {"holderIdentity": holder, "leaseDurationSeconds": FOR_LONG}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    let taken = leases.patch(LEASE, &parameters, &patch).await;
    taken.expect("taken");
}
