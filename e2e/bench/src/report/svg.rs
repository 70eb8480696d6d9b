//! Bar charts as SVG: a bar a row, longest to the right, the number behind it.

use std::fmt::Write as _;

/// A row of a chart.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Whether it is ours.
    pub ours: bool,
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 300.0;
const NUMBERS: f64 = 80.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 34.0;

/// A chart of `bars` under `title`. Its colours show on light and dark pages.
pub fn chart(title: &str, bars: &[Bar]) -> String {
    let height = HEAD + ROW * bars.len() as f64 + 8.0;
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / longest.max(f64::MIN_POSITIVE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#777\">\n\
         <text x=\"8\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (row, bar) in bars.iter().enumerate() {
        let top = HEAD + ROW * row as f64;
        let (length, middle) = ((bar.value * scale).max(1.0), top + 15.0);
        let colour = if bar.ours { "#2a7de1" } else { "#9aa5b1" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"{:.0}\" \
             fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{middle}\">{}</text>",
            LABELS - 8.0,
            escaped(&bar.label),
            top + 2.0,
            ROW - 6.0,
            LABELS + length + 6.0,
            number(bar.value),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A number with three digits that mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room() {
        let bar = |value, ours| Bar {
            label: "a < b".into(),
            value,
            ours,
        };
        let svg = chart("Rate & more", &[bar(200.0, true), bar(50.0, false)]);
        assert!(
            svg.contains("width=\"380.0\"") && svg.contains("width=\"95.0\""),
            "{svg}"
        );
        assert!(svg.contains("Rate &amp; more") && svg.contains("a &lt; b"));
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, wanted) in [
            (1234.5, "1234"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.0123, "0.012"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }
}
