//! Runs the command, and installs what it finds on an API server.

use std::{process::Output, time::Duration};

use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use tokio::process::Command;

/// How long a step may take on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Installs a definition.
pub(crate) async fn define(client: &Client, definition: serde_json::Value) {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let object: DynamicObject = serde_json::from_value(definition).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// Runs `postrider` with `arguments` to its end.
pub(crate) async fn postrider(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

/// Standard output as text.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
