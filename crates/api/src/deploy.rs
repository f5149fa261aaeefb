//! Deploying: the upload, and the stream of what happens until the new version answers.
//!
//! The upload is received whole before anything begins. From then on the deploy runs in a task of its own: it
//! comes to its end, with success or not, whether or not the client is still there to read about it.

use std::time::Duration;

use alula_control as control;
use alula_identity::{Place, Resource, Verb};
use alula_model::{ErrorCode, Fault, Name};
use alula_wire::{DeployEvent, DeployStage, DeployedFunction, ErrorInfo, Overrides, query};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::auth::Actor;
use crate::extract::{self, Query};
use crate::functions::function_url;
use crate::openapi::Binary;
use crate::respond::Answer;
use crate::state::Api;
use crate::{ndjson, upload};

/// Events between a deploy and its client: enough for a burst of build lines.
const EVENTS_LEN_MAX: usize = 256;
/// How long a deploy waits for a client that does not read before it goes on without it.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest message of a publisher, in characters.
const MESSAGE_LEN_MAX: usize = 1_000;
/// Longest name of an uploaded file, in bytes: what file systems allow.
const FILE_NAME_BYTES_MAX: usize = 255;

/// Deploys functions from source
///
/// The body is an archive (tar, tar.gz or zip, told by its content) of a folder with `alula.toml`, or a single
/// source file named by `file`. The answer is newline-delimited JSON, one `DeployEvent` a line; the last line is
/// `deployed` or `failed`. The deploy comes to its end also when the client goes away.
#[utoipa::path(
    post,
    path = "/v1/deploy",
    tag = "functions",
    operation_id = "deploy",
    params(query::Deploy),
    request_body(content = Binary, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "What happens, line by line", body = DeployEvent, content_type = ndjson::MEDIA_TYPE),
        (status = 413, description = "The upload is too large", body = alula_wire::ErrorAnswer),
        (status = 429, description = "Too many deploys at once", body = alula_wire::ErrorAnswer),
    )
)]
pub(crate) async fn deploy(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::Deploy>,
    body: Body,
) -> Answer<Response> {
    let request = Request::read(query)?;
    let slot = api.deploy_slot()?;
    let path = api.options.data_dir.join("tmp").join(format!("upload-{}", (api.parts.ids)()));
    let file = upload::receive(body, path, api.options.package_bytes_max).await?;
    let (events, mut lines) = mpsc::channel(EVENTS_LEN_MAX);
    let tracker = api.deploys.clone();
    tracker.spawn(async move {
        run(&api, &actor, request.upload_of(&file), events).await;
        drop((file, slot));
    });
    Ok(ndjson::answer(stream::poll_fn(move |context| lines.poll_recv(context))))
}

/// A deploy's query, checked.
struct Request {
    namespace: Name,
    file_name: Option<String>,
    overrides: control::Overrides,
    message: String,
    dry_run: control::DryRun,
}

impl Request {
    fn read(query: query::Deploy) -> Result<Self, Fault> {
        let message = query.message.unwrap_or_default();
        if message.chars().count() > MESSAGE_LEN_MAX {
            return Err(invalid(format!("message: at most {MESSAGE_LEN_MAX} characters are allowed")));
        }
        if let Some(file) = &query.file {
            check_file_name(file)?;
        }
        let name = query.name.as_deref().map(|text| extract::name("name", text)).transpose()?;
        let dry_run = if query.dry_run == Some(true) { control::DryRun::Yes } else { control::DryRun::No };
        Ok(Self {
            namespace: extract::namespace(query.namespace.as_deref())?,
            file_name: query.file,
            overrides: overrides(name, query.overrides.as_deref())?,
            message,
            dry_run,
        })
    }

    fn upload_of(self, file: &upload::UploadFile) -> control::Upload {
        control::Upload {
            namespace: self.namespace,
            archive: file.path().to_owned(),
            file_name: self.file_name,
            overrides: self.overrides,
            message: self.message,
            dry_run: self.dry_run,
        }
    }
}

fn check_file_name(file: &str) -> Result<(), Fault> {
    let is_plain = !file.is_empty() && file.len() <= FILE_NAME_BYTES_MAX && !matches!(file, "." | "..");
    if is_plain && !file.contains(['/', '\\']) && !file.chars().any(char::is_control) {
        return Ok(());
    }
    Err(invalid(format!("file: {file:?} is not a file's name: send the last part of its path")))
}

fn overrides(name: Option<Name>, json: Option<&str>) -> Result<control::Overrides, Fault> {
    let stated: Overrides = extract::json_object("overrides", json.unwrap_or("{}").as_bytes())?;
    let fields = serde_json::to_value(&stated).map_err(|error| invalid(format!("overrides: {error}")))?;
    let spec = match fields {
        serde_json::Value::Object(spec) => spec,
        _ => serde_json::Map::new(),
    };
    Ok(control::Overrides { name, spec })
}

fn invalid(message: String) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, message)
}

/// Runs the deploy to its end and tells the client what happens, for as long as it listens.
async fn run(api: &Api, actor: &Actor, upload: control::Upload, events: mpsc::Sender<DeployEvent>) {
    let dry_run = upload.dry_run == control::DryRun::Yes;
    let (progress, reports) = mpsc::channel(EVENTS_LEN_MAX);
    let reach = reach(actor, &upload.namespace);
    let deploy = api.parts.control.deploy_within(reach, actor.by(), upload, progress);
    let (outcome, listens) = tokio::join!(deploy, relay(reports, &events));
    let last = match outcome {
        Ok(deployed) => {
            let describe = |one: &control::Deployed| describe(api, one, dry_run);
            DeployEvent::Deployed { functions: deployed.iter().map(describe).collect() }
        }
        Err(fault) => DeployEvent::Failed { error: ErrorInfo::from(&fault) },
    };
    if listens == Listens::Yes {
        // A client that is gone does not learn the outcome; the list of versions tells it.
        let _ = tokio::time::timeout(CLIENT_PATIENCE, events.send(last)).await;
    }
}

/// All functions of the namespace, or those of the apps in which somebody may deploy.
fn reach(actor: &Actor, namespace: &Name) -> control::Reach {
    let who = actor.principal();
    let may = |place: &Place| who.may(Verb::Write, Resource::Function, place);
    if may(&Place::Namespace(namespace.clone())) {
        return control::Reach::Namespace;
    }
    let here = who.grants().iter().filter(|grant| grant.namespace == *namespace && may(&grant.place()));
    control::Reach::Apps(here.filter_map(|grant| grant.app.clone()).collect())
}

#[derive(PartialEq, Eq)]
enum Listens {
    Yes,
    No,
}

/// Passes reports on. A client that is gone or does not read is left behind, so that the deploy never waits long.
async fn relay(
    mut reports: mpsc::Receiver<control::Progress>,
    events: &mpsc::Sender<DeployEvent>,
) -> Listens {
    let mut listens = Listens::Yes;
    while let Some(report) = reports.recv().await {
        if listens == Listens::Yes {
            let sent = tokio::time::timeout(CLIENT_PATIENCE, events.send(event(report))).await;
            if !matches!(sent, Ok(Ok(()))) {
                listens = Listens::No;
            }
        }
    }
    listens
}

fn event(report: control::Progress) -> DeployEvent {
    match report {
        control::Progress::Stage { function, stage, detail } => {
            let function = function.map(String::from).unwrap_or_default();
            DeployEvent::Stage { function, stage: stage_of(stage), detail }
        }
        control::Progress::Warning { function, text } => {
            DeployEvent::Warning { function: function.into(), text }
        }
        control::Progress::BuildLine { function, text } => {
            DeployEvent::BuildLine { function: function.into(), text }
        }
    }
}

fn stage_of(stage: control::Stage) -> DeployStage {
    match stage {
        control::Stage::Upload => DeployStage::Upload,
        control::Stage::Validate => DeployStage::Validate,
        control::Stage::Build => DeployStage::Build,
        control::Stage::Publish => DeployStage::Publish,
        control::Stage::Ready => DeployStage::Ready,
    }
}

fn describe(api: &Api, deployed: &control::Deployed, dry_run: bool) -> DeployedFunction {
    let version = &deployed.version;
    DeployedFunction {
        namespace: version.key.namespace.to_string(),
        name: version.key.function.to_string(),
        version: version.key.version,
        is_new: deployed.is_new,
        build_cached: deployed.build_cached,
        runtime: version.spec.runtime.clone(),
        package_bytes: version.package_bytes,
        url: function_url(api, &version.key.namespace, &version.key.function),
        dry_run,
        took_ms: u64::try_from(deployed.took.as_millis()).unwrap_or(u64::MAX),
    }
}
