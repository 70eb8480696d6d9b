//! The Containerfiles this crate can build by itself: files on scratch.
//!
//! That is all the project's own Containerfiles are, so the images under test are made from the
//! very files that users build with their own tools. Anything else in one is an error that names
//! the line, never passed over.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::Error;

/// What a Containerfile asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Containerfile {
    /// Sources, relative to the context, and places, absolute.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// The `config` object of the image.
    pub config: Value,
}

/// Parses the text of a Containerfile.
///
/// # Errors
/// Names the first line that is not one of `FROM scratch`, `COPY`, `USER`, `WORKDIR`, `ENV`,
/// `LABEL`, `EXPOSE`, `VOLUME`, `ENTRYPOINT` and `CMD` in the forms known here.
pub(crate) fn parse(text: &str) -> Result<Containerfile, Error> {
    let joined = text.replace("\\\n", " ");
    let mut copies = Vec::new();
    let mut config = Map::new();
    let mut based = false;
    for line in joined.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word.to_ascii_uppercase().as_str() {
            "FROM" if rest == "scratch" && !based => based = true,
            "COPY" if based => copies.extend(copy(rest).ok_or_else(|| refused(line))?),
            "USER" if based => set(&mut config, "User", json!(rest)),
            "WORKDIR" if based => set(&mut config, "WorkingDir", json!(rest)),
            "ENTRYPOINT" if based => set(&mut config, "Entrypoint", words(line, rest)?),
            "CMD" if based => set(&mut config, "Cmd", words(line, rest)?),
            "ENV" if based => add(&mut config, "Env", rest).ok_or_else(|| refused(line))?,
            "LABEL" if based => label(&mut config, rest).ok_or_else(|| refused(line))?,
            "EXPOSE" if based => keys(&mut config, "ExposedPorts", rest, "/tcp"),
            "VOLUME" if based => keys(&mut config, "Volumes", rest, ""),
            _ => return Err(refused(line)),
        }
    }
    if based {
        Ok(Containerfile {
            copies,
            config: config.into(),
        })
    } else {
        Err(refused(""))
    }
}

/// `[--chown=.. --chmod=..] SOURCE... PLACE`; owner and mode are settled by the packer.
fn copy(rest: &str) -> Option<Vec<(PathBuf, PathBuf)>> {
    let mut words: Vec<_> = rest.split_whitespace().collect();
    words.retain(|word| !word.starts_with("--chown=") && !word.starts_with("--chmod="));
    let place = words.pop()?;
    let known = place.starts_with('/') && words.iter().all(|word| !word.starts_with("--"));
    (known && !words.is_empty()).then_some(())?;
    let into_dir = place.ends_with('/') || words.len() > 1;
    let placed = |source: &str| {
        let place = Path::new(place);
        let name = Path::new(source).file_name().filter(|_| into_dir);
        (
            PathBuf::from(source),
            name.map_or_else(|| place.to_owned(), |name| place.join(name)),
        )
    };
    Some(words.into_iter().map(placed).collect())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// The JSON form of a command; the shell form needs a shell, which scratch has not.
fn words(line: &str, rest: &str) -> Result<Value, Error> {
    serde_json::from_str::<Vec<String>>(rest)
        .map(Value::from)
        .map_err(|_| refused(line))
}

/// One `NAME=VALUE` a line.
fn add(config: &mut Map<String, Value>, key: &str, rest: &str) -> Option<()> {
    let (name, value) = rest.split_once('=')?;
    let value = value.trim_matches('"');
    let list = config
        .entry(key)
        .or_insert_with(|| json!([]))
        .as_array_mut()?;
    list.push(json!(format!("{name}={value}")));
    Some(())
}

fn label(config: &mut Map<String, Value>, rest: &str) -> Option<()> {
    let labels = config
        .entry("Labels")
        .or_insert_with(|| json!({}))
        .as_object_mut()?;
    for pair in pairs(rest)? {
        let (name, value) = pair.split_once('=')?;
        labels.insert(name.to_owned(), json!(value));
    }
    Some(())
}

/// Words apart by white space, except where it stands between double quotes, which are taken off.
fn pairs(rest: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in rest.chars() {
        match letter {
            '"' => quoted = !quoted,
            white if white.is_whitespace() && !quoted => words.push(String::new()),
            other => words.last_mut()?.push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    (!quoted).then_some(words)
}

fn keys(config: &mut Map<String, Value>, key: &str, rest: &str, tail: &str) {
    let names: Vec<String> = serde_json::from_str(rest)
        .unwrap_or_else(|_| rest.split_whitespace().map(str::to_owned).collect());
    let entry = config.entry(key).or_insert_with(|| json!({}));
    for name in names {
        let name = if name.contains('/') {
            name
        } else {
            format!("{name}{tail}")
        };
        if let Some(map) = entry.as_object_mut() {
            map.insert(name, json!({}));
        }
    }
}

fn refused(line: &str) -> Error {
    Error::Usage {
        field: "Containerfile line",
        value: line.to_owned(),
        remedy: "only FROM scratch, then COPY, USER, WORKDIR, ENV, LABEL, EXPOSE, VOLUME, \
                 and ENTRYPOINT and CMD in their JSON form are built here"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_scratch_are_understood() {
        let text = "# An image\nFROM scratch\nCOPY --chmod=0755 relay /usr/bin/relay\n\
                    COPY a b /etc/\nENV MODE=fast\nLABEL org.x.title=\"A b\" \\\n  org.x.y=z\n\
                    USER 65532:65532\nEXPOSE 25 9090/udp\nVOLUME /spool\n\
                    ENTRYPOINT [\"/usr/bin/relay\"]\nCMD [\"--help\"]\n";
        let parsed = parse(text).expect("known");
        let copies = [
            ("relay", "/usr/bin/relay"),
            ("a", "/etc/a"),
            ("b", "/etc/b"),
        ];
        assert_eq!(
            parsed.copies,
            copies.map(|(from, to)| (from.into(), to.into()))
        );
        assert_eq!(
            parsed.config,
            json!({
                "Env": ["MODE=fast"],
                "Labels": {"org.x.title": "A b", "org.x.y": "z"},
                "User": "65532:65532",
                "ExposedPorts": {"25/tcp": {}, "9090/udp": {}},
                "Volumes": {"/spool": {}},
                "Entrypoint": ["/usr/bin/relay"],
                "Cmd": ["--help"],
            })
        );
    }

    #[test]
    fn anything_else_is_named() {
        for text in [
            "",
            "FROM debian",
            "COPY a /a",
            "FROM scratch\nRUN true",
            "FROM scratch\nCOPY --from=build /a /a",
            "FROM scratch\nCOPY a",
            "FROM scratch\nCOPY a b",
            "FROM scratch\nENTRYPOINT relay",
            "FROM scratch\nLABEL a=\"b",
            "FROM scratch\nFROM scratch",
        ] {
            let error = parse(text).expect_err(text);
            let line = text.lines().last().unwrap_or_default();
            assert!(error.to_string().contains(&format!("{line:?}")), "{error}");
        }
    }
}
