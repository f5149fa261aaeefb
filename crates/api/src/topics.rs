//! Topics: publishing, the list, replays.

use alula_invoke::cloudevents::BATCH_LEN_MAX;
use alula_model::{ErrorCode, Fault, Name, Timestamp};
use alula_trigger::topic::{
    EVENT_BYTES_MAX, Publication, Published, Replay, Request, SubscriptionView, TopicView,
};
use alula_wire::{
    ErrorAnswer, PublishAnswer, PublishedEvent, ReplayAnswer, ReplayRequest, SubscriptionInfo, TopicInfo,
    TopicList, query,
};
use axum::extract::State;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::extract::{self, Json, Path, Query};
use crate::respond::{Answer, Problem};
use crate::state::Api;

/// Largest request with events, in bytes: some of the largest, or a full batch of usual ones.
const EVENTS_BYTES_MAX: usize = 6 * 1024 * 1024;
const _: () = assert!(EVENTS_BYTES_MAX > EVENT_BYTES_MAX && EVENTS_BYTES_MAX / BATCH_LEN_MAX > 16 * 1024);

/// Publishes events
///
/// The body is CloudEvents (binary, structured or batch), or anything else, which becomes the content of one event; then
/// `Idempotency-Key` names it, `X-Alula-Event-Type` is its type and `X-Alula-Ordering-Key` its `partitionkey`. The events and
/// the calls that they make are durable when the answer comes: all of them or none.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/events",
    tag = "topics",
    operation_id = "publish",
    params(("topic" = String, Path, description = "The topic, which need not exist"), query::InNamespace),
    request_body(content(
        (serde_json::Value = "application/json"),
        (serde_json::Value = "application/cloudevents+json"),
        (serde_json::Value = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "What became of each event", body = PublishAnswer),
        (status = 400, description = "Not a CloudEvent, although it says so", body = ErrorAnswer),
        (status = 413, description = "An event or the whole is too large", body = ErrorAnswer),
    )
)]
pub(crate) async fn publish(
    State(api): State<Api>,
    Path(topic): Path<Name>,
    Query(query): Query<query::InNamespace>,
    request: axum::extract::Request,
) -> Answer<(StatusCode, axum::Json<PublishAnswer>)> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let (mut parts, body) = request.into_parts();
    let lineage = api.parts.invoker.seal().take(&mut parts.headers);
    let content = Limited::new(body, EVENTS_BYTES_MAX).collect().await.map_err(of_body)?.to_bytes();
    let (id, at) = ((api.parts.ids)(), api.parts.clock.now());
    let sent = Request { id: &id, at, headers: &parts.headers, content: &content };
    let publication = Publication::of_request(namespace, topic, sent, lineage)?;
    let published = api.parts.topics.publish(&publication).await?;
    let event =
        |Published { id, calls, is_repeat }| PublishedEvent { id, calls: calls as u64, repeated: is_repeat };
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(PublishAnswer { events: published.into_iter().map(event).collect() }),
    ))
}

fn of_body(error: Box<dyn std::error::Error + Send + Sync>) -> Problem {
    if error.downcast_ref::<LengthLimitError>().is_some() {
        let message = format!("the request has more than the {EVENTS_BYTES_MAX} bytes that events may have");
        let limit = EVENTS_BYTES_MAX as u64;
        return Fault::limit(ErrorCode::RequestTooLarge, message, "EVENTS_BYTES_MAX", limit, "fixed").into();
    }
    Fault::new(ErrorCode::CallerGone, "the request broke off").into()
}

/// Lists topics
///
/// Those that somebody has published to or listens to.
#[utoipa::path(
    get,
    path = "/v1/topics",
    tag = "topics",
    operation_id = "list_topics",
    params(query::InNamespace),
    responses((status = 200, description = "Topics in the order of their names", body = TopicList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<axum::Json<TopicList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let subscription = |SubscriptionView { key, filter, is_enabled }| SubscriptionInfo {
        function: key.function.to_string(),
        trigger: key.trigger.to_string(),
        filter,
        enabled: is_enabled,
    };
    let topic = |TopicView { name, subscriptions }: TopicView| TopicInfo {
        name: name.to_string(),
        subscriptions: subscriptions.into_iter().map(subscription).collect(),
    };
    let topics = api.parts.topics.list(&namespace).await?.into_iter().map(topic).collect();
    Ok(axum::Json(TopicList { topics, event_keep_ms: api.parts.topics.event_keep_ms() }))
}

/// Replays events
///
/// Hands events out again, in their order, to the functions that listen now. Events are kept for `event_keep_ms`.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/replay",
    tag = "topics",
    operation_id = "replay",
    params(("topic" = String, Path, description = "The topic"), query::InNamespace),
    request_body = ReplayRequest,
    responses((status = 200, description = "What was handed out", body = ReplayAnswer))
)]
pub(crate) async fn replay(
    State(api): State<Api>,
    Path(topic): Path<Name>,
    Query(query): Query<query::InNamespace>,
    Json(request): Json<ReplayRequest>,
) -> Answer<axum::Json<ReplayAnswer>> {
    let function = request.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let replay = Replay {
        id: (api.parts.ids)(),
        namespace: extract::namespace(query.namespace.as_deref())?,
        topic,
        since: Timestamp(request.since_ms),
        until: request.until_ms.map(Timestamp),
        function,
    };
    let done = api.parts.topics.replay(&replay).await?;
    Ok(axum::Json(ReplayAnswer { id: replay.id.to_string(), events: done.events, calls: done.calls }))
}
