//! The platform itself: what it is, what it can run, what runs, what protects it, who did what.

use alula_pool::{Ceiling, InstanceState, InstanceView, Scope, Standing};
use alula_runtime::language::Language;
use alula_wire::{
    CeilingInfo, DoctorReport, Info, InstanceInfo, InstanceList, Protection, RuntimeInfo, RuntimeList,
    SigningKey, Template, TemplateFile, TemplateList, headers, query,
};
use axum::Json;
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Query};
use crate::respond::Answer;
use crate::state::Api;

/// Shows the platform in one look
#[utoipa::path(
    get,
    path = "/v1/info",
    tag = "platform",
    operation_id = "info",
    responses((status = 200, description = "The platform", body = Info))
)]
pub(crate) async fn info(State(api): State<Api>, actor: Actor, _no_query: NoQuery) -> Json<Info> {
    let started_at = api.options.started_at;
    Json(Info {
        version: api.options.version.clone(),
        started_at_ms: started_at.as_millis(),
        uptime_ms: api.parts.clock.now().millis_since(started_at),
        data_plane_url: api.options.data_plane_url.clone(),
        functions: api.parts.control.catalog().load().entries().count() as u64,
        instances: api.parts.pool.counts().ready() as u64,
        in_flight: api.parts.invoker.in_flight() as u64,
        actor: actor.as_str().to_owned(),
        runtimes: runtime_infos(&api),
    })
}

/// Lists the language runtimes
#[utoipa::path(
    get,
    path = "/v1/runtimes",
    tag = "platform",
    operation_id = "list_runtimes",
    responses((status = 200, description = "The runtimes, the unavailable ones with their remedy", body = RuntimeList))
)]
pub(crate) async fn runtimes(State(api): State<Api>, _no_query: NoQuery) -> Json<RuntimeList> {
    Json(RuntimeList { runtimes: runtime_infos(&api) })
}

/// Lists the templates for new functions
#[utoipa::path(
    get,
    path = "/v1/templates",
    tag = "platform",
    operation_id = "list_templates",
    responses((status = 200, description = "The templates with their files", body = TemplateList))
)]
pub(crate) async fn templates(State(api): State<Api>, _no_query: NoQuery) -> Json<TemplateList> {
    // Several versions of one interpreter share a folder and its templates: the first stands for all.
    let mut templates = Vec::new();
    let mut seen = Vec::new();
    for language in api.parts.languages.iter() {
        if !seen.contains(&language.manifest.id) {
            seen.push(language.manifest.id.clone());
            templates.extend(templates_of(language));
        }
    }
    Json(TemplateList { templates })
}

/// Says what this machine gives and what is missing
#[utoipa::path(
    get,
    path = "/v1/doctor",
    tag = "platform",
    operation_id = "doctor",
    responses((status = 200, description = "Each protection and each runtime", body = DoctorReport))
)]
pub(crate) async fn doctor(State(api): State<Api>, _no_query: NoQuery) -> Json<DoctorReport> {
    let report = api.parts.launcher.report();
    let protections: Vec<_> = report
        .protections
        .into_iter()
        .map(|one| Protection { name: one.name.to_owned(), in_force: one.in_force, detail: one.detail })
        .collect();
    let runtimes = runtime_infos(&api);
    let complete = protections.iter().all(|one| one.in_force) && runtimes.iter().all(|one| one.available);
    Json(DoctorReport { complete, protections, runtimes })
}

/// Lists the instances on this node
#[utoipa::path(
    get,
    path = "/v1/instances",
    tag = "platform",
    operation_id = "list_instances",
    params(query::ListInstances),
    responses((status = 200, description = "The instances", body = InstanceList))
)]
pub(crate) async fn instances(
    State(api): State<Api>,
    Query(query): Query<query::ListInstances>,
) -> Answer<Json<InstanceList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let function = query.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let asked = |view: &InstanceView| {
        view.key.namespace == namespace && function.as_ref().is_none_or(|name| *name == view.key.function)
    };
    let mut views = api.parts.pool.instances();
    views.retain(asked);
    views.sort_unstable_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    let is_shown = |standing: &&Standing| match &standing.scope {
        Scope::Node => true,
        Scope::Namespace(name) | Scope::App(name, _) => *name == namespace,
    };
    let standings = api.parts.pool.standings();
    Ok(Json(InstanceList {
        instances: views.iter().map(instance_info).collect(),
        ceilings: standings.iter().filter(is_shown).map(ceiling_info).collect(),
    }))
}

/// Tells the key that requests of the platform are signed with
///
/// Callbacks, destinations and notices carry `X-Alula-Signature: t=SECONDS,v1=HEX`; who has the key can check it.
#[utoipa::path(
    get,
    path = "/v1/signing-key",
    tag = "calls",
    operation_id = "signing_key",
    responses((status = 200, description = "The key, a secret", body = SigningKey))
)]
pub(crate) async fn signing_key(State(api): State<Api>, _no_query: NoQuery) -> Json<SigningKey> {
    Json(SigningKey {
        header: headers::SIGNATURE.to_owned(),
        algorithm: "HMAC-SHA256 of SECONDS, a dot and the body, in hexadecimal".to_owned(),
        key: api.parts.signing_key.clone(),
    })
}

/// A ceiling as the API shows it.
pub(crate) fn ceiling_info(standing: &Standing) -> CeilingInfo {
    let Ceiling { instances, memory_bytes } = standing.ceiling;
    CeilingInfo {
        scope: standing.scope.to_string(),
        instances: standing.instances as u64,
        instances_max: (instances != Ceiling::NONE.instances).then_some(instances as u64),
        memory_bytes: standing.memory_bytes,
        memory_bytes_max: (memory_bytes != Ceiling::NONE.memory_bytes).then_some(memory_bytes),
    }
}

/// An instance as the API shows it.
pub(crate) fn instance_info(view: &InstanceView) -> InstanceInfo {
    InstanceInfo {
        id: view.id.to_string(),
        namespace: view.key.namespace.to_string(),
        function: view.key.function.to_string(),
        version: view.key.version,
        tier: Some(view.tier.into()),
        state: match view.state {
            InstanceState::Idle => alula_wire::InstanceState::Idle,
            InstanceState::Busy => alula_wire::InstanceState::Busy,
            InstanceState::Zygote => alula_wire::InstanceState::Zygote,
        },
        in_flight: view.in_flight.into(),
        memory_bytes: view.usage.memory_bytes,
        cpu_us: view.usage.cpu_us,
        calls: view.calls,
        idle_ms: view.idle_ms,
        age_ms: view.age_ms,
    }
}

fn runtime_infos(api: &Api) -> Vec<RuntimeInfo> {
    api.parts.languages.iter().map(|language| runtime_info(language)).collect()
}

fn runtime_info(language: &Language) -> RuntimeInfo {
    let missing = language.unavailable();
    let wanted = language.manifest.interpreter.as_ref();
    let found = || match &language.interpreter {
        Some(path) => format!("{}, run by {}", language.manifest.description, path.display()),
        None => language.manifest.description.clone(),
    };
    RuntimeInfo {
        name: language.name.clone(),
        aliases: language.aliases.clone(),
        available: missing.is_none(),
        remedy: missing.is_some().then(|| wanted.map(|wanted| wanted.remedy.clone())).flatten(),
        detail: missing.unwrap_or_else(found),
    }
}

fn templates_of(language: &Language) -> impl Iterator<Item = Template> {
    let runtime = language.aliases.first().unwrap_or(&language.name);
    language.manifest.templates.iter().filter_map(move |template| {
        let files = language.template(&template.name)?;
        let file = |file: alula_runtime::language::TemplateFile| {
            let text = String::from_utf8(file.content).ok()?;
            Some(TemplateFile { path: file.path.to_string_lossy().into_owned(), text })
        };
        Some(Template {
            name: template.name.clone(),
            description: template.description.clone(),
            runtime: runtime.clone(),
            handler: template.handler.clone(),
            command: template.command.clone(),
            files: files.into_iter().filter_map(file).collect(),
        })
    })
}
