//! Alarms: looking, acknowledging, silencing, testing.

use alula_wire::query::{AlarmTest, Alarms};
use alula_wire::{AlarmHistory, AlarmInfo, AlarmList, AlarmTestList, NewSilence, SilenceInfo, SilenceList};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// Alarms; of all namespaces and of the node where `query` names none.
    pub async fn alarms(&self, query: &Alarms) -> Result<AlarmList> {
        self.get(&["v1", "alarms"], query).await
    }

    /// What has happened to alarms, newest first.
    pub async fn alarm_history(&self, query: &Alarms) -> Result<AlarmHistory> {
        self.get(&["v1", "alarms", "history"], query).await
    }

    /// One alarm.
    pub async fn alarm(&self, id: &str) -> Result<AlarmInfo> {
        self.get(&["v1", "alarms", id], &()).await
    }

    /// Says that somebody knows of an alarm.
    pub async fn acknowledge_alarm(&self, id: &str) -> Result<AlarmInfo> {
        self.fetch(self.request(Method::POST, &["v1", "alarms", id, "acknowledge"])).await
    }

    /// The silences in force; of all namespaces where none is named.
    pub async fn silences(&self, namespace: Option<String>) -> Result<SilenceList> {
        let query = alula_wire::query::InNamespace { namespace };
        self.get(&["v1", "alarm-silences"], &query).await
    }

    /// Silences alarms.
    pub async fn silence_alarms(&self, silence: &NewSilence) -> Result<SilenceInfo> {
        self.fetch(self.request(Method::POST, &["v1", "alarm-silences"]).json(silence)).await
    }

    /// Ends a silence.
    pub async fn end_silence(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "alarm-silences", id])).await
    }

    /// Sends a test to the receivers of the configuration, or to one of them.
    pub async fn test_alarms(&self, receiver: Option<String>) -> Result<AlarmTestList> {
        self.fetch(self.request(Method::POST, &["v1", "alarm-test"]).query(&AlarmTest { receiver })).await
    }
}
