//! Triggers: the list, what comes next, pausing and resuming.

use alula_wire::query::{ListTriggers, NextSlots};
use alula_wire::{TriggerInfo, TriggerPage, UpcomingSlots};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// A page of the triggers in force, of `function` or of all functions.
    pub async fn triggers(
        &self,
        function: Option<String>,
        limit: Option<u32>,
        cursor: Option<String>,
    ) -> Result<TriggerPage> {
        let query = ListTriggers { namespace: Some(self.namespace().to_owned()), function, limit, cursor };
        self.get(&["v1", "triggers"], &query).await
    }

    /// The next slots of schedules, of `function` or of all functions.
    pub async fn next_slots(
        &self,
        function: Option<String>,
        trigger: Option<String>,
        limit: Option<u32>,
    ) -> Result<UpcomingSlots> {
        let query = NextSlots { namespace: Some(self.namespace().to_owned()), function, trigger, limit };
        self.get(&["v1", "triggers", "next"], &query).await
    }

    /// Keeps a trigger from firing until it is resumed.
    pub async fn pause_trigger(&self, function: &str, trigger: &str) -> Result<TriggerInfo> {
        let path = ["v1", "triggers", function, trigger, "pause"];
        self.fetch(self.request(Method::POST, &path).query(&self.here())).await
    }

    /// Lets a paused trigger fire again.
    pub async fn resume_trigger(&self, function: &str, trigger: &str) -> Result<TriggerInfo> {
        let path = ["v1", "triggers", function, trigger, "resume"];
        self.fetch(self.request(Method::POST, &path).query(&self.here())).await
    }
}
