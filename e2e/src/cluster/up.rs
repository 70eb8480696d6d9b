//! Bringing a cluster up, in order.

use std::{path::Path, time::Duration};

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;

use super::{
    Cluster, api_server, audit,
    clock::wait_for,
    containerd, controllers,
    daemon::Daemon,
    dns::{self, Dns},
    down, enclosure,
    error::Error,
    etcd, host,
    image::Archive,
    kubelet, network, objects,
    paths::{Cache, StateDir},
    pki::Pki,
    progress::Progress,
    proxy, status,
    tools::Tools,
};

/// How long the node may take to become ready once all parts run.
const NODE_BOUND: Duration = Duration::from_secs(120);

/// Brings up the cluster of `dir`; if it is up already, takes it as it is.
///
/// # Errors
/// When another cluster is up, or a step fails; then what was started is taken down again, but
/// the logs stay.
pub(crate) async fn up(dir: &Path, progress: &Progress) -> Result<Cluster, Error> {
    require_root()?;
    let state = StateDir::new(dir)?;
    let tools = Tools::ready(&Cache::of_user()?, progress).await?;
    if status::is_up(&state) {
        eprintln!(
            "a cluster is up in {}; it is used as it is",
            state.path().display()
        );
        return Ok(Cluster { state, tools });
    }
    status::claim_machine(&state)?;
    if !Daemon::all(&state).is_empty() {
        progress
            .step("remains of an earlier cluster", down::down(&state))
            .await?;
    }
    state.empty()?;
    status::note_claim(&state)?;
    if let Err(error) = start(&state, &tools, progress).await {
        progress
            .step("taking down what was started", down::down(&state))
            .await?;
        return Err(error);
    }
    Ok(Cluster { state, tools })
}

async fn start(state: &StateDir, tools: &Tools, progress: &Progress) -> Result<(), Error> {
    let pki = Pki::create(state)?;
    progress
        .step("bridge, directories, mount namespace", ground(state))
        .await?;
    let server = progress
        .step("etcd, API server", control(state, tools, &pki))
        .await?;
    progress
        .step(
            "controllers, scheduler, kubelet, kube-proxy, CoreDNS, containerd",
            async { node(state, tools, &pki, &server).await },
        )
        .await?;
    progress
        .step("node ready, names served", settled(state))
        .await
}

/// The things that the parts stand on.
async fn ground(state: &StateDir) -> Result<(), Error> {
    host::prepare(state)?;
    network::up().await?;
    enclosure::open(state).await.map(drop)
}

/// etcd and the API server; containerd is started meanwhile. Returns the server's URL.
async fn control(state: &StateDir, tools: &Tools, pki: &Pki) -> Result<String, Error> {
    let (port, peer_port) = (etcd::free_port()?, etcd::free_port()?);
    Daemon::start(
        state,
        &etcd::spec(tools.debian("usr/bin/etcd"), state, port, peer_port),
    )?;
    let setup = api_server::Setup {
        program: tools.kubernetes("kube-apiserver"),
        address: network::HOST,
        port: 6443,
        etcd_port: port,
        pki,
        extra: [
            vec!["--allow-privileged=true".to_owned()],
            audit::args(state)?,
        ]
        .concat(),
    };
    let url = setup.url();
    pki.kubeconfig(&api_server::ADMIN, &url, state.kubeconfig())?;
    let server = Daemon::start(state, &setup.spec()?)?;
    Daemon::start(state, &containerd::spec(tools, state)?)?;
    let client = api_server::client(&state.kubeconfig()).await?;
    let ready = async || api_server::ready(&client).await;
    server
        .wait_until("the API server", api_server::BOUND, ready)
        .await?;
    Ok(url)
}

/// Everything that needs the API server.
async fn node(state: &StateDir, tools: &Tools, pki: &Pki, server: &str) -> Result<(), Error> {
    for spec in controllers::specs(tools, state, pki, server)? {
        Daemon::start(state, &spec)?;
    }
    wait_for(
        "containerd",
        containerd::BOUND,
        &log(state, "containerd"),
        async || Ok(containerd::ready(tools, state).await.then_some(())),
    )
    .await?;
    Daemon::start(state, &kubelet::spec(tools, state, pki, server)?)?;
    Daemon::start(state, &proxy::spec(tools, state, pki, server)?)?;
    Daemon::start(state, &dns::spec(tools, state, pki, server)?)?;
    for (name, program) in [
        (containerd::PAUSE_IMAGE, tools.pause()),
        (containerd::PROBE_IMAGE, tools.probe()),
    ] {
        containerd::import(tools, state, &Archive::of_program(name, program)?).await?;
    }
    objects::apply(tools, state).await
}

/// Waits until the node takes pods and names are served.
async fn settled(state: &StateDir) -> Result<(), Error> {
    let client = api_server::client(&state.kubeconfig()).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    let dns = Dns::of(state);
    wait_for("the node", NODE_BOUND, &log(state, "kubelet"), async || {
        status::check_parts(state)?;
        let node = nodes.get_opt(kubelet::NODE).await?;
        Ok(node.filter(is_ready).map(drop))
    })
    .await?;
    wait_for(
        "the default account",
        NODE_BOUND,
        &log(state, "kube-controller-manager"),
        async || Ok(accounts.get_opt("default").await?.map(drop)),
    )
    .await?;
    wait_for(
        "the name server",
        NODE_BOUND,
        &log(state, "coredns"),
        async || Ok(dns.answers().await.then_some(())),
    )
    .await
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

fn log(state: &StateDir, name: &str) -> String {
    state.join(format!("logs/{name}.log")).display().to_string()
}

fn require_root() -> Result<(), Error> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Ok(());
    }
    Err(Error::Usage {
        field: "user",
        value: user.as_raw().to_string(),
        remedy: "a cluster of its own takes root; run as root, or set E2E_KUBECONFIG to the \
                 kubeconfig of a cluster you have"
            .to_owned(),
    })
}
