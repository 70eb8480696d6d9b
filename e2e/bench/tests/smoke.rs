//! A few hundred messages through the real relay: the benchmark measures what it says it measures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{path::PathBuf, process::Command, time::Duration};

use postrider_bench::{
    bout::{Pace, bout},
    contenders::{Build, Dkim, Postrider},
    profile::{Profile, Variant},
    report::summary::summary,
    results::{Entrant, Results},
    world::World,
};

/// The relay of the same profile as this test: `cargo test --workspace` has built it, else it is
/// built now.
fn relay() -> Build {
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_postrider-bench"));
    let program = bench.with_file_name("postrider-relay");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "postrider-relay"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
    }
    Build {
        program,
        profile: "test".into(),
    }
}

#[test]
fn a_short_run_is_measured_and_accounted_for() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let world = World::new(dir.path()).unwrap();
    let relay = Postrider::new(relay()).unwrap();
    let mut results = Results::default();
    results.entrants.push(Entrant {
        key: "postrider",
        name: "Postrider".into(),
        setting: "",
    });
    let signed = Variant::Signed(Dkim::Ed25519);
    for variant in [
        Variant::Plain,
        signed,
        Variant::PerMessage,
        Variant::Secured,
    ] {
        let profile = Profile {
            kib: 2,
            sessions: 4,
            variant,
        };
        let pace = Pace {
            time: Duration::from_millis(700),
            rate: Some(200.0),
        };
        let sample = bout(&relay, &world, (profile, pace)).unwrap();
        let account = sample.account;
        assert!(account.accepted > 10, "{variant:?}: {sample:?}");
        assert_eq!(account.delivered, account.accepted, "{variant:?}");
        assert_eq!((account.queued, account.bounced, account.lost()), (0, 0, 0));
        assert!(
            sample.rate > 0.0 && sample.rate <= sample.accept_rate * 1.5,
            "{sample:?}"
        );
        assert!(sample.cpu > 0.0 && sample.memory > 1e6, "{sample:?}");
        assert!(
            sample.written > 1.0,
            "a spool holds the message: {sample:?}"
        );
        assert!(sample.p50 > 0.0 && sample.p50 <= sample.p99, "{sample:?}");
        assert!(sample.syncs.is_some_and(|syncs| syncs > 0.0), "{sample:?}");
        results.add("postrider", profile, sample);
    }
    let summary = summary(&results);
    assert!(summary["rate_2k_4s"].as_f64().unwrap() > 0.0);
    assert!(summary["cpu_s_per_1000_2k_4s_ed25519"].as_f64().unwrap() > 0.0);
    assert_eq!(summary["accepted"], summary["delivered"]);
}
