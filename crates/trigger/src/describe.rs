//! What a trigger watches, in words.

use alula_model::trigger::{Source, Trigger};

use crate::schedule::plan;

/// What a trigger watches: `at 03:00, Europe/Berlin`, `topic orders`. Addresses are left out, for they may hold passwords.
#[must_use]
pub fn describe(trigger: &Trigger) -> String {
    match &trigger.source {
        Source::Schedule(schedule) => plan::describe(schedule).unwrap_or_else(|error| error.to_string()),
        Source::Topic(topic) => format!("topic {}", topic.topic),
        Source::Webhook(_) => "signed requests".to_owned(),
        Source::Nats(nats) => format!("subject {}", nats.subject),
        Source::Mqtt(mqtt) => format!("topic {}", mqtt.topic),
        Source::Amqp(amqp) => format!("queue {}", amqp.queue),
        Source::Redis(redis) => format!("stream {}", redis.stream),
        Source::Postgres(postgres) => format!("channel {}", postgres.channel),
        Source::Kafka(kafka) => format!("topic {}", kafka.topic),
        Source::Bucket(bucket) => format!("bucket {}", bucket.bucket),
        Source::Folder(folder) => format!("folder {}", folder.path),
    }
}
