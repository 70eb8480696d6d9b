//! What the demo stands on: a cluster of its own, or one of the user's that `E2E_KUBECONFIG` names.
//!
//! The demo asks of either the same few things: an API, a way to load images, a name server and
//! two addresses on this machine that pods reach, and a way from this machine to a Service. Its
//! own cluster has them all. Of the user's it cannot know them, so they are asked for:
//!
//! * `E2E_ADDRESSES`: two addresses of this machine that pods reach, separated by a comma, with
//!   ports 25 and 53 free. The name server and the receivers listen there.
//! * `E2E_EGRESS`: the address or range (CIDR) that pods' mail comes from as this machine sees it.
//! * `E2E_LOAD_IMAGE`: a command that loads an OCI archive, whose path is added as its last
//!   argument, into the cluster: `kind load image-archive` and the like.
//!
//! Guarantees: on the user's cluster nothing is touched but the release `postrider` in its
//! namespace, the definitions, and the namespace of the examples, which is deleted only if the demo
//! made it.

use std::{
    env,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{Error, NAMESPACE};
use crate::{
    cluster::{
        self, Archive, Cache, Cluster, Dns, KUBECONFIG_VARIABLE, Progress, StateDir, Tools,
        command::Program,
        daemon::{Daemon, Enclosed, Spec},
        etcd::free_port,
        receivers,
    },
    peers,
    product::Kubectl,
};

/// Two addresses of this machine.
const ADDRESSES: &str = "E2E_ADDRESSES";
/// Where pods' mail comes from.
const EGRESS: &str = "E2E_EGRESS";
/// The command that loads an image.
const LOAD_IMAGE: &str = "E2E_LOAD_IMAGE";
/// The label that marks the namespace as the demo's.
const MARK: &str = "postrider.dev/demo";
/// The state of the name server, and that of the way to the Service, beside the receivers'.
pub(super) const PROCESSES: [&str; 2] = ["nameserver", "forward"];
/// How long the way to the Service may take to open.
const FORWARD_BOUND: Duration = Duration::from_secs(30);

/// A cluster, with what the demo needs around it.
#[derive(Debug)]
pub(crate) struct Ground {
    kubectl: Kubectl,
    tools: Tools,
    dns: Dns,
    addresses: [IpAddr; 2],
    peers: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Own(Cluster),
    Users(Users),
}

/// What only the user knows of their cluster.
#[derive(Debug)]
struct Users {
    egress: String,
    load_image: Vec<String>,
}

/// Where clients on this machine reach a Service.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The address.
    pub(crate) address: String,
    /// The port.
    pub(crate) port: u16,
}

impl Ground {
    /// The user's cluster if they name one, else the demo's own of `directory`, brought up.
    /// Processes of the demo keep their state in `peers`.
    pub(crate) async fn find(
        directory: &Path,
        peers: &Path,
        progress: &Progress,
    ) -> Result<Self, Error> {
        match users_kubeconfig() {
            Some(kubeconfig) => Self::users(kubeconfig, peers, progress).await,
            None => Self::own(directory, peers, progress).await,
        }
    }

    async fn own(directory: &Path, peers: &Path, progress: &Progress) -> Result<Self, Error> {
        let mut addresses = receivers().map(IpAddr::V4);
        let (first, second) = (addresses.next(), addresses.next());
        let (Some(first), Some(second)) = (first, second) else {
            let remedy = "the bridge has no address left for a receiver";
            return Err(usage("receivers", "", remedy));
        };
        let cluster = Cluster::up(directory, progress).await?;
        Ok(Self {
            kubectl: Kubectl::of(&cluster),
            tools: cluster.tools().clone(),
            dns: cluster.dns(),
            addresses: [first, second],
            peers: peers.to_owned(),
            kind: Kind::Own(cluster),
        })
    }

    async fn users(kubeconfig: PathBuf, peers: &Path, progress: &Progress) -> Result<Self, Error> {
        println!(
            "{KUBECONFIG_VARIABLE} is set: your cluster of {} is used",
            kubeconfig.display()
        );
        let [first, second] = addresses(&asked(
            ADDRESSES,
            "set it to two addresses of this machine that pods of your cluster reach, separated by \
             a comma; the demo's name server and receivers listen there on ports 53 and 25",
        )?)?;
        let egress = asked(
            EGRESS,
            "set it to the address or range (CIDR, at most 256 addresses) that mail of your pods \
             comes from as this machine sees it; SPF is verified for it",
        )?;
        let load_image = asked(
            LOAD_IMAGE,
            "set it to a command that loads an OCI archive into your cluster, such as \"kind load \
             image-archive\"; the archive's path is added to it",
        )?;
        let tools = Tools::ready(&Cache::of_user()?, progress).await?;
        let kubectl = Kubectl::new(tools.kubectl(), kubeconfig);
        kubectl.run(&["version"]).await?;
        let state = StateDir::new(&peers.join("nameserver"))?;
        peers::stop(state.path()).await?;
        let dns = Dns::alone(&state, tools.coredns(), first).await?;
        Ok(Self {
            kubectl,
            tools,
            dns,
            addresses: [first.into(), second.into()],
            peers: peers.to_owned(),
            kind: Kind::Users(Users {
                egress,
                load_image: load_image.split_whitespace().map(str::to_owned).collect(),
            }),
        })
    }

    /// The cluster as a person sees it.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Programs for it.
    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The name server with the test zones.
    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Where receivers may listen on port 25.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        self.addresses
    }

    /// Puts an image into the cluster.
    pub(crate) async fn load(&self, image: &Archive) -> Result<(), cluster::Error> {
        let users = match &self.kind {
            Kind::Own(cluster) => return cluster.load_image(image).await,
            Kind::Users(users) => users,
        };
        let state = StateDir::new(&self.peers.join("images"))?;
        let file = image.name().replace(['/', ':'], "_");
        let archive = state.make("")?.join(format!("{file}.tar"));
        image.write(&archive).await?;
        let (program, args) = users.load_image.split_first().unzip();
        let program = program.map_or("", String::as_str);
        Program::new(program)
            .args(args.into_iter().flatten())
            .args([&archive])
            .run()
            .await
    }

    /// Deletes the namespace of an earlier run. One of the user's cluster that the demo did not
    /// make is refused.
    pub(crate) async fn begin(&self) -> Result<(), Error> {
        let namespace = self.kubectl.get(&["namespace", NAMESPACE]).await?;
        let mark = namespace.map(|one| one.pointer("/metadata/labels").cloned());
        let marked = |labels: &Option<Value>| labels.as_ref().and_then(|l| l.get(MARK)).is_some();
        match (&self.kind, mark) {
            (_, None) => {}
            (Kind::Users(_), Some(labels)) if !marked(&labels) => {
                let remedy = "your cluster has this namespace and the demo did not make it; delete \
                              it, or use another cluster";
                return Err(usage("namespace", NAMESPACE, remedy));
            }
            (_, Some(_)) => {
                let delete = ["delete", "namespace", NAMESPACE, "--timeout=90s"];
                self.kubectl.run(&delete).await?;
            }
        }
        self.kubectl
            .run(&["create", "namespace", NAMESPACE])
            .await?;
        let label = ["label", "namespace", NAMESPACE, &format!("{MARK}=true")];
        self.kubectl.run(&label).await?;
        Ok(())
    }

    /// Makes the examples' pool say where mail leaves from in this cluster.
    pub(crate) async fn adapt(&self) -> Result<(), Error> {
        let Kind::Users(users) = &self.kind else {
            return Ok(());
        };
        let egress = serde_json::json!({"spec": {"egress": {"addresses": [users.egress]}}});
        let patch = egress.to_string();
        let pool = ["patch", "relaypool", "-n", NAMESPACE, "default"];
        let args = [&pool[..], &["--type=merge", "-p", &patch]].concat();
        self.kubectl.run(&args).await?;
        Ok(())
    }

    /// The way from this machine to port `port` of the Service `name`: its cluster IP, which leads
    /// there in the demo's own cluster, else a forwarded port.
    pub(crate) async fn door(&self, name: &str, port: u16) -> Result<Door, Error> {
        if let Kind::Own(_) = &self.kind {
            let service = ["service", "-n", NAMESPACE, name];
            let service = self.kubectl.get(&service).await?.unwrap_or_default();
            let address = service.pointer("/spec/clusterIP").and_then(Value::as_str);
            let address = address.unwrap_or_default().to_owned();
            return Ok(Door { address, port });
        }
        let state = StateDir::new(&self.peers.join("forward"))?;
        peers::stop(state.path()).await?;
        let local = free_port()?;
        let args = [
            "port-forward".to_owned(),
            format!("--namespace={NAMESPACE}"),
            format!("service/{name}"),
            format!("{local}:{port}"),
        ];
        let spec = Spec {
            name: "port-forward".to_owned(),
            program: self.kubectl.program().to_owned(),
            args: args.to_vec(),
            env: vec![(
                "KUBECONFIG".to_owned(),
                self.kubectl.kubeconfig().display().to_string(),
            )],
            enclosed: Enclosed::No,
        };
        let forward = Daemon::start(&state, &spec)?;
        let address = (Ipv4Addr::LOCALHOST, local);
        let open = async || tokio::net::TcpStream::connect(address).await.is_ok();
        let what = format!("a way to service {name}");
        forward.wait_until(&what, FORWARD_BOUND, open).await?;
        Ok(Door {
            address: Ipv4Addr::LOCALHOST.to_string(),
            port: local,
        })
    }
}

/// Takes the demo out of the user's cluster, as far as it is there; the definitions stay, as the
/// chart has it. False: it is not on one.
pub(crate) async fn leave_users() -> Result<bool, Error> {
    let Some(kubeconfig) = users_kubeconfig() else {
        return Ok(false);
    };
    let tools = Tools::ready(&Cache::of_user()?, &Progress::nowhere()).await?;
    let kubectl = Kubectl::new(tools.kubectl(), kubeconfig);
    let marked = format!("--selector={MARK}");
    kubectl.run(&["delete", "namespace", &marked]).await?;
    let namespace = ["--namespace", crate::product::OPERATOR_NAMESPACE];
    Program::new(tools.helm())
        .env("KUBECONFIG", kubectl.kubeconfig())
        .args(["uninstall", crate::product::RELEASE, "--ignore-not-found"])
        .args(namespace)
        .run()
        .await?;
    Ok(true)
}

fn users_kubeconfig() -> Option<PathBuf> {
    let path = env::var_os(KUBECONFIG_VARIABLE).filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// A variable that has to be set; `remedy` says to what.
fn asked(name: &'static str, remedy: &str) -> Result<String, Error> {
    let value = env::var(name).unwrap_or_default();
    if value.trim().is_empty() {
        return Err(usage(name, &value, remedy));
    }
    Ok(value.trim().to_owned())
}

fn addresses(value: &str) -> Result<[Ipv4Addr; 2], Error> {
    let parsed: Result<Vec<Ipv4Addr>, _> =
        value.split(',').map(|part| part.trim().parse()).collect();
    match parsed.as_deref() {
        Ok([first, second]) if first != second => Ok([*first, *second]),
        _ => {
            let remedy = "give two different IPv4 addresses, separated by a comma";
            Err(usage(ADDRESSES, value, remedy))
        }
    }
}

fn usage(field: &'static str, value: &str, remedy: &str) -> Error {
    cluster::Error::Usage {
        field,
        value: value.to_owned(),
        remedy: remedy.to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_are_wanted() {
        let good = addresses("10.0.0.1, 10.0.0.2").unwrap();
        assert_eq!(
            good,
            [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]
        );
        for bad in ["10.0.0.1", "10.0.0.1,10.0.0.1", "10.0.0.1,x", "1,2,3", ""] {
            let error = addresses(bad).expect_err(bad).to_string();
            assert!(
                error.contains(ADDRESSES) && error.contains("two"),
                "{error}"
            );
        }
    }
}
