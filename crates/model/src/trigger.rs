//! Triggers as data: what makes a function run besides somebody who calls it.
//!
//! A trigger belongs to a version's spec and is published with it; those of `latest` are in force. Checked here is what can
//! be checked without knowing zones, patterns or servers; the rest is checked by whoever watches the source, at deploy.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits;
use crate::name::Name;
use crate::spec::SpecError;

/// One trigger of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name, unique in the function.
    pub name: Name,
    /// Which version it calls: a number, an alias, or `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// Whether it fires; one that does not keeps its place in its source.
    #[serde(default = "defaults::yes", skip_serializing_if = "Clone::clone")]
    pub enabled: bool,
    /// What it watches.
    #[serde(flatten)]
    pub source: Source,
}

/// JSON has no value that differs from itself, so equality is total.
impl Eq for Trigger {}

/// What a trigger watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Source {
    /// The clock.
    Schedule(ScheduleSource),
    /// A topic of the platform.
    Topic(TopicSource),
    /// Signed requests of an outside service, under `/webhook/NAMESPACE/FUNCTION/TRIGGER`.
    Webhook(WebhookSource),
    /// Subjects of NATS, or a stream of JetStream.
    Nats(NatsSource),
    /// Topics of an MQTT broker.
    Mqtt(MqttSource),
    /// A queue of an AMQP 0.9.1 broker.
    Amqp(AmqpSource),
    /// A stream of Redis.
    Redis(RedisSource),
    /// Notifications of PostgreSQL.
    Postgres(PostgresSource),
    /// Topics of Kafka.
    Kafka(KafkaSource),
    /// Objects of a bucket of the platform.
    Bucket(BucketSource),
    /// Files of a folder of the machine.
    Folder(FolderSource),
}

/// Fires by the clock. Exactly one of `cron`, `every` and `at` is stated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSource {
    /// Five fields, six with seconds first, seven with years last, or `@daily` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A fixed distance, such as `90s` or `1h 30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Once, at an RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The IANA time zone that `cron` is read in; UTC where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What happens with slots that nobody was there for.
    #[serde(default)]
    pub missed: Missed,
    /// The most slots that `missed = "all"` makes up for.
    #[serde(default = "defaults::missed_max")]
    pub missed_max: u32,
    /// What happens where the run of the slot before has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// Runs begin up to this much later, at random, in milliseconds.
    #[serde(default)]
    pub jitter_ms: u64,
    /// The event that the function gets; without one, what the schedule itself says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
}

/// What happens with slots that nobody was there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// They are skipped.
    Skip,
    /// The last of them runs.
    #[default]
    Latest,
    /// All run, the newest `missed_max`.
    All,
}

/// What happens where the run of the slot before has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// Both run.
    #[default]
    Allow,
    /// The new slot is skipped.
    Forbid,
    /// The old run is cancelled.
    Replace,
}

/// Events of a topic of the same namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSource {
    /// The topic.
    pub topic: Name,
    /// Which events: a pattern over attributes and content, in EventBridge's language; all where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
}

/// Signed requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSource {
    /// How requests are signed.
    pub signature: Signature,
    /// The variable of the function's `env` that holds the secret.
    pub secret_env: String,
    /// The header with the signature, for `hmac`, or with the secret, for `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether the sender waits for the function's answer rather than for the event being stored.
    #[serde(default)]
    pub wait: bool,
}

/// How a webhook's requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// `X-Hub-Signature-256`.
    Github,
    /// `X-Slack-Signature` with `X-Slack-Request-Timestamp`.
    Slack,
    /// `Stripe-Signature`.
    Stripe,
    /// The hexadecimal or base64 HMAC-SHA-256 of the body.
    Hmac,
    /// The secret itself, as `Authorization: Bearer SECRET` or alone in a header of its own: for services that sign
    /// nothing, such as S3 stores. Nothing covers the body.
    Token,
}

/// How records of a broker are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Records of one call at the most.
    pub max: u32,
    /// How long the first record of a call waits for others, in milliseconds.
    pub window_ms: u64,
    /// Calls of this trigger at once.
    pub concurrency: u32,
    /// How often a record that failed is tried before it is kept as a dead letter.
    pub attempts: u32,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max: 1, window_ms: 0, concurrency: 1, attempts: 3 }
    }
}

/// NATS. `${NAME}` in an address stands for a variable of the function's `env`, here and in the other brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSource {
    /// `nats://[USER:PASSWORD@]HOST[:PORT]`, several with commas.
    pub url: String,
    /// The subject, wildcards included.
    pub subject: String,
    /// The queue group of a plain subscription; replicas of the platform share one in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The JetStream stream. Without one, messages that come while nobody listens are lost, as is usual with NATS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// How records are put together.
    #[serde(default)]
    pub batch: Batching,
}

/// MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSource {
    /// `mqtt://[USER:PASSWORD@]HOST[:PORT]`, or `mqtts://`.
    pub url: String,
    /// The topic filter, wildcards included.
    pub topic: String,
    /// 0 or 1.
    #[serde(default = "defaults::qos")]
    pub qos: u8,
    /// How records are put together.
    #[serde(default)]
    pub batch: Batching,
}

/// AMQP 0.9.1, such as RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmqpSource {
    /// `amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]`, or `amqps://`.
    pub url: String,
    /// The queue, which must exist.
    pub queue: String,
    /// How records are put together.
    #[serde(default)]
    pub batch: Batching,
}

/// A stream of Redis, read by a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSource {
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://`.
    pub url: String,
    /// The stream's key.
    pub stream: String,
    /// The consumer group, made where it does not exist.
    #[serde(default = "defaults::group")]
    pub group: String,
    /// How records are put together.
    #[serde(default)]
    pub batch: Batching,
}

/// `LISTEN` of PostgreSQL. Notifications that come while nobody listens are lost, as is usual with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSource {
    /// `postgres://[USER:PASSWORD@]HOST[:PORT]/DATABASE`.
    pub url: String,
    /// The channel.
    pub channel: String,
    /// How records are put together.
    #[serde(default)]
    pub batch: Batching,
}

/// Kafka, read by a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// `HOST:PORT`, several with commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    #[serde(default = "defaults::group")]
    pub group: String,
    /// How records are put together.
    #[serde(default)]
    pub batch: Batching,
}

/// Objects of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSource {
    /// The bucket, of the same namespace.
    pub bucket: Name,
    /// Which changes.
    #[serde(default = "defaults::changes")]
    pub on: Vec<Change>,
    /// Only keys that begin with this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Only keys that end with this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
}

/// Files of a folder. Folders must be allowed by the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSource {
    /// The folder, absolute.
    pub path: String,
    /// Which changes.
    #[serde(default = "defaults::changes")]
    pub on: Vec<Change>,
    /// Only names that begin with this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Only names that end with this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
}

/// A change of an object or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was written whole.
    Put,
    /// It was removed.
    Delete,
}

impl Source {
    /// The kind as it is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Schedule(_) => "schedule",
            Self::Topic(_) => "topic",
            Self::Webhook(_) => "webhook",
            Self::Nats(_) => "nats",
            Self::Mqtt(_) => "mqtt",
            Self::Amqp(_) => "amqp",
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
            Self::Kafka(_) => "kafka",
            Self::Bucket(_) => "bucket",
            Self::Folder(_) => "folder",
        }
    }

    /// How records are put together, for a broker.
    #[must_use]
    pub const fn batching(&self) -> Option<&Batching> {
        match self {
            Self::Nats(NatsSource { batch, .. })
            | Self::Mqtt(MqttSource { batch, .. })
            | Self::Amqp(AmqpSource { batch, .. })
            | Self::Redis(RedisSource { batch, .. })
            | Self::Postgres(PostgresSource { batch, .. })
            | Self::Kafka(KafkaSource { batch, .. }) => Some(batch),
            _ => None,
        }
    }
}

/// Checks the triggers of one function and names the first that is wrong.
pub fn validate(triggers: &[Trigger]) -> Result<(), SpecError> {
    let refuse = |reason: String| Err(SpecError { field: "triggers", reason });
    if triggers.len() > limits::TRIGGERS_MAX {
        return refuse(format!("{} triggers, at most {} are allowed", triggers.len(), limits::TRIGGERS_MAX));
    }
    let mut names = std::collections::BTreeSet::new();
    for trigger in triggers {
        if !names.insert(&trigger.name) {
            return refuse(format!("two triggers are named {:?}", trigger.name.as_str()));
        }
        if let Err(reason) = trigger.check() {
            return refuse(format!("{}: {reason}", trigger.name));
        }
    }
    Ok(())
}

impl Trigger {
    fn check(&self) -> Result<(), String> {
        if let Some(qualifier) = &self.qualifier
            && qualifier.parse::<crate::Qualifier>().is_err()
        {
            return Err(format!("qualifier {qualifier:?} is neither a number nor an alias nor latest"));
        }
        if let Some(batch) = self.source.batching() {
            batch.check()?;
        }
        match &self.source {
            Source::Schedule(schedule) => schedule.check(),
            Source::Mqtt(mqtt) if mqtt.qos > 1 => Err(format!(
                "qos is 0 or 1, not {}: a call may be repeated, so 2 would promise what cannot be kept",
                mqtt.qos
            )),
            Source::Webhook(hook) if hook.signature == Signature::Hmac && hook.header.is_none() => {
                Err("signature = \"hmac\" needs header, the name of the header that carries it".to_owned())
            }
            Source::Folder(folder) if !folder.path.starts_with('/') => {
                Err(format!("path {:?} must be absolute", folder.path))
            }
            _ => Ok(()),
        }
    }
}

impl Batching {
    fn check(&self) -> Result<(), String> {
        let bounds: [(&str, u64, u64, u64); 4] = [
            ("batch.max", self.max.into(), 1, 10_000),
            ("batch.window_ms", self.window_ms, 0, 300_000),
            ("batch.concurrency", self.concurrency.into(), 1, 1_000),
            ("batch.attempts", self.attempts.into(), 1, 1_000),
        ];
        match bounds.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value)) {
            Some((field, value, min, max)) => {
                Err(format!("{field} {value} is out of bounds, allowed is {min} to {max}"))
            }
            None => Ok(()),
        }
    }
}

impl ScheduleSource {
    fn check(&self) -> Result<(), String> {
        let stated = [self.cron.is_some(), self.every.is_some(), self.at.is_some()];
        if stated.into_iter().filter(|stated| *stated).count() != 1 {
            return Err("a schedule states one of cron, every and at".to_owned());
        }
        if self.zone.is_some() && self.cron.is_none() {
            return Err("zone goes with cron; every and at need none".to_owned());
        }
        if self.jitter_ms > 86_400_000 {
            return Err(format!("jitter_ms {} is over a day", self.jitter_ms));
        }
        if !(1..=1_000).contains(&self.missed_max) {
            return Err(format!("missed_max {} is out of bounds, allowed is 1 to 1000", self.missed_max));
        }
        let payload_bytes = self.payload.as_ref().map_or(0, |payload| payload.to_string().len());
        match payload_bytes > limits::TRIGGER_PAYLOAD_BYTES_MAX {
            true => Err(format!(
                "payload has {payload_bytes} bytes, at most {} are allowed",
                limits::TRIGGER_PAYLOAD_BYTES_MAX
            )),
            false => Ok(()),
        }
    }
}

mod defaults {
    use super::Change;

    pub(super) const fn yes() -> bool {
        true
    }
    pub(super) const fn missed_max() -> u32 {
        10
    }
    /// At least once, as everything else here is delivered.
    pub(super) const fn qos() -> u8 {
        1
    }
    pub(super) fn group() -> String {
        "alula".to_owned()
    }
    pub(super) fn changes() -> Vec<Change> {
        vec![Change::Put]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Trigger, String> {
        let trigger: Trigger = serde_json::from_str(text).map_err(|error| error.to_string())?;
        validate(std::slice::from_ref(&trigger)).map_err(|error| error.reason)?;
        Ok(trigger)
    }

    #[test]
    fn each_kind_has_its_own_keys_and_no_others() {
        let trigger =
            read(r#"{"name": "nightly", "kind": "schedule", "cron": "0 3 * * *", "zone": "Europe/Berlin"}"#);
        assert_eq!(trigger.map(|trigger| trigger.source.kind()), Ok("schedule"));
        let unknown = read(r#"{"name": "n", "kind": "schedule", "every": "90s", "topic": "x"}"#).unwrap_err();
        assert!(unknown.contains("unknown field `topic`"), "{unknown}");
        let misspelt =
            read(r#"{"name": "n", "kind": "schedule", "every": "90s", "qualifer": "live"}"#).unwrap_err();
        assert!(misspelt.contains("unknown field `qualifer`"), "{misspelt}");
        let kind = read(r#"{"name": "n", "kind": "pigeon"}"#).unwrap_err();
        assert!(kind.contains("unknown variant `pigeon`"), "{kind}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_remedy() {
        for (text, expected) in [
            (r#"{"name": "n", "kind": "schedule"}"#, "one of cron, every and at"),
            (r#"{"name": "n", "kind": "schedule", "every": "1s", "at": "x"}"#, "one of cron, every and at"),
            (r#"{"name": "n", "kind": "schedule", "every": "1s", "zone": "UTC"}"#, "zone goes with cron"),
            (r#"{"name": "n", "kind": "schedule", "every": "1s", "qualifier": "A B"}"#, "qualifier"),
            (r#"{"name": "n", "kind": "webhook", "signature": "hmac", "secret_env": "S"}"#, "needs header"),
            (r#"{"name": "n", "kind": "mqtt", "url": "mqtt://h", "topic": "a", "qos": 3}"#, "qos"),
            (
                r#"{"name": "n", "kind": "nats", "url": "u", "subject": "a", "batch": {"max": 0}}"#,
                "batch.max",
            ),
            (r#"{"name": "n", "kind": "folder", "path": "in"}"#, "absolute"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn two_of_one_name_are_refused() {
        let trigger = read(r#"{"name": "n", "kind": "bucket", "bucket": "in"}"#).unwrap();
        assert!(validate(&[trigger.clone(), trigger]).is_err());
    }

    #[test]
    fn it_survives_its_text_form() {
        let text = r#"{"name":"n","kind":"redis","url":"redis://h","stream":"s","group":"alula","batch":{"max":10,"window_ms":5,"concurrency":1,"attempts":3}}"#;
        let trigger = read(text).unwrap();
        assert_eq!(serde_json::to_string(&trigger).unwrap(), text);
    }
}
