//! Secrets of a namespace. Values come in and never go out.

use std::collections::BTreeSet;

use alula_model::{Fault, Name, SecretName, SecretUse};
use alula_wire as wire;
use alula_wire::{ErrorAnswer, MasterKeyRotated, SecretInfo, SecretList, SecretRollback, SecretValue, query};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use zeroize::Zeroizing;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path, Query};
use crate::respond::{Answer, Problem};
use crate::state::Api;

/// Lists secrets
#[utoipa::path(
    get,
    path = "/v1/secrets",
    tag = "secrets",
    operation_id = "list_secrets",
    params(query::InNamespace),
    responses((status = 200, description = "The secrets of the namespace, without their values", body = SecretList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<SecretList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let secrets = api.parts.vault.list(&namespace);
    Ok(Json(SecretList {
        secrets: secrets.iter().map(|secret| api.secret_info(&namespace, secret)).collect(),
    }))
}

/// Sets a secret
///
/// Each time makes a new version, which is in force at once: instances that have the old one are replaced, and their running
/// calls end with it. Ten versions are kept.
#[utoipa::path(
    put,
    path = "/v1/secrets/{secret}",
    tag = "secrets",
    operation_id = "set_secret",
    params(("secret" = String, Path, description = "The secret's name"), query::InNamespace),
    request_body = SecretValue,
    responses(
        (status = 200, description = "What is known of it now", body = SecretInfo),
        (status = 409, description = "Somebody else changed secrets at the same time, or functions name every version that \
            is kept", body = ErrorAnswer),
        (status = 413, description = "The value is too long, or the namespace has too many", body = ErrorAnswer),
    )
)]
pub(crate) async fn set(
    State(api): State<Api>,
    actor: Actor,
    Path(secret): Path<String>,
    Query(query): Query<query::InNamespace>,
    request: Result<extract::Json<SecretValue>, Problem>,
) -> Answer<Json<SecretInfo>> {
    // What is wrong with a body is told with parts of it, and this one is a secret.
    let malformed = |_| Problem::invalid("body: an object with the text `value` is expected".to_owned());
    let value = Zeroizing::new(request.map_err(malformed)?.0.value);
    let (namespace, name) = place(&query, &secret)?;
    let pinned = api.pinned(&namespace, &name);
    let set = api.parts.vault.set(&actor.by(), (&namespace, &name), value, &pinned).await?;
    Ok(Json(api.secret_info(&namespace, &set)))
}

/// Puts an earlier version of a secret into force again
#[utoipa::path(
    post,
    path = "/v1/secrets/{secret}/rollback",
    tag = "secrets",
    operation_id = "rollback_secret",
    params(("secret" = String, Path, description = "The secret's name"), query::InNamespace),
    request_body = SecretRollback,
    responses(
        (status = 200, description = "What is known of it now", body = SecretInfo),
        (status = 404, description = "No such secret, or no such version of it", body = ErrorAnswer),
    )
)]
pub(crate) async fn rollback(
    State(api): State<Api>,
    actor: Actor,
    Path(secret): Path<String>,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<SecretRollback>,
) -> Answer<Json<SecretInfo>> {
    let (namespace, name) = place(&query, &secret)?;
    let now = api.parts.vault.rollback(&actor.by(), (&namespace, &name), request.version).await?;
    Ok(Json(api.secret_info(&namespace, &now)))
}

/// Removes a secret with all its versions
#[utoipa::path(
    delete,
    path = "/v1/secrets/{secret}",
    tag = "secrets",
    operation_id = "remove_secret",
    params(("secret" = String, Path, description = "The secret's name"), query::InNamespace),
    responses(
        (status = 204, description = "It is removed"),
        (status = 404, description = "No such secret", body = ErrorAnswer),
        (status = 409, description = "Functions use it", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    actor: Actor,
    Path(secret): Path<String>,
    Query(query): Query<query::InNamespace>,
) -> Answer<StatusCode> {
    let (namespace, name) = place(&query, &secret)?;
    let users = api.users_of(&namespace, &name);
    if !users.is_empty() {
        let message = format!("secret {name} is used by {}; deploy them without it first", users.join(", "));
        return Err(Fault::new(alula_model::ErrorCode::Conflict, message).into());
    }
    api.parts.vault.remove(&actor.by(), (&namespace, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces the master key
///
/// Every secret is encrypted again under the new key. Functions notice nothing, and nothing is lost should the platform be
/// killed meanwhile.
#[utoipa::path(
    post,
    path = "/v1/master-key/rotate",
    tag = "secrets",
    operation_id = "rotate_master_key",
    responses((status = 200, description = "It is replaced", body = MasterKeyRotated))
)]
pub(crate) async fn rotate_master(
    State(api): State<Api>,
    actor: Actor,
    _no_query: NoQuery,
) -> Answer<Json<MasterKeyRotated>> {
    let rotated = api.parts.vault.rotate_master(&actor.by()).await?;
    Ok(Json(MasterKeyRotated { key: rotated.key, secrets: rotated.secrets as u64 }))
}

fn place(query: &query::InNamespace, secret: &str) -> Result<(Name, SecretName), Fault> {
    let invalid = |error: alula_model::SecretNameError| {
        Fault::new(alula_model::ErrorCode::InvalidRequest, error.to_string())
    };
    Ok((extract::namespace(query.namespace.as_deref())?, SecretName::new(secret).map_err(invalid)?))
}

impl Api {
    fn secret_info(&self, namespace: &Name, secret: &alula_vault::SecretInfo) -> SecretInfo {
        let version = |version: &alula_vault::VersionInfo| wire::SecretVersion {
            number: version.number,
            set_at_ms: version.set_at.as_millis(),
            set_by: version.set_by.clone(),
        };
        SecretInfo {
            name: secret.name.to_string(),
            current: secret.current,
            versions: secret.versions.iter().map(version).collect(),
            used_by: self.users_of(namespace, &secret.name),
        }
    }

    /// The functions whose `latest` or an alias names the secret.
    fn users_of(&self, namespace: &Name, name: &SecretName) -> Vec<String> {
        let snapshot = self.parts.control.catalog().load();
        let uses =
            |plan: &alula_runtime::VersionPlan| plan.spec.secrets.iter().any(|(_, used)| used.name == *name);
        let entries = snapshot.entries().filter(|entry| entry.function.namespace == *namespace);
        let users = entries.filter(|entry| entry.named_plans().any(|plan| uses(plan)));
        users.map(|entry| entry.function.name.to_string()).collect()
    }

    /// The versions of the secret that kept versions of functions name by number.
    fn pinned(&self, namespace: &Name, name: &SecretName) -> BTreeSet<u64> {
        let snapshot = self.parts.control.catalog().load();
        let entries = snapshot.entries().filter(|entry| entry.function.namespace == *namespace);
        let pin = |(_, used): (&str, &SecretUse)| used.version.filter(|_| used.name == *name);
        entries
            .flat_map(|entry| entry.versions.values())
            .flat_map(|plan| plan.spec.secrets.iter().filter_map(pin).collect::<Vec<_>>())
            .collect()
    }
}
