//! What a namespace says about calls from outside: its default, and the keys that its addresses are signed with.

use alula_model::{AccessSpec, ErrorCode, Fault, Name, Timestamp};
use serde::{Deserialize, Serialize};

use super::url::{Purpose, sign};
use crate::directory::Change;
use crate::identity::{Doing, Identity};
use crate::principal::Principal;

/// Longest time for which an address is signed: a week, as with other signed addresses of the field.
const LIFETIME_S_MAX: u64 = 7 * 86_400;
/// Longest time for which a replaced key is good: no address is good for longer.
const KEEP_OLD_MS_MAX: i64 = LIFETIME_S_MAX as i64 * 1_000;
/// Longest path and query that is signed.
const ADDRESS_BYTES_MAX: usize = 8 * 1024;
/// Keys of one namespace that are kept: the newest, and older ones until they end.
const URL_KEYS_MAX: usize = 10;

/// What is stored for a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallingRecord {
    /// Who may call functions that do not say so themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<AccessSpec>,
    /// What addresses are signed with; the last is the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) url_keys: Vec<UrlKey>,
}

/// What addresses are signed with. It signs, so it must be known itself and not only its digest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UrlKey {
    pub(crate) id: String,
    pub(crate) secret: String,
    /// When it ends, where another has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
}

impl std::fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlKey").field("id", &self.id).field("until", &self.until).finish_non_exhaustive()
    }
}

/// An address to be signed.
#[derive(Debug, Clone, Copy)]
pub struct NewAddress<'a> {
    /// The method that it is for.
    pub method: &'a str,
    /// The function's namespace.
    pub namespace: &'a Name,
    /// The function.
    pub function: &'a Name,
    /// Path and query, as they will be sent.
    pub path_and_query: &'a str,
    /// For how long, in seconds.
    pub lifetime_s: u64,
}

impl CallingRecord {
    /// The key of this id, as long as it is good.
    pub(crate) fn url_key(&self, id: &str, now: Timestamp) -> Option<&UrlKey> {
        self.url_keys.iter().find(|key| key.id == id).filter(|key| key.until.is_none_or(|until| now < until))
    }
}

impl Identity {
    /// Who may call functions of a namespace that do not say so themselves; `None` where the installation's default holds.
    #[must_use]
    pub fn default_access(&self, namespace: &Name) -> Option<AccessSpec> {
        self.directory().calling(namespace)?.default.clone()
    }

    /// Says who may call functions of a namespace that do not say so themselves.
    pub async fn set_default_access(
        &self,
        by: &Principal,
        namespace: &Name,
        access: Option<AccessSpec>,
    ) -> Result<(), Fault> {
        if let Some(access) = &access {
            let wrong =
                |error: alula_model::SpecError| Fault::new(ErrorCode::InvalidRequest, error.to_string());
            access.validate().map_err(wrong)?;
            crate::calling::check(access)
                .map_err(|reason| Fault::new(ErrorCode::InvalidRequest, format!("access: {reason}")))?;
        }
        let detail = if access.is_some() { "of its own" } else { "as the installation says" }.to_owned();
        let doing = Doing { by, action: "access.default", subject: format!("{namespace}/"), detail };
        self.change_calling(doing, namespace, |calling| {
            calling.default = access;
            Ok(())
        })
        .await
    }

    /// Signs an address. The first one of a namespace makes its key.
    pub async fn sign_address(
        &self,
        by: &Principal,
        new: NewAddress<'_>,
    ) -> Result<(String, Timestamp), Fault> {
        let refuse = |message: String| Err(Fault::new(ErrorCode::InvalidRequest, message));
        if !(1..=LIFETIME_S_MAX).contains(&new.lifetime_s) {
            return refuse(format!(
                "expires_in_s: {} is out of bounds, allowed is 1 to {LIFETIME_S_MAX}",
                new.lifetime_s
            ));
        }
        if new.path_and_query.len() > ADDRESS_BYTES_MAX {
            return refuse(format!("path: at most {ADDRESS_BYTES_MAX} bytes are allowed"));
        }
        let now = self.now();
        let newest = |identity: &Self| {
            let directory = identity.directory();
            directory.calling(new.namespace).and_then(|calling| calling.url_keys.last().cloned())
        };
        let key = match newest(self) {
            Some(key) => key,
            None => {
                self.rotate_url_key(by, new.namespace, 0).await?;
                newest(self).ok_or_else(|| {
                    Fault::new(ErrorCode::Conflict, "the key was taken away meanwhile; try again")
                })?
            }
        };
        let lifetime_s = i64::try_from(new.lifetime_s).unwrap_or(i64::MAX);
        let expires_s = (now.as_millis() / 1_000).saturating_add(lifetime_s);
        let purpose = Purpose { method: new.method, namespace: new.namespace, function: new.function };
        let signed = sign(purpose, new.path_and_query, expires_s, (&key.id, &key.secret));
        Ok((signed, Timestamp(expires_s.saturating_mul(1_000))))
    }

    /// Has addresses signed with another key from now on. What was signed before is good for `keep_old_ms` more.
    pub async fn rotate_url_key(
        &self,
        by: &Principal,
        namespace: &Name,
        keep_old_ms: i64,
    ) -> Result<(), Fault> {
        if !(0..=KEEP_OLD_MS_MAX).contains(&keep_old_ms) {
            let message = format!("keep_old_s: allowed is 0 to {}", KEEP_OLD_MS_MAX / 1_000);
            return Err(Fault::new(ErrorCode::InvalidRequest, message));
        }
        let id = format!("{:012x}", self.random() & 0xffff_ffff_ffff);
        let secret = format!("{:032x}{:032x}", self.random(), self.random());
        let now = self.now();
        let subject = format!("{namespace}/url-key:{id}");
        let detail = format!("what was signed before ends in {} s at the latest", keep_old_ms / 1_000);
        self.change_calling(Doing { by, action: "url-key.rotate", subject, detail }, namespace, |calling| {
            let until = now.plus_millis(keep_old_ms);
            calling.url_keys.retain(|key| key.until.is_none_or(|until| now < until));
            for key in &mut calling.url_keys {
                key.until = Some(key.until.map_or(until, |earlier| earlier.min(until)));
            }
            if keep_old_ms == 0 {
                calling.url_keys.clear();
            }
            let excess = (calling.url_keys.len() + 1).saturating_sub(URL_KEYS_MAX);
            calling.url_keys.drain(..excess);
            calling.url_keys.push(UrlKey { id, secret, until: None });
            Ok(())
        })
        .await
    }

    async fn change_calling(
        &self,
        doing: Doing<'_>,
        namespace: &Name,
        change: impl FnOnce(&mut CallingRecord) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.change(doing, |directory| {
            let mut calling = directory.calling(namespace).cloned().unwrap_or_default();
            change(&mut calling)?;
            let is_empty = calling == CallingRecord::default();
            Ok(vec![Change::Calling(namespace.clone(), (!is_empty).then_some(calling))])
        })
        .await
    }
}
