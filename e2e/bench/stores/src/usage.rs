//! What this process has used, from `/proc/self`.

use std::time::Instant;

/// Used up to a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    /// Bytes handed to the disk.
    pub(crate) written: f64,
}

impl Usage {
    /// Up to now.
    pub(crate) fn now() -> Self {
        Self {
            cpu: cpu_seconds(),
            written: number("io", "write_bytes:") as f64,
        }
    }

    /// Since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu - earlier.cpu,
            written: self.written - earlier.written,
        }
    }
}

/// MiB of memory in use.
pub(crate) fn resident() -> f64 {
    number("status", "VmRSS:") as f64 / 1024.0
}

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clocks"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// The number behind `name` in a file of `/proc/self`.
fn number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.and_then(|line| line.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // utime and stime; a hundred ticks a second on every Linux there is.
    fields.iter().skip(11).take(2).sum::<f64>() / 100.0
}
