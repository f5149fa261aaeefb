//! A role in a place.

use alula_model::Name;
use serde::{Deserialize, Serialize};

use crate::role::Role;

/// A role in a namespace, or in one app of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The namespace.
    pub namespace: Name,
    /// Only in this app of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Name>,
    /// The role.
    pub role: Role,
}

/// Where something is that is looked at or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Of the platform, not of a namespace.
    Platform,
    /// Of a namespace as a whole.
    Namespace(Name),
    /// Of an app.
    App(Name, Name),
}

impl Grant {
    /// Whether the grant holds there: one of a namespace holds in its apps, one of an app nowhere else.
    #[must_use]
    pub fn covers(&self, place: &Place) -> bool {
        match place {
            Place::Platform => false,
            Place::Namespace(namespace) => self.app.is_none() && self.namespace == *namespace,
            Place::App(namespace, app) => {
                self.namespace == *namespace && self.app.as_ref().is_none_or(|of| of == app)
            }
        }
    }

    /// Where it holds.
    #[must_use]
    pub fn place(&self) -> Place {
        match &self.app {
            None => Place::Namespace(self.namespace.clone()),
            Some(app) => Place::App(self.namespace.clone(), app.clone()),
        }
    }
}

impl std::fmt::Display for Grant {
    /// `ROLE of NAMESPACE`, `ROLE of NAMESPACE/APP`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.role, self.namespace)?;
        self.app.as_ref().map_or(Ok(()), |app| write!(f, "/{app}"))
    }
}
