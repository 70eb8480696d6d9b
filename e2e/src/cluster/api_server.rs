//! kube-apiserver: as part of the cluster, and alone with an etcd as a throwaway for tests that
//! need the API but no node.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    daemon::{Daemon, Enclosed, Spec},
    error::{Error, OnPath},
    etcd, network,
    paths::{Cache, StateDir},
    pki::{Identity, KeyFiles, Pki},
    tools::Tools,
};

/// How long until it answers `/readyz`, on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// How often, when dropped, it is looked whether the killed parts are gone: for 5 s at most.
const DROP_LOOKS: u32 = 500;
/// How long between two looks.
const DROP_PAUSE: Duration = Duration::from_millis(10);

/// What distinguishes one API server from another.
pub(crate) struct Setup<'a> {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where it listens.
    pub(crate) address: Ipv4Addr,
    /// On which port.
    pub(crate) port: u16,
    /// The port of its etcd.
    pub(crate) etcd_port: u16,
    /// Its certificates.
    pub(crate) pki: &'a Pki,
    /// Arguments of this one.
    pub(crate) extra: Vec<String>,
}

impl Setup<'_> {
    /// The URL for clients.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// How to start it.
    pub(crate) fn spec(self) -> Result<Spec, Error> {
        let serving = self.certificate()?;
        let kubelet_client = self.pki.issue(&Identity::client(
            "apiserver-kubelet-client",
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
        ))?;
        let name = "front-proxy-client";
        let front_proxy = self.pki.issue(&Identity::client(name, name, None))?;
        let file = |name| self.pki.file(name);
        let mut args = vec![
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--etcd-servers={}", etcd::url(self.etcd_port)),
            format!("--service-cluster-ip-range={}", network::SERVICE_CIDR),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", serving.cert),
            format!("--tls-private-key-file={}", serving.key),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", kubelet_client.cert),
            format!("--kubelet-client-key={}", kubelet_client.key),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            // The name of the node is in no DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            // Without an authority for front proxies the other parts complain for ever.
            format!("--requestheader-client-ca-file={}", file("ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", front_proxy.cert),
            format!("--proxy-client-key-file={}", front_proxy.key),
            "--profiling=false".to_owned(),
        ];
        args.extend(self.extra);
        Ok(Spec {
            name: "kube-apiserver".to_owned(),
            program: self.program,
            args,
            env: Vec::new(),
            enclosed: Enclosed::No,
        })
    }

    fn certificate(&self) -> Result<KeyFiles, Error> {
        let mut serves: Vec<String> = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        serves.extend([self.address.to_string(), network::API_SERVICE.to_string()]);
        let names = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
        serves.extend(names.iter().map(|tail| format!("kubernetes{tail}")));
        let identity = Identity {
            name: "apiserver",
            user: "kube-apiserver",
            group: None,
            serves: &serves,
        };
        self.pki.issue(&identity)
    }
}

/// The administrator, in whom RBAC believes without asking.
pub(crate) const ADMIN: Identity<'static> = Identity {
    name: "admin",
    user: "postrider-e2e-admin",
    group: Some("system:masters"),
    serves: &[],
};

/// A client with the rights of the given kubeconfig.
///
/// # Errors
/// When the file cannot be read or is no kubeconfig.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client, Error> {
    // Several TLS providers may be linked in; the first choice stays, so a second call is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let read = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(read, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

/// Whether the server behind `client` says it is ready.
pub(crate) async fn ready(client: &kube::Client) -> bool {
    let params = kube::api::GetParams::default();
    let Ok(mut request) = kube::core::Request::new("").get("readyz", &params) else {
        return false;
    };
    let Ok(path) = "/readyz".parse() else {
        return false;
    };
    *request.uri_mut() = path;
    client
        .request_text(request)
        .await
        .is_ok_and(|text| text == "ok")
}

/// An API server with an etcd of its own and nothing else: no controllers, no nodes.
///
/// Guarantees: listens on 127.0.0.1 only; ends, and leaves nothing behind, when dropped.
///
/// Assumptions: needs no root; fills the cache of binaries if need be, which takes minutes once.
#[derive(Debug)]
pub struct ApiServer {
    kubeconfig: PathBuf,
    parts: [Daemon; 2],
    /// Removed after the parts have been ended by `drop`.
    dir: tempfile::TempDir,
}

impl ApiServer {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When a program cannot be built or started, or the server is not ready within
    /// two minutes.
    pub async fn start() -> Result<Self, Error> {
        let (etcd_program, program) = Tools::api_server_only(&Cache::of_user()?).await?;
        let dir = tempfile::tempdir().on("create", std::env::temp_dir())?;
        let state = StateDir::new(dir.path())?;
        let pki = Pki::create(&state)?;
        let etcd_port = etcd::free_port()?;
        let etcd = etcd::spec(etcd_program, &state, etcd_port, etcd::free_port()?);
        let setup = Setup {
            program,
            address: Ipv4Addr::LOCALHOST,
            port: etcd::free_port()?,
            etcd_port,
            pki: &pki,
            extra: vec![
                "--endpoint-reconciler-type=none".to_owned(),
                // Nobody runs the controller that would make each namespace's default account.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
        };
        let kubeconfig = pki.kubeconfig(&ADMIN, &setup.url(), state.kubeconfig())?;
        let spec = setup.spec()?;
        let etcd = Daemon::start(&state, &etcd)?;
        let server = Daemon::start(&state, &spec)?;
        let running = Self {
            kubeconfig,
            parts: [server, etcd],
            dir,
        };
        let client = running.client().await?;
        let [server, _] = &running.parts;
        server
            .wait_until("the API server", BOUND, async || ready(&client).await)
            .await?;
        Ok(running)
    }

    /// The administrator's kubeconfig; there as long as the server.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// An administrator's client.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub async fn client(&self) -> Result<kube::Client, Error> {
        client(&self.kubeconfig).await
    }

    /// Where logs and data lie.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for part in &self.parts {
            part.process().signal(Signal::KILL);
        }
        // Until they are gone they may still write into the directory, which goes next.
        for _ in 0..DROP_LOOKS {
            if !self.parts.iter().any(|part| part.process().lives()) {
                return;
            }
            std::thread::sleep(DROP_PAUSE);
        }
    }
}
