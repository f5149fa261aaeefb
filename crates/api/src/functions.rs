//! Functions: the list, one in full, and the end of one.

use std::collections::HashMap;
use std::sync::Arc;

use alula_control::FunctionEntry;
use alula_identity::{Resource, Verb};
use alula_model::{ErrorCode, Fault, Function, FunctionSpec, Name, Run};
use alula_pool::InstanceState;
use alula_store::RunFilter;
use alula_wire::{
    ErrorAnswer, ErrorInfo, FunctionDetail, FunctionPage, FunctionSummary, RecentRuns, Version, query,
};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::auth::Actor;
use crate::extract::{self, Path, Query};
use crate::respond::{Answer, store_fault};
use crate::state::Api;
use crate::system::instance_info;

/// Runs that the summary of a function's last calls looks at.
const RECENT_RUNS: usize = 100;

/// Lists functions
#[utoipa::path(
    get,
    path = "/v1/functions",
    tag = "functions",
    operation_id = "list_functions",
    params(query::ListFunctions),
    responses((status = 200, description = "Functions in the order of their names", body = FunctionPage))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::ListFunctions>,
) -> Answer<Json<FunctionPage>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let limit = extract::limit(query.limit, query::LIMIT_MAX)?;
    let cursor = query.cursor.as_deref().map(|text| extract::name("cursor", text)).transpose()?;
    let (entries, has_more) = {
        let snapshot = api.parts.control.catalog().load();
        let is_behind =
            |entry: &&Arc<FunctionEntry>| cursor.as_ref().is_none_or(|cursor| entry.function.name > *cursor);
        let is_seen = |entry: &&Arc<FunctionEntry>| {
            let place = api.place(namespace.clone(), Some(&entry.function.name));
            actor.principal().may(Verb::Read, Resource::Function, &place)
        };
        let mut rest = snapshot.functions(&namespace).filter(is_behind).filter(is_seen);
        let entries: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        (entries, rest.next().is_some())
    };
    let next = entries.last().filter(|_| has_more).map(|last| last.function.name.to_string());
    let instances = instances_by_function(&api, &namespace);
    api.parts.recorder.flush().await;
    let mut functions = Vec::with_capacity(entries.len());
    for entry in &entries {
        if let Some(look) = look(&api, entry).await? {
            functions.push(look.summary(&api, &instances));
        }
    }
    Ok(Json(FunctionPage { functions, next }))
}

/// Describes a function
///
/// Its latest spec, versions, instances, how its last calls went, and whether it can be called and if not why.
#[utoipa::path(
    get,
    path = "/v1/functions/{name}",
    tag = "functions",
    operation_id = "describe_function",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    responses(
        (status = 200, description = "The function", body = FunctionDetail),
        (status = 404, description = "No such function", body = ErrorAnswer),
    )
)]
pub(crate) async fn describe(
    State(api): State<Api>,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<FunctionDetail>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let entry = {
        let snapshot = api.parts.control.catalog().load();
        snapshot.function(&namespace, &name).cloned().ok_or_else(|| not_found(&namespace, &name))?
    };
    api.parts.recorder.flush().await;
    let look = look(&api, &entry).await?.ok_or_else(|| not_found(&namespace, &name))?;
    let function = look.summary(&api, &instances_by_function(&api, &namespace));
    let versions = entry.versions.keys().rev().filter_map(|number| entry.version(*number));
    let views = api.parts.pool.instances().into_iter();
    Ok(Json(FunctionDetail {
        function,
        spec: look.spec.into(),
        not_invocable: look.obstacle.as_ref().map(ErrorInfo::from),
        versions: versions.map(|version| Version::new(&version, &entry.function)).collect(),
        instances: views
            .filter(|view| view.key.namespace == namespace && view.key.function == name)
            .map(|view| instance_info(&view))
            .collect(),
        recent: RecentRuns::of(&look.runs),
    }))
}

/// Removes a function
///
/// With all its versions and aliases. Calls that run are not cut; the record of its runs and its logs stay.
#[utoipa::path(
    delete,
    path = "/v1/functions/{name}",
    tag = "functions",
    operation_id = "remove_function",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    responses(
        (status = 204, description = "It is removed"),
        (status = 404, description = "No such function", body = ErrorAnswer),
        (status = 409, description = "Somebody changed it at the same time", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
) -> Answer<StatusCode> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    api.parts.control.remove(actor.by(), &namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a function is called on the public port.
pub(crate) fn function_url(api: &Api, namespace: &Name, name: &Name) -> String {
    let base = &api.options.data_plane_url;
    if *namespace == Name::default_namespace() {
        return format!("{base}/function/{name}");
    }
    format!("{base}/function/{name}.{namespace}")
}

/// One function in one line, as it is now.
pub(crate) async fn summary_of(api: &Api, namespace: &Name, name: &Name) -> Result<FunctionSummary, Fault> {
    let entry = api.parts.control.catalog().load().function(namespace, name).cloned();
    let entry = entry.ok_or_else(|| not_found(namespace, name))?;
    api.parts.recorder.flush().await;
    let look = look(api, &entry).await?.ok_or_else(|| not_found(namespace, name))?;
    Ok(look.summary(api, &instances_by_function(api, namespace)))
}

/// A function as it is found now.
struct Look<'a> {
    entry: &'a FunctionEntry,
    spec: &'a FunctionSpec,
    /// Its last runs, newest first.
    runs: Vec<Run>,
    /// Why it cannot be called.
    obstacle: Option<Fault>,
}

/// Looks at a function and at its last runs; those that are still being recorded must have been flushed.
async fn look<'a>(api: &Api, entry: &'a FunctionEntry) -> Result<Option<Look<'a>>, Fault> {
    let Some(spec) = latest_spec(entry) else { return Ok(None) };
    let runs = recent_runs(api, &entry.function).await?;
    let obstacle = not_invocable(api, spec).or_else(|| failed_start(&runs, entry.function.latest));
    Ok(Some(Look { entry, spec, runs, obstacle }))
}

impl Look<'_> {
    fn summary(&self, api: &Api, instances: &HashMap<Name, u64>) -> FunctionSummary {
        let function = &self.entry.function;
        FunctionSummary {
            url: function_url(api, &function.namespace, &function.name),
            invocable: self.obstacle.is_none(),
            instances: instances.get(&function.name).copied().unwrap_or(0),
            ..FunctionSummary::new(function, self.spec)
        }
    }
}

fn latest_spec(entry: &FunctionEntry) -> Option<&FunctionSpec> {
    entry.versions.get(&entry.function.latest).map(|plan| &plan.spec)
}

pub(crate) fn not_found(namespace: &Name, name: &Name) -> Fault {
    Fault::new(ErrorCode::FunctionNotFound, format!("no function {name} in namespace {namespace}"))
}

/// Why functions with this spec cannot be called on this machine now.
fn not_invocable(api: &Api, spec: &FunctionSpec) -> Option<Fault> {
    match api.parts.languages.get(&spec.runtime) {
        Some(language) => language.unavailable().map(|why| Fault::new(ErrorCode::RuntimeUnavailable, why)),
        None => {
            let message = format!("this machine does not have the runtime {}", spec.runtime);
            Some(Fault::new(ErrorCode::RuntimeUnavailable, message))
        }
    }
}

fn instances_by_function(api: &Api, namespace: &Name) -> HashMap<Name, u64> {
    let mut counts = HashMap::new();
    for view in api.parts.pool.instances() {
        if view.key.namespace == *namespace && view.state != InstanceState::Zygote {
            *counts.entry(view.key.function).or_insert(0) += 1;
        }
    }
    counts
}

/// Why the last call of the version in force got no instance, where that is how it ended: the next one will most
/// likely end the same way.
fn failed_start(runs: &[Run], latest: u64) -> Option<Fault> {
    let last = runs.iter().find(|run| run.key.version == latest)?;
    let code = last.error.filter(|code| matches!(code, ErrorCode::InitFailed | ErrorCode::InitTimeout))?;
    let why = last.message.as_deref().unwrap_or("no reason is known");
    Some(Fault::new(code, format!("its last start failed: {why}")))
}

/// The last runs of a function, newest first; none where the store does not answer, since the function is known all the same.
async fn recent_runs(api: &Api, function: &Function) -> Result<Vec<Run>, Fault> {
    let filter = RunFilter {
        namespace: Some(function.namespace.clone()),
        function: Some(function.name.clone()),
        limit: RECENT_RUNS,
        ..RunFilter::default()
    };
    match api.parts.history.list(filter).await {
        Ok(page) => Ok(page.runs),
        Err(error) if error.is_retryable() => Ok(Vec::new()),
        Err(error) => Err(store_fault(&error)),
    }
}
