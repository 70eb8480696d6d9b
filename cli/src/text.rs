//! Text for terminals: columns, and foreign text made harmless.
//!
//! Promises: what DNS or another user wrote cannot move the cursor, colour the screen or start a
//! line of its own, since every control character is shown as an escape.

use std::fmt::Write as _;

/// `text` with every control character, and every character that reorders text, shown as an escape.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Rows under a heading, each column as wide as its widest cell, two spaces apart.
pub(crate) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|i| {
        let cells = rows.iter().filter_map(|row| row.get(i));
        let cells = cells.map(|cell| cell.chars().count());
        let heading = heading.get(i).map_or(0, |text| text.chars().count());
        cells.fold(heading, usize::max)
    });
    let mut out = String::new();
    for row in std::iter::once(&heading.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `1 record` or `2 records`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(
            printable("a\u{1b}[31m\r\nb\u{9b}\u{202e}"),
            "a\\u{1b}[31m\\u{d}\\u{a}b\\u{9b}\\u{202e}"
        );
        assert_eq!(printable("b\u{fc}cher"), "b\u{fc}cher");
    }

    #[test]
    fn columns_line_up_and_do_not_trail() {
        let rows = [
            ["a".to_owned(), String::new()],
            ["long".to_owned(), "x".to_owned()],
        ];
        assert_eq!(columns(["N", "M"], &rows), "N     M\na\nlong  x\n");
    }
}
