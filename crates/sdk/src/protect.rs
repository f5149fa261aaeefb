//! Limits of requests, and what operators do at once against somebody who does harm.

use alula_wire::query::{MaybeInNamespace, OfTarget};
use alula_wire::{LimitList, LimitSetting, NewProtection, ProtectionInfo, ProtectionList, SetLimit};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// Who is blocked or throttled, in one namespace or everywhere.
    pub async fn protections(&self, namespace: Option<&str>) -> Result<ProtectionList> {
        self.get(&["v1", "protections"], &within(namespace)).await
    }

    /// Blocks or throttles somebody.
    pub async fn protect(&self, new: &NewProtection) -> Result<ProtectionInfo> {
        self.fetch(self.request(Method::POST, &["v1", "protections"]).json(new)).await
    }

    /// Ends a protection.
    pub async fn lift_protection(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "protections", id])).await
    }

    /// The limits of one namespace, or all.
    pub async fn limits(&self, namespace: Option<&str>) -> Result<LimitList> {
        self.get(&["v1", "limits"], &within(namespace)).await
    }

    /// Sets a limit.
    pub async fn set_limit(&self, set: &SetLimit) -> Result<LimitSetting> {
        self.fetch(self.request(Method::PUT, &["v1", "limits"]).json(set)).await
    }

    /// Takes a limit back.
    pub async fn unset_limit(&self, target: &str) -> Result<()> {
        let query = OfTarget { target: target.to_owned() };
        self.done(self.request(Method::DELETE, &["v1", "limits"]).query(&query)).await
    }
}

fn within(namespace: Option<&str>) -> MaybeInNamespace {
    MaybeInNamespace { namespace: namespace.map(str::to_owned) }
}
