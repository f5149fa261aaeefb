//! Secrets, assembled: where the master keys are, who puts values into instances, who replaces instances when values change.

use std::sync::{Arc, OnceLock};

use alula_model::{Fault, InstanceId, SpecError};
use alula_pool::Pool;
use alula_runtime::{Backend, BoxFuture, Bred, SecretValues, Started, VersionPlan};
use alula_vault::{Keyring, Parts, Vault};

use crate::assembly::Core;
use crate::config;
use crate::sources::Sources;
use crate::up::Error;

/// The file of the master keys in the data directory.
const MASTER_KEY_FILE: &str = "master.key";

/// The vault, once there is one: what it is made of is made of back ends.
pub(crate) type LateVault = Arc<OnceLock<Vault>>;

/// Opens the vault, finishes a rotation of the master key that was broken off, and follows what changes.
pub(crate) async fn open(core: &Core, sources: &mut Sources) -> Result<Vault, Error> {
    let keys = master_keys(&core.config.secrets, core.data_dir.path());
    let parts = Parts {
        records: core.store.clone(),
        clock: Arc::clone(&core.clock),
        audit: Arc::new(core.control.clone()),
        keys: keys.map_err(Error::component("the master keys cannot be used"))?,
    };
    let vault = Vault::load(parts).await.map_err(Error::component("secrets cannot be read"))?;
    let _ = core.vault.set(vault.clone());
    match vault.resume_rotation().await {
        Ok(Some(rotated)) => tracing::info!(key = %rotated.key, "a rotation of the master key was finished"),
        Ok(None) => {}
        Err(fault) => {
            tracing::error!(%fault, "a rotation of the master key that was broken off is not finished")
        }
    }
    let followed = vault.clone();
    sources.add(|stop| async move { followed.run(stop).await });
    let (changed, pool) = (vault.clone(), core.pool.clone());
    sources.add(|stop| async move {
        tokio::select! {
            () = renew_on_change(&changed, &pool) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(vault)
}

fn master_keys(
    config: &config::Secrets,
    data_dir: &std::path::Path,
) -> Result<Keyring, alula_vault::KeyringError> {
    if !config.master_key.is_empty() {
        return Keyring::given(config.master_key.text());
    }
    match &config.master_key_file {
        Some(path) => Keyring::open(path),
        None => Keyring::open(&data_dir.join(MASTER_KEY_FILE)),
    }
}

/// Replaces the instances that have another value than the one in force.
async fn renew_on_change(vault: &Vault, pool: &Pool) {
    let mut changes = vault.changes();
    loop {
        let changed = changes.next().await;
        pool.renew(|plan| {
            let mut uses = plan.spec.secrets.iter();
            uses.any(|(_, used)| used.version.is_none() && changed.has(&plan.key.namespace, &used.name))
        });
    }
}

/// A back end whose instances are started with the values of their secrets.
#[derive(Debug, Clone)]
pub(crate) struct WithSecrets<B> {
    pub(crate) vault: LateVault,
    pub(crate) inner: B,
}

impl<B: Backend> WithSecrets<B> {
    fn opened(&self, plan: Arc<VersionPlan>) -> Result<Arc<VersionPlan>, Fault> {
        if plan.spec.secrets.is_empty() {
            return Ok(plan);
        }
        let values = self.vault()?.open(&plan.key.namespace, &plan.spec.secrets)?;
        Ok(Arc::new(VersionPlan { secrets: SecretValues::new(values), ..VersionPlan::clone(&plan) }))
    }

    fn vault(&self) -> Result<&Vault, Fault> {
        let early = || {
            let message = "the platform is starting and has not read the secrets yet";
            Fault::new(alula_model::ErrorCode::SecretUnavailable, message)
        };
        self.vault.get().ok_or_else(early)
    }
}

impl<B: Backend> Backend for WithSecrets<B> {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        if !plan.spec.secrets.is_empty() {
            let refused = |fault: Fault| SpecError { field: "secrets", reason: fault.message };
            self.vault().map_err(refused)?.check(&plan.key.namespace, &plan.spec.secrets)?;
        }
        self.inner.validate(plan)
    }

    fn prepare<'a>(&'a self, plan: &'a VersionPlan) -> BoxFuture<'a, Result<(), Fault>> {
        self.inner.prepare(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(async move { self.inner.start(self.opened(plan)?, id).await })
    }

    fn breed(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        Box::pin(async move { self.inner.breed(self.opened(plan)?, id).await })
    }
}
