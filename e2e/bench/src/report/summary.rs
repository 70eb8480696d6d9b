//! `summary.json`: one flat object with stable keys, `<what>_<size>k_<sessions>s[_variant]`.
//!
//! Keys of ours have no prefix; those of a peer begin with its key. `<peer>_ratio_...` is our rate
//! over the peer's. `accepted`, `delivered`, `bounced`, `queued`, `lost` and `duplicates` are
//! counts of ours over the whole run.

use serde_json::{Map, Value, json};

use super::OURS;
use crate::{
    profile::{Profile, Variant},
    results::{Backlog, MIB, Medians, Results},
};

/// The summary of a run.
pub fn summary(results: &Results) -> Value {
    let mut keys = Map::new();
    for entrant in &results.entrants {
        for profile in results.profiles() {
            if let Some(medians) = results.medians(entrant.key, profile) {
                figures(&mut keys, &prefix(entrant.key), (profile, &medians));
            }
        }
    }
    ratios(&mut keys, results);
    let account = results.account(OURS);
    for (what, count) in [
        ("accepted", account.accepted),
        ("delivered", account.delivered),
        ("bounced", account.bounced),
        ("queued", account.queued),
        ("lost", account.lost()),
        ("duplicates", account.duplicates),
    ] {
        keys.insert(what.to_owned(), json!(count));
    }
    for (profile, rate) in &results.ceilings {
        put(&mut keys, &format!("ceiling_rate_{}", profile.key()), *rate);
    }
    let sync = results.sync_time.as_secs_f64() * 1000.0;
    put(&mut keys, "fdatasync_ms", sync);
    let half = Profile::MAIN.with(Variant::Half);
    if let Some(medians) = results.medians(OURS, half) {
        let syncs = medians.p99 / sync.max(f64::MIN_POSITIVE);
        put(&mut keys, &format!("p99_fdatasyncs_{}", half.key()), syncs);
    }
    for backlog in &results.backlog {
        long_queue(&mut keys, backlog);
    }
    Value::Object(keys)
}

fn prefix(key: &str) -> String {
    if key == OURS {
        String::new()
    } else {
        format!("{key}_")
    }
}

fn figures(keys: &mut Map<String, Value>, prefix: &str, (profile, medians): (Profile, &Medians)) {
    let profile = profile.key();
    for (what, value) in [
        ("rate", Some(medians.rate)),
        ("accept_rate", Some(medians.accept_rate)),
        ("cpu_s_per_1000", Some(medians.cpu)),
        ("rss_mib", Some(medians.memory)),
        ("bytes_per_byte", Some(medians.written)),
        ("device_bytes_per_byte", Some(medians.device)),
        ("p50_ms", Some(medians.p50)),
        ("p99_ms", Some(medians.p99)),
        ("fsyncs_per_message", medians.syncs),
    ] {
        if let Some(value) = value {
            put(keys, &format!("{prefix}{what}_{profile}"), value);
        }
    }
}

fn ratios(keys: &mut Map<String, Value>, results: &Results) {
    for profile in results.profiles() {
        let Some(ours) = results.medians(OURS, profile) else {
            continue;
        };
        for peer in results.entrants.iter().filter(|e| e.key != OURS) {
            if let Some(theirs) = results.medians(peer.key, profile) {
                let ratio = ours.rate / theirs.rate.max(f64::MIN_POSITIVE);
                put(
                    keys,
                    &format!("{}_ratio_{}", peer.key, profile.key()),
                    ratio,
                );
            }
        }
        let full = profile.with(Variant::Plain);
        if profile.variant == Variant::Backlog
            && let Some(empty) = results.medians(OURS, full)
        {
            let ratio = ours.rate / empty.rate.max(f64::MIN_POSITIVE);
            put(keys, &format!("empty_queue_ratio_{}", profile.key()), ratio);
        }
    }
}

fn long_queue(keys: &mut Map<String, Value>, backlog: &Backlog) {
    let prefix = prefix(backlog.key);
    let rate = backlog.messages as f64 / backlog.loading.max(f64::MIN_POSITIVE);
    let grown = (backlog.memory - backlog.memory_empty).max(0.0);
    for (what, value) in [
        ("backlog_messages", Some(backlog.messages as f64)),
        ("backlog_load_rate", Some(rate)),
        ("backlog_rss_mib", Some(backlog.memory / MIB)),
        (
            "backlog_bytes_per_message",
            Some(grown / backlog.messages.max(1) as f64),
        ),
        ("restart_listening_s", Some(backlog.listening)),
        ("restart_scheduled_s", backlog.scheduled),
        ("restart_rss_mib", Some(backlog.memory_restarted / MIB)),
        ("restart_missing", Some(backlog.missing as f64)),
    ] {
        if let Some(value) = value {
            put(keys, &format!("{prefix}{what}"), value);
        }
    }
}

/// Adds a number, with as many digits as mean something.
fn put(keys: &mut Map<String, Value>, key: &str, value: f64) {
    let rounded = if value.abs() >= 1000.0 {
        value.round()
    } else {
        (value * 10_000.0).round() / 10_000.0
    };
    keys.insert(key.to_owned(), json!(rounded));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::of_rates;

    #[test]
    fn the_keys_others_read_are_there() {
        let results = of_rates(&[(OURS, &[600.0, 500.0, 700.0]), ("postfix", &[100.0])]);
        let summary = summary(&results);
        for (key, wanted) in [
            ("postfix_ratio_10k_20s", 6.0),
            ("rate_10k_20s", 600.0),
            ("postfix_rate_10k_20s", 100.0),
            ("cpu_s_per_1000_10k_20s", 0.5),
            ("rss_mib_10k_20s", 1.0),
            ("bytes_per_byte_10k_20s", 1.2),
            ("p99_ms_10k_20s", 2.0),
            ("fdatasync_ms", 0.5),
        ] {
            assert_eq!(summary[key].as_f64(), Some(wanted), "{key}");
        }
        for (key, wanted) in [
            ("accepted", 30),
            ("delivered", 30),
            ("bounced", 0),
            ("queued", 0),
            ("lost", 0),
        ] {
            assert_eq!(summary[key].as_u64(), Some(wanted), "{key}");
        }
        assert!(summary.get("fsyncs_per_message_10k_20s").is_none());
    }
}
