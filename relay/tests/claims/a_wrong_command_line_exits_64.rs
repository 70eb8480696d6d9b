//! Exit codes: 64 for what the user can correct, 1 for what the machine refuses.

use std::process::{Command, Output};

use postrider_crds::relay_config::{Admission::Send, layout};

use crate::support::{World, domain};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider-relay"));
    command.args(arguments).output().unwrap()
}

#[test]
fn with_a_word_about_it() {
    let output = run(&["--spol", "/x"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--spol"));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[tokio::test]
async fn and_check_config_names_the_document() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let dir = world.config_dir().display().to_string();
    let output = run(&["check-config", &dir]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    world.write(&layout::suppression("global", 3), "nonsense\n");
    let output = run(&["check-config", &dir]);
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("suppression/global.3: "), "{stderr}");
}

#[tokio::test]
async fn and_a_locked_spool_exits_1() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let (config, spool) = (world.config_dir(), world.spool());
    let ports = ["--metrics-port", "9191", "--admin-port", "9494"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider-relay"));
    command
        .arg("--config-dir")
        .arg(config)
        .arg("--spool")
        .arg(spool);
    command
        .args(ports)
        .args(["--listen-address", &world.address.to_string()]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("locked"));
}
