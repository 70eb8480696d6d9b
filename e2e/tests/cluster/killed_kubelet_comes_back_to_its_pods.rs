//! A killed kubelet leaves its pods running, and started again it finds them.

use crate::support::Trial;

#[tokio::test]
async fn killed_kubelet_comes_back_to_its_pods() {
    let trial = Trial::start_alone("kubelet").await;
    trial.pod("early", &["serve", "8080", "still here"]).await;
    trial.reach("early", &["Running"]).await;
    let ip = trial
        .pods()
        .get("early")
        .await
        .expect("the pod")
        .status
        .and_then(|s| s.pod_ip);
    let address = format!("{}:8080", ip.expect("an address"));

    trial.cluster.kill_part("kubelet").await.expect("killed");
    trial.cluster.start_part("kubelet").expect("started");
    trial.pod("late", &["fetch", &address]).await;
    assert_eq!(trial.output("late").await, "still here\n");
    let early = trial
        .pods()
        .get("early")
        .await
        .expect("the pod")
        .status
        .expect("a status");
    let restarts = early
        .container_statuses
        .iter()
        .flatten()
        .map(|one| one.restart_count);
    assert_eq!(restarts.sum::<i32>(), 0);
    trial.finish().await;
}
