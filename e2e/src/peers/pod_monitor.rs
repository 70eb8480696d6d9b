//! The kind that the Prometheus operator finds pods to scrape by.

use std::fs;

use super::Error;
use crate::cluster::{Cache, error::OnPath as _, go::PODMONITOR};

/// The definition of PodMonitor, YAML; made if it is not in `cache`, which takes a minute.
///
/// # Errors
/// When it cannot be made.
pub async fn pod_monitor(cache: &Cache) -> Result<String, Error> {
    let made = PODMONITOR.ready(cache).await?;
    let path = made.join("monitoring.coreos.com_podmonitors.yaml");
    Ok(fs::read_to_string(&path).on("read", path)?)
}
