//! Versions: the list, one, its build log, its package, and what changed between two.

use std::io::{self, Read};

use alula_control as control;
use alula_model::{Name, Qualifier};
use alula_wire::{
    ErrorAnswer, FieldChange, FileChange, FileChangeKind, Version, VersionDiff, VersionList, query,
};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use tokio::task::spawn_blocking;

use crate::extract::{self, Path, Query};
use crate::openapi::Binary;
use crate::respond::{Answer, Problem, text_header};
use crate::state::Api;

/// The media type of packages.
const TAR: &str = "application/x-tar";
/// Bytes of a package that are read at once.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Lists a function's versions
#[utoipa::path(
    get,
    path = "/v1/functions/{name}/versions",
    tag = "versions",
    operation_id = "list_versions",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    responses(
        (status = 200, description = "The versions that are kept, newest first", body = VersionList),
        (status = 404, description = "No such function", body = ErrorAnswer),
    )
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<VersionList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let versions = api.parts.control.versions(&namespace, &name).await?;
    let snapshot = api.parts.control.catalog().load();
    let show = |version: &alula_model::Version| match snapshot.function(&namespace, &name) {
        Some(entry) => Version::new(version, &entry.function),
        None => Version::from(version),
    };
    Ok(Json(VersionList { versions: versions.iter().map(show).collect() }))
}

/// Describes a version
#[utoipa::path(
    get,
    path = "/v1/functions/{name}/versions/{version}",
    tag = "versions",
    operation_id = "describe_version",
    params(
        ("name" = String, Path, description = "The function"),
        ("version" = String, Path, description = "A number, an alias or `latest`"),
        query::InNamespace,
    ),
    responses(
        (status = 200, description = "The version", body = Version),
        (status = 404, description = "No such function or version", body = ErrorAnswer),
    )
)]
pub(crate) async fn describe(
    State(api): State<Api>,
    Path((name, version)): Path<(Name, String)>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<Version>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let found = find(&api, &namespace, &name, &version).await?;
    let snapshot = api.parts.control.catalog().load();
    let function = snapshot.function(&namespace, &name).map(|entry| &entry.function);
    Ok(Json(function.map_or_else(|| Version::from(&found), |function| Version::new(&found, function))))
}

/// Shows a version's build log
#[utoipa::path(
    get,
    path = "/v1/functions/{name}/versions/{version}/build-log",
    tag = "versions",
    operation_id = "build_log",
    params(
        ("name" = String, Path, description = "The function"),
        ("version" = String, Path, description = "A number, an alias or `latest`"),
        query::InNamespace,
    ),
    responses(
        (status = 200, description = "What the build wrote; empty where there was none", body = String, content_type = "text/plain"),
        (status = 404, description = "No such function or version", body = ErrorAnswer),
    )
)]
pub(crate) async fn build_log(
    State(api): State<Api>,
    Path((name, version)): Path<(Name, String)>,
    Query(query): Query<query::InNamespace>,
) -> Answer<String> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let number = find(&api, &namespace, &name, &version).await?.key.version;
    Ok(api.parts.control.build_log(&namespace, &name, number).await?)
}

/// Downloads a version's package
///
/// What runs, dependencies included: the source, or what the build made of it, as a tar archive.
#[utoipa::path(
    get,
    path = "/v1/functions/{name}/versions/{version}/package",
    tag = "versions",
    operation_id = "download_package",
    params(
        ("name" = String, Path, description = "The function"),
        ("version" = String, Path, description = "A number, an alias or `latest`"),
        query::InNamespace,
    ),
    responses(
        (status = 200, description = "The package", body = Binary, content_type = TAR),
        (status = 404, description = "No such function or version", body = ErrorAnswer),
    )
)]
pub(crate) async fn package(
    State(api): State<Api>,
    Path((name, version)): Path<(Name, String)>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Response> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let version = find(&api, &namespace, &name, &version).await?;
    let package = api.parts.control.package(&version.package).await?;
    let file = format!("attachment; filename=\"{name}-{}.tar\"", version.key.version);
    let headers = [
        (CONTENT_TYPE, text_header(TAR)),
        (CONTENT_DISPOSITION, text_header(&file)),
        (CONTENT_LENGTH, package.bytes.into()),
    ];
    Ok((headers, Body::from_stream(pieces(package))).into_response())
}

/// The content, read as fast as it is taken: at no time is more than one piece in memory.
pub(crate) fn pieces(content: impl Read + Send + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(content, |mut content| async move {
        let read = spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let length = content.read(&mut piece)?;
            piece.truncate(length);
            Ok::<_, io::Error>((Bytes::from(piece), content))
        });
        let (piece, content) = read.await.map_err(io::Error::other)??;
        Ok((!piece.is_empty()).then_some((piece, content)))
    })
}

/// Compares two versions
#[utoipa::path(
    get,
    path = "/v1/functions/{name}/diff",
    tag = "versions",
    operation_id = "diff_versions",
    params(("name" = String, Path, description = "The function"), query::Diff),
    responses(
        (status = 200, description = "What differs", body = VersionDiff),
        (status = 404, description = "No such function or version", body = ErrorAnswer),
    )
)]
pub(crate) async fn diff(
    State(api): State<Api>,
    Path(name): Path<Name>,
    Query(query): Query<query::Diff>,
) -> Answer<Json<VersionDiff>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let to = query.to.as_deref().map_or(Ok(Qualifier::Latest), |text| qualifier("to", text))?;
    let from = match query.from.as_deref() {
        Some(text) => qualifier("from", text)?,
        None => before(&api, &namespace, &name, &to).await?,
    };
    let diff = api.parts.control.diff(&namespace, &name, &from, &to).await?;
    Ok(Json(show_diff(diff)))
}

/// A qualifier that stands in the parameter `parameter`.
pub(crate) fn qualifier(parameter: &str, text: &str) -> Answer<Qualifier> {
    text.parse().map_err(|error| Problem::invalid(format!("{parameter}: {error}")))
}

async fn find(api: &Api, namespace: &Name, name: &Name, version: &str) -> Answer<alula_model::Version> {
    let qualifier = qualifier("version", version)?;
    Ok(api.parts.control.version(namespace, name, &qualifier).await?)
}

/// The kept version before the one that `to` means.
async fn before(api: &Api, namespace: &Name, name: &Name, to: &Qualifier) -> Answer<Qualifier> {
    let later = api.parts.control.version(namespace, name, to).await?.key.version;
    let snapshot = api.parts.control.catalog().load();
    let entry = snapshot.function(namespace, name);
    let earlier =
        entry.and_then(|entry| entry.versions.range(..later).next_back().map(|(number, _)| *number));
    let nothing = || Problem::invalid(format!("from: no version before {later} is kept; name one with from"));
    earlier.map(Qualifier::Version).ok_or_else(nothing)
}

fn show_diff(diff: control::VersionDiff) -> VersionDiff {
    let field = |change: control::FieldChange| FieldChange {
        field: change.field,
        from: change.from.map(show_value),
        to: change.to.map(show_value),
    };
    let file = |change: control::FileChange| FileChange {
        path: change.path,
        change: match change.kind {
            control::FileChangeKind::Added => FileChangeKind::Added,
            control::FileChangeKind::Removed => FileChangeKind::Removed,
            control::FileChangeKind::Changed => FileChangeKind::Modified,
        },
        text: change.text,
    };
    VersionDiff {
        from: diff.from,
        to: diff.to,
        spec: diff.fields.into_iter().map(field).collect(),
        files: diff.files.into_iter().map(file).collect(),
    }
}

/// Text as it is, everything else as JSON.
fn show_value(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}
