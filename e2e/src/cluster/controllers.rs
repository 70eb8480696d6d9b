//! kube-controller-manager and kube-scheduler.

use super::{
    daemon::{Enclosed, Spec},
    error::Error,
    network,
    paths::StateDir,
    pki::{Identity, Pki},
    tools::Tools,
};

/// How to start both.
pub(crate) fn specs(
    tools: &Tools,
    state: &StateDir,
    pki: &Pki,
    server: &str,
) -> Result<[Spec; 2], Error> {
    let kubeconfig = |name: &str, user: &str| {
        let identity = Identity::client(name, user, None);
        let path = state.join(format!("pki/{name}.kubeconfig"));
        pki.kubeconfig(&identity, server, path)
            .map(|path| path.display().to_string())
    };
    let manager = kubeconfig("controller-manager", "system:kube-controller-manager")?;
    let scheduler = kubeconfig("scheduler", "system:kube-scheduler")?;
    let common = |kubeconfig: &str| {
        vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--bind-address={}", network::HOST),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ]
    };
    let mut manager_args = common(&manager);
    manager_args.extend([
        format!("--service-account-private-key-file={}", pki.file("sa.key")),
        format!("--root-ca-file={}", pki.file("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki.file("ca.crt")),
        format!("--cluster-signing-key-file={}", pki.file("ca.key")),
        "--use-service-account-credentials".to_owned(),
        format!(
            "--cert-dir={}",
            state.join("pki/controller-manager").display()
        ),
    ]);
    let mut scheduler_args = common(&scheduler);
    scheduler_args.push(format!(
        "--cert-dir={}",
        state.join("pki/scheduler").display()
    ));
    let spec = |name: &str, args| Spec {
        name: name.to_owned(),
        program: tools.kubernetes(name),
        args,
        env: Vec::new(),
        enclosed: Enclosed::No,
    };
    Ok([
        spec("kube-controller-manager", manager_args),
        spec("kube-scheduler", scheduler_args),
    ])
}
