//! Gauges in the Prometheus text format (version 0.0.4), written out one sample after the other, for
//! families of which there are so many samples that nobody should hold them all.

use std::io::Write as _;

/// A family of gauges that is being written.
pub(super) struct Gauge<'a> {
    out: &'a mut Vec<u8>,
    name: &'static str,
    /// Help and type, until there is a sample: a family without one is left out.
    head: Option<String>,
}

impl<'a> Gauge<'a> {
    /// Begins the family `name` at the end of `out`. `help` has no backslash and no line end.
    pub(super) fn begin(out: &'a mut Vec<u8>, name: &'static str, help: &str) -> Self {
        let head = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        Self {
            out,
            name,
            head: Some(head),
        }
    }

    /// Goes on with a family that has samples already.
    pub(super) fn go_on(out: &'a mut Vec<u8>, name: &'static str) -> Self {
        let head = None;
        Self { out, name, head }
    }

    /// Whether there has been a sample.
    pub(super) fn is_begun(&self) -> bool {
        self.head.is_none()
    }

    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        if let Some(head) = self.head.take() {
            self.out.extend_from_slice(head.as_bytes());
        }
        self.out.extend_from_slice(self.name.as_bytes());
        let mut before = b'{';
        for (label, text) in labels {
            self.out.push(before);
            self.out.extend_from_slice(label.as_bytes());
            self.out.extend_from_slice(b"=\"");
            self.escaped(text);
            self.out.push(b'"');
            before = b',';
        }
        // Writing to a Vec cannot fail.
        let _ = writeln!(self.out, "}} {value}");
    }

    fn escaped(&mut self, text: &str) {
        for octet in text.bytes() {
            match octet {
                b'\\' | b'"' => self.out.extend_from_slice(&[b'\\', octet]),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                octet => self.out.push(octet),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_the_format_has_them() {
        let mut out = Vec::new();
        let mut family = Gauge::begin(&mut out, "a", "Of nothing.");
        family.sample(&[("x", "1"), ("y", "a\"b\\c\nd")], 1.0);
        family.sample(&[("x", "2")], 0.5);
        let wanted = "# HELP a Of nothing.\n# TYPE a gauge\n\
                      a{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 1\na{x=\"2\"} 0.5\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn a_family_without_samples_is_left_out() {
        let mut out = Vec::new();
        let _ = Gauge::begin(&mut out, "a", "Of nothing.");
        assert!(out.is_empty());
    }
}
