//! The operator that all claims share: who leads, its end, and that it is let alone for a while.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::Api;
use postrider_e2e::product::{OPERATOR_NAMESPACE, RELEASE};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::{
    pods::container_of,
    support::{Stage, eventually},
};

/// Held to kill it, and, shared, to let nobody do so.
static ALIVE: RwLock<()> = RwLock::const_new(());

impl Stage {
    /// The pod of the operator that holds the Lease.
    pub(crate) async fn leader(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let lease = leases.get(RELEASE).await.expect("a Lease");
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        holder.expect("a leader")
    }

    /// Keeps other claims from killing it for as long as this is held.
    pub(crate) async fn undisturbed(&self) -> RwLockReadGuard<'static, ()> {
        ALIVE.read().await
    }

    /// Kills the operator that holds the Lease, once it runs, as another claim may just have killed
    /// it, and is not to be let alone. Returns its pod's name.
    pub(crate) async fn kill_operator(&self) -> String {
        let _killing = ALIVE.write().await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        eventually("an operator that leads and runs", async || {
            let leader = self.leader().await;
            let pod = pods.get_opt(&leader).await.expect("asked")?;
            let pod = serde_json::to_value(pod).expect("JSON");
            let status = &pod["status"]["containerStatuses"][0];
            status["state"]["running"].as_object()?;
            let killed = self.cluster.kill_container(&container_of(&pod)).await;
            let killed = killed.expect("killed");
            assert!(killed <= 1, "the operator is one process");
            (killed == 1).then_some(leader)
        })
        .await
    }
}
