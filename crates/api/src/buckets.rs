//! Buckets and the keys that S3 clients sign with. Objects themselves go over the S3 endpoint.

use alula_bucket::Error;
use alula_model::{ErrorCode, Fault};
use alula_wire::{BucketInfo, BucketKeyInfo, BucketKeyList, BucketList, ErrorAnswer, NewBucketKey, query};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::auth::Actor;
use crate::extract::{self, Path, Query};
use crate::respond::{Answer, store_fault};
use crate::state::Api;

/// Lists buckets
#[utoipa::path(
    get,
    path = "/v1/buckets",
    tag = "buckets",
    operation_id = "list_buckets",
    params(query::InNamespace),
    responses((status = 200, description = "The buckets of the namespace", body = BucketList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<BucketList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let buckets = api.parts.buckets.list(&namespace).await.map_err(fault)?;
    Ok(Json(BucketList { buckets: buckets.into_iter().map(info).collect() }))
}

/// Makes a bucket
#[utoipa::path(
    put,
    path = "/v1/buckets/{bucket}",
    tag = "buckets",
    operation_id = "create_bucket",
    params(("bucket" = String, Path, description = "The bucket"), query::InNamespace),
    responses(
        (status = 200, description = "The bucket", body = BucketInfo),
        (status = 409, description = "There is such a bucket", body = ErrorAnswer),
    )
)]
pub(crate) async fn create(
    State(api): State<Api>,
    actor: Actor,
    Path(bucket): Path<String>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<BucketInfo>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let made = api.parts.buckets.create(&namespace, &bucket, &actor.by()).await.map_err(fault)?;
    Ok(Json(info(made)))
}

/// Removes a bucket
///
/// It must hold no objects and no open uploads.
#[utoipa::path(
    delete,
    path = "/v1/buckets/{bucket}",
    tag = "buckets",
    operation_id = "delete_bucket",
    params(("bucket" = String, Path, description = "The bucket"), query::InNamespace),
    responses(
        (status = 204, description = "The bucket is removed"),
        (status = 404, description = "No such bucket", body = ErrorAnswer),
    )
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    actor: Actor,
    Path(bucket): Path<String>,
    Query(query): Query<query::InNamespace>,
) -> Answer<StatusCode> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    api.parts.buckets.delete(&namespace, &bucket, &actor.by()).await.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists access keys of S3 clients
#[utoipa::path(
    get,
    path = "/v1/bucket-keys",
    tag = "buckets",
    operation_id = "list_bucket_keys",
    params(query::InNamespace),
    responses((status = 200, description = "The keys of the namespace, without their secrets", body = BucketKeyList))
)]
pub(crate) async fn list_keys(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<BucketKeyList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let keys = api.parts.buckets.access_keys(&namespace).await.map_err(fault)?;
    let keys = keys.into_iter().map(|key| BucketKeyInfo {
        id: key.id,
        created_at_ms: key.created_at.as_millis(),
        created_by: key.created_by,
    });
    Ok(Json(BucketKeyList { keys: keys.collect() }))
}

/// Makes an access key of S3 clients
///
/// It reaches every bucket of the namespace. The secret is shown here and never again.
#[utoipa::path(
    post,
    path = "/v1/bucket-keys",
    tag = "buckets",
    operation_id = "create_bucket_key",
    params(query::InNamespace),
    responses((status = 200, description = "The key with its secret", body = NewBucketKey))
)]
pub(crate) async fn create_key(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<NewBucketKey>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let key = api.parts.buckets.create_access_key(&namespace, &actor.by()).await.map_err(fault)?;
    Ok(Json(NewBucketKey { id: key.id, secret: key.secret, endpoint: api.options.s3_url.clone() }))
}

/// Removes an access key of S3 clients
///
/// What it signed is refused from then on.
#[utoipa::path(
    delete,
    path = "/v1/bucket-keys/{id}",
    tag = "buckets",
    operation_id = "delete_bucket_key",
    params(("id" = String, Path, description = "The key's id"), query::InNamespace),
    responses(
        (status = 204, description = "The key is removed"),
        (status = 404, description = "No such key", body = ErrorAnswer),
    )
)]
pub(crate) async fn delete_key(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    Query(query): Query<query::InNamespace>,
) -> Answer<StatusCode> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    match api.parts.buckets.delete_access_key(&namespace, &id, &actor.by()).await.map_err(fault)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            Err(Fault::new(ErrorCode::NotFound, format!("namespace {namespace} has no access key {id:?}"))
                .into())
        }
    }
}

fn info(bucket: alula_bucket::BucketInfo) -> BucketInfo {
    BucketInfo { name: bucket.name.as_str().to_owned(), created_at_ms: bucket.created_at.as_millis() }
}

fn fault(error: Error) -> Fault {
    let code = match &error {
        Error::Store(error) => return store_fault(error),
        Error::NoSuchBucket(_) => ErrorCode::NotFound,
        Error::BucketExists(_) => ErrorCode::Conflict,
        _ => ErrorCode::InvalidRequest,
    };
    Fault::new(code, error.to_string())
}
