//! Tag lists (RFC 6376 §3.2), the syntax that DKIM and DMARC records share.
//!
//! Promises: reads what the grammar allows and nothing else; a name given twice is an error, as
//! RFC 6376 §3.2 asks.

/// The tags of a record in their order, white space around names and values removed, or what is
/// wrong with the record.
pub(super) fn parse(record: &str) -> Result<Vec<(&str, &str)>, &'static str> {
    let mut tags: Vec<(&str, &str)> = Vec::new();
    let trimmed = record.trim();
    let body = trimmed.strip_suffix(';').unwrap_or(trimmed);
    for part in body.split(';') {
        let (name, value) = part.split_once('=').ok_or("has a tag without \"=\"")?;
        let (name, value) = (name.trim(), value.trim());
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !named {
            return Err("has a tag whose name is not made of letters");
        }
        if tags.iter().any(|(known, _)| *known == name) {
            return Err("has a tag twice");
        }
        tags.push((name, value));
    }
    Ok(tags)
}

/// The value of tag `name`, if it is there.
pub(super) fn value<'a>(tags: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    tags.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}
