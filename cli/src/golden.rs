//! What the tests print: the same objects for all, and the files their output is compared with.

use std::{fs, path::Path};

use postrider_crds::SendingDomain;
use serde::de::DeserializeOwned;

use crate::{cluster::Everything, domain_records::DomainRecords};

/// Compares `text` with `tests/golden/<name>`; with `UPDATE_GOLDEN` set, writes it there.
pub(crate) fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        wanted,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

/// A domain with a record in every state.
pub(crate) fn shop() -> DomainRecords {
    DomainRecords::of(&domains()[0], everything().pools.first())
}

/// A domain that no operator has looked at.
pub(crate) fn fresh_shop() -> DomainRecords {
    DomainRecords::of(&domains()[1], None)
}

/// Objects of each kind, in several states.
pub(crate) fn everything() -> Everything {
    Everything {
        pools: read(include_str!("../tests/golden/pools.yaml")),
        domains: domains(),
        lists: read(include_str!("../tests/golden/lists.yaml")),
    }
}

fn domains() -> Vec<SendingDomain> {
    read(include_str!("../tests/golden/domains.yaml"))
}

fn read<K: DeserializeOwned>(text: &str) -> Vec<K> {
    serde_yaml::from_str(text).expect("the objects of the tests are valid")
}
