//! What a deploy is asked: can every trigger of this spec be watched?
//!
//! Bounds and spelling were checked before, by the model; here is what takes knowledge of the source.

use alula_model::SpecError;
use alula_model::trigger::{Source, TopicSource, Trigger};

use crate::schedule::plan::Plan;
use crate::topic::pattern::Pattern;

/// Checks the triggers of one function and names the first that is wrong, with its field and the remedy.
pub fn check(triggers: &[Trigger]) -> Result<(), SpecError> {
    triggers.iter().try_for_each(|trigger| {
        let checked = match &trigger.source {
            Source::Schedule(schedule) => Plan::parse(schedule).map(drop).map_err(|error| error.to_string()),
            Source::Topic(TopicSource { filter: Some(filter), .. }) => {
                Pattern::read(filter).map(drop).map_err(|error| error.to_string())
            }
            Source::Topic(_) | Source::Webhook(_) | Source::Bucket(_) | Source::Folder(_) => Ok(()),
            // Whoever watches brokers knows what can be said of one.
            Source::Nats(_) | Source::Mqtt(_) | Source::Amqp(_) => Ok(()),
            Source::Redis(_) | Source::Postgres(_) | Source::Kafka(_) => Ok(()),
        };
        checked
            .map_err(|reason| SpecError { field: "triggers", reason: format!("{}: {reason}", trigger.name) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trigger_its_field_and_the_remedy_are_named() {
        let trigger = |text: &str| serde_json::from_str::<Trigger>(text).unwrap();
        let right = trigger(r#"{"name": "nightly", "kind": "schedule", "cron": "0 3 * * *"}"#);
        let wrong = trigger(r#"{"name": "hourly", "kind": "schedule", "cron": "0 25 * * *"}"#);
        assert_eq!(check(std::slice::from_ref(&right)), Ok(()));
        let error = check(&[right, wrong]).unwrap_err().to_string();
        let filter = trigger(
            r#"{"name": "big", "kind": "topic", "topic": "orders", "filter": {"data": {"total": 7}}}"#,
        );
        let found = check(&[filter]).unwrap_err().to_string();
        assert_eq!(found, "triggers: big: filter.data.total: write the value in a list: [7]");
        assert!(error.starts_with("triggers: hourly: cron: \"0 25 * * *\" is no cron pattern"), "{error}");
    }
}
