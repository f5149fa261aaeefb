//! The name, unit and meaning of every metric. Names do not change once released; counters get `_total` appended by
//! the format, and units are appended to the names here.

/// A metric's name and what it says.
pub(super) type Description = (&'static str, &'static str);

/// Labels: namespace, function, status, blame.
pub(super) const CALLS: Description =
    ("alula_function_calls", "Calls that have ended, by how and, where they failed, by who has to act");
/// Labels: namespace, function.
pub(super) const IN_FLIGHT: Description =
    ("alula_function_in_flight", "Calls that are running or waiting now");
/// Labels: namespace, function.
pub(super) const DURATION: Description =
    ("alula_function_duration_seconds", "Time from the arrival of a call to the last byte of its answer");
/// Labels: namespace, function.
pub(super) const RUN_TIME: Description =
    ("alula_function_run_seconds", "Time that the handler took, to the last byte of its answer");
/// Labels: namespace, function.
pub(super) const QUEUE_TIME: Description =
    ("alula_function_queue_seconds", "Time that calls waited for a slot that others held");
/// Labels: namespace, function.
pub(super) const COLD_STARTS: Description =
    ("alula_function_cold_starts", "Calls for which an instance was started from nothing");
/// Labels: namespace, function, phase (`start`, `init`).
pub(super) const START_TIME: Description = (
    "alula_function_start_seconds",
    "Time to make an instance: the sandbox and its process, then loading the code",
);
/// Labels: namespace, function.
pub(super) const REQUEST_BYTES: Description =
    ("alula_function_request_bytes", "Bytes of request bodies that were read");
/// Labels: namespace, function.
pub(super) const RESPONSE_BYTES: Description =
    ("alula_function_response_bytes", "Bytes of response bodies that were passed on");
/// Labels: state.
pub(super) const INSTANCES: Description = ("alula_instances", "Instances on this node, by state");
/// Labels: listener (`public`, `control`).
pub(super) const HTTP_CONNECTIONS: Description = ("alula_http_connections", "Open connections, by listener");
/// Labels: outcome (`built`, `cached`, `failed`).
pub(super) const BUILDS: Description = ("alula_builds", "Build steps of deployed code, by outcome");
/// No labels.
pub(super) const FUNCTIONS_CALLED: Description =
    ("alula_functions_called", "Functions that were called within the last day");
/// No labels.
pub(super) const FUNCTIONS_SHARING: Description = (
    "alula_functions_without_series",
    "Functions that were called within the last day and are counted in the series _other",
);
/// No labels.
pub(super) const USAGE_DROPPED: Description = (
    "alula_usage_dropped",
    "Times that the usage of a function was lost because the store did not answer for days",
);
/// No labels.
pub(super) const LOG_LINES_DROPPED: Description =
    ("alula_log_lines_dropped", "Log lines that came faster than they could be stored");
/// No labels.
pub(super) const RUNS_DROPPED: Description =
    ("alula_runs_dropped", "Run records that came faster than they could be stored");
/// Labels: severity (`info`, `warning`, `critical`).
pub(super) const ALARMS_FIRING: Description = ("alula_alarms_firing", "Alarms that fire now, by severity");
/// Labels: outcome (`sent`, `failed`, `dropped`).
pub(super) const ALARM_MESSAGES: Description =
    ("alula_alarm_messages", "Messages about alarms, by what became of them");
/// Labels: outcome (`admitted`, `missed`, `overlap`, `refused`). Slots that are skipped together count once.
pub(super) const SCHEDULE_SLOTS: Description =
    ("alula_schedule_slots", "Slots of schedules, by what became of them");
/// No labels.
pub(super) const SCHEDULE_LATENESS: Description =
    ("alula_schedule_lateness_seconds", "Time from a slot to the durable call that it became");
/// No labels.
pub(super) const SCHEDULE_FAILURES: Description =
    ("alula_schedule_failures", "Slots that could not be admitted at once and were tried again");
/// No labels.
pub(super) const SCHEDULE_NOT_READY: Description =
    ("alula_schedule_not_ready", "Slots for which it was known ahead that no instance would be ready");
/// No labels.
pub(super) const SCHEDULES: Description = ("alula_schedules", "Schedules in force");
/// Labels: method, status (`2xx`, `3xx`, `4xx`, `5xx`).
pub(super) const BUCKET_REQUESTS: Description =
    ("alula_bucket_requests", "Requests of S3 clients, by method and status of the answer");
/// No labels.
pub(super) const BUCKET_RECEIVED: Description =
    ("alula_bucket_received_bytes", "Bytes of objects that S3 clients have sent");
/// No labels.
pub(super) const BUCKET_SENT: Description =
    ("alula_bucket_sent_bytes", "Bytes of objects that S3 clients have got");
/// Labels: change (`put`, `delete`).
pub(super) const BUCKET_EVENTS: Description =
    ("alula_bucket_events", "Calls that changes of objects have made, by what happened to the object");
/// Labels: change (`put`, `delete`).
pub(super) const FOLDER_EVENTS: Description =
    ("alula_folder_events", "Files of watched folders that became calls, by what happened to them");
/// No labels.
pub(super) const FOLDER_FAILURES: Description = (
    "alula_folder_failures",
    "Times that a folder could not be watched or a call not be handed in, and it was tried again",
);
/// No labels.
pub(super) const FOLDERS: Description = ("alula_folders", "Triggers of folders in force");
/// Labels: namespace.
pub(super) const EGRESS_OPEN: Description =
    ("alula_egress_connections_open", "Connections of functions to the outside that are open, by namespace");
/// Labels: namespace.
pub(super) const EGRESS_OPENED: Description =
    ("alula_egress_connections_opened", "Connections of functions to the outside, by namespace");
/// Labels: namespace, rule.
pub(super) const EGRESS_REFUSED: Description = (
    "alula_egress_refused",
    "Connections to the outside that were refused, by namespace and by the rule or limit",
);
/// Labels: namespace, direction.
pub(super) const EGRESS_BYTES: Description =
    ("alula_egress_bytes", "Bytes of ended connections to the outside, by namespace and direction");
/// No labels.
pub(super) const EGRESS_SHED: Description = (
    "alula_egress_log_lines_shed",
    "Log lines about connections that were left out because there were too many",
);
/// Labels: kind.
pub(super) const BROKER_RECEIVED: Description =
    ("alula_broker_records_received", "Records that came from brokers, by the kind of broker");
/// Labels: kind, end.
pub(super) const BROKER_ENDED: Description = (
    "alula_broker_records_ended",
    "Records of brokers that came to an end, by kind and by what became of them",
);
/// Labels: kind.
pub(super) const BROKER_FAILED: Description =
    ("alula_broker_records_failed", "Failed attempts of records of brokers, by the kind of broker");
/// Labels: trigger, kind.
pub(super) const BROKER_CONNECTED: Description =
    ("alula_broker_connected", "Whether a trigger is connected to its broker: 1, or 0");
/// Labels: trigger, kind.
pub(super) const BROKER_LAG: Description =
    ("alula_broker_lag", "Records that wait at the broker of a trigger, where the broker tells");
/// Labels: class.
pub(super) const ASYNC_ACCEPTED: Description =
    ("alula_async_accepted", "Asynchronous calls that were accepted, by the class of their lane");
/// No labels.
pub(super) const ASYNC_REFUSED: Description =
    ("alula_async_refused", "Asynchronous calls that were refused before they were accepted");
/// Labels: class.
pub(super) const ASYNC_WAIT_TIME: Description = (
    "alula_async_wait_seconds",
    "Time from when an asynchronous call could first have been taken from the queue until it was",
);
/// Labels: namespace, function.
pub(super) const ASYNC_ENDED: Description =
    ("alula_async_ended", "Asynchronous calls that ended well or were stopped");
/// Labels: class.
pub(super) const ASYNC_RETRIED: Description =
    ("alula_async_retried", "Attempts of asynchronous calls that failed and are followed by another");
/// Labels: namespace, function.
pub(super) const ASYNC_DEAD: Description = ("alula_async_dead", "Asynchronous calls that were given up");
/// Labels: class.
pub(super) const ASYNC_DEPTH: Description =
    ("alula_async_depth", "Asynchronous calls and deliveries that wait or run now");
/// Labels: class.
pub(super) const ASYNC_OLDEST: Description =
    ("alula_async_oldest_seconds", "Age of the oldest asynchronous call or delivery that waits or runs");
/// No labels.
pub(super) const ASYNC_IMBALANCE: Description = (
    "alula_async_imbalance",
    "Messages that were accepted less those that are there or accounted for: zero, or there is a defect",
);
/// Labels: namespace, function, version, scope.
pub(super) const BREAKER_STATE: Description = (
    "alula_breaker_state",
    "What a breaker does: 0 closed, 1 throttled, 2 half-open, 3 open; those that never left closed have none",
);
/// Labels: namespace, function, to.
pub(super) const BREAKER_CHANGES: Description =
    ("alula_breaker_changes", "Changes of breakers, by the state that they went to");
/// Labels: namespace, function, reason.
pub(super) const DEGRADED: Description =
    ("alula_degraded_answers", "Degraded answers that were given in place of a function's own, by why");
