//! Replacing the master key: every data key is sealed again, and no moment exists in which a secret cannot be opened.
//!
//! 1. The new key is put before the old ones in the file. From here on it seals, and all of them open.
//! 2. Secrets are sealed again, some in one commit. Who is killed here has secrets under either key and both keys.
//! 3. When nothing is under an old key any more, the old keys leave the file.
//!
//! What was broken off is finished by the next rotation, and at the next start. Where the operator gives the keys, the
//! operator does the first and the last step, and this does the second.

use alula_model::{By, ErrorCode, Fault};

use crate::keyring::{Keyring, KeyringError};
use crate::record::SecretRecord;
use crate::vault::{Change, Doing, Vault};

/// Secrets that one commit seals again: far below what a batch of the store holds, so that changes by others come between.
const PER_COMMIT: usize = 50;
/// Commits that are tried again after somebody else changed a secret.
const CONFLICTS_MAX: usize = 20;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The name of the key that seals now.
    pub key: String,
    /// Secrets that were sealed again.
    pub secrets: usize,
}

impl Vault {
    /// Makes a new master key and seals everything again. With keys that the operator gives, everything is sealed again
    /// with the first of them.
    pub async fn rotate_master(&self, by: &By) -> Result<Rotated, Fault> {
        let _rotating = self.shared.rotating.lock().await;
        let keys = self.keys();
        match keys.with_new() {
            Ok(next) => self.use_keys(next),
            Err(KeyringError::Given) => {}
            Err(error) => return Err(unwritable(&error)),
        }
        self.finish_rotation(by).await
    }

    /// Finishes a rotation that was broken off, where there is one.
    pub async fn resume_rotation(&self) -> Result<Option<Rotated>, Fault> {
        let _rotating = self.shared.rotating.lock().await;
        if !self.keys().has_older() {
            return Ok(None);
        }
        let by = By { name: "platform".to_owned(), from: None };
        Ok(Some(self.finish_rotation(&by).await?))
    }

    async fn finish_rotation(&self, by: &By) -> Result<Rotated, Fault> {
        let keys = self.keys();
        let (mut secrets, mut conflicts) = (0, 0);
        loop {
            match self.reseal_some(by, &keys).await {
                Ok(0) => break,
                Ok(some) => secrets += some,
                Err(fault) if fault.code == ErrorCode::Conflict && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    self.follow_now().await?;
                }
                Err(fault) => return Err(fault),
            }
        }
        let next = keys.without_older().map_err(|error| unwritable(&error))?;
        let key = next.sealing().map(|key| key.id().to_owned()).map_err(|error| unwritable(&error))?;
        self.use_keys(next);
        tracing::info!(%key, secrets, "the master key was replaced");
        Ok(Rotated { key, secrets })
    }

    /// Seals some secrets again that are under an older key; says how many.
    async fn reseal_some(&self, by: &By, keys: &Keyring) -> Result<usize, Fault> {
        let mut seen = self.shared.changing.lock().await;
        let directory = self.directory();
        let is_old = |record: &&std::sync::Arc<SecretRecord>| {
            record.versions.iter().any(|version| !version.sealed.is_current(keys))
        };
        let old = directory.0.values().filter(is_old).take(PER_COMMIT);
        let changes = old.map(|record| resealed(record, keys)).collect::<Result<Vec<_>, _>>()?;
        let count = changes.len();
        if count > 0 {
            let detail = format!("{count} secrets are under the new master key");
            let doing = Doing {
                by,
                action: "secret.rotate-master",
                subject: "platform/master-key".to_owned(),
                detail,
            };
            self.commit_all(&mut seen, doing, changes).await?;
        }
        Ok(count)
    }
}

fn resealed(record: &SecretRecord, keys: &Keyring) -> Result<Change, Fault> {
    let mut next = record.clone();
    for version in &mut next.versions {
        if !version.sealed.is_current(keys) {
            version.sealed = version.sealed.resealed(record.place(version.number), keys).map_err(|error| {
                let (namespace, name, number) = (&record.namespace, &record.name, version.number);
                tracing::error!(%namespace, %name, number, %error, "a secret cannot be sealed again");
                let message = format!(
                    "version {number} of secret {name} in namespace {namespace} cannot be decrypted ({error}), so the old \
                     keys stay; set the secret anew or remove it, then rotate again"
                );
                Fault::new(ErrorCode::SecretUnavailable, message)
            })?;
        }
    }
    Ok(Change { namespace: next.namespace.clone(), name: next.name.clone(), record: Some(next) })
}

fn unwritable(error: &KeyringError) -> Fault {
    tracing::error!(error = %chain(error), "the master key cannot be replaced");
    let message = format!("the master key cannot be replaced: {error}; everything opens as before");
    Fault::new(ErrorCode::SecretUnavailable, message)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
