//! An object whose manifest an API server would take.

use kube::{Resource as _, ResourceExt as _};
use postrider_crds::{RelayPool, SendingDomain, SuppressionList};

use super::report::{Item, Outcome};

/// An object and where it was found.
#[derive(Debug)]
pub(crate) struct Object {
    /// The file.
    pub(crate) file: String,
    /// The object.
    pub(crate) kind: Kind,
}

/// The object of one of our kinds.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A SendingDomain.
    Domain(Box<SendingDomain>),
    /// A RelayPool.
    Pool(Box<RelayPool>),
    /// A SuppressionList.
    List(Box<SuppressionList>),
}

impl Object {
    /// Its namespace; `None`: that of the context it is applied in.
    pub(crate) fn namespace(&self) -> Option<String> {
        match &self.kind {
            Kind::Domain(domain) => domain.namespace(),
            Kind::Pool(pool) => pool.namespace(),
            Kind::List(list) => list.namespace(),
        }
    }

    /// Kind, namespace and name, for people.
    pub(crate) fn title(&self) -> String {
        let (kind, name) = match &self.kind {
            Kind::Domain(domain) => (SendingDomain::kind(&()), domain.name_any()),
            Kind::Pool(pool) => (RelayPool::kind(&()), pool.name_any()),
            Kind::List(list) => (SuppressionList::kind(&()), list.name_any()),
        };
        title(&kind, self.namespace().as_deref(), &name)
    }

    /// An item about it.
    pub(crate) fn item(&self, check: &'static str, outcome: Outcome) -> Item {
        Item {
            file: self.file.clone(),
            object: self.title(),
            check,
            outcome,
            subject: String::new(),
            wanted: None,
            seen: None,
            message: String::new(),
        }
    }

    /// The item that says its manifest is as it must be.
    pub(crate) fn passed(&self) -> Item {
        self.item("Manifest", Outcome::Passed)
    }
}

/// `Kind namespace/name`, without the namespace where the manifest has none.
pub(crate) fn title(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
