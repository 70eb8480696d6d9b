//! The header of a stored message, as far as the receivers' own fields need reading.

/// The fields of `message` in order, unfolded (RFC 5322 section 2.2.3); lines may end in CRLF or
/// LF. What is not UTF-8 is replaced.
pub(crate) fn fields(message: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(message);
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_owned(), value.trim_start().to_owned()));
        }
    }
    fields
}

/// The values of all fields called `name`, in order.
pub(crate) fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unfolded_and_end_at_the_body() {
        let fields = fields(b"A: 1\r\n 2\r\nb:3\r\n\r\nA: body\r\n");
        assert_eq!(values(&fields, "a"), ["1 2"]);
        assert_eq!(values(&fields, "B"), ["3"]);
    }
}
