//! Secrets of the namespace. Values are set and never read back.

use alula_wire::{MasterKeyRotated, SecretInfo, SecretList, SecretRollback, SecretValue};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// The secrets of the namespace, without their values.
    pub async fn secrets(&self) -> Result<SecretList> {
        self.get(&["v1", "secrets"], &self.here()).await
    }

    /// Sets a new version of a secret, which is in force when this returns.
    pub async fn set_secret(&self, name: &str, value: &SecretValue) -> Result<SecretInfo> {
        self.fetch(self.request(Method::PUT, &["v1", "secrets", name]).query(&self.here()).json(value)).await
    }

    /// Puts an earlier version into force again; without a number the one before.
    pub async fn rollback_secret(&self, name: &str, version: Option<u64>) -> Result<SecretInfo> {
        let request = self.request(Method::POST, &["v1", "secrets", name, "rollback"]).query(&self.here());
        self.fetch(request.json(&SecretRollback { version })).await
    }

    /// Removes a secret that no function uses.
    pub async fn remove_secret(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "secrets", name]).query(&self.here())).await
    }

    /// Replaces the master key: every secret is encrypted again.
    pub async fn rotate_master_key(&self) -> Result<MasterKeyRotated> {
        self.fetch(self.request(Method::POST, &["v1", "master-key", "rotate"])).await
    }
}
