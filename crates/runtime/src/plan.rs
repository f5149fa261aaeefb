//! A version ready to be run: everything a back end needs to start instances of it.

use std::path::PathBuf;

use alula_model::{FunctionSpec, VersionKey};

use crate::SecretValues;

/// An immutable version with its code unpacked. Made once when the version becomes reachable and shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionPlan {
    /// Which version.
    pub key: VersionKey,
    /// What it may use; valid, with the runtime's canonical name.
    pub spec: FunctionSpec,
    /// The folder on this machine that holds the unpacked package; it becomes `/code`, read-only.
    pub code: PathBuf,
    /// The values of the spec's secrets. Empty but where instances are started: whoever starts one puts them in.
    pub secrets: SecretValues,
}

impl VersionPlan {
    /// A plan without the values of secrets.
    #[must_use]
    pub fn new(key: VersionKey, spec: FunctionSpec, code: PathBuf) -> Self {
        Self { key, spec, code, secrets: SecretValues::default() }
    }
}
