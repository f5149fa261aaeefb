//! The memory that bodies of buffered handlers may take, all calls together.
//!
//! A handler that gets its request as a whole makes the platform hold it. Each such body has the function's own limit;
//! this is the limit over all of them, so that many legal calls at once cannot exhaust the machine. Over it a call is
//! refused before it runs, and may be tried again. Streamed bodies hold a few pieces only and do not count.
//!
//! No namespace takes all of it: beyond its first body it may hold as much as is left free for the others, so one that
//! floods gets a half, two get a third each, and there is always something for who comes next. (Choudhury and Hahne,
//! "Dynamic queue length thresholds for shared-memory packet switches", 1998.)

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use alula_model::{ErrorCode, Fault, Name};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::{Body, BodyError};

/// The shared account, as one namespace sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers {
    account: Arc<Account>,
    /// Bytes that the namespace has taken.
    own_bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Account {
    used_bytes: AtomicU64,
    max_bytes: u64,
    /// Bytes that namespaces have taken; those whose functions are gone are forgotten.
    by_namespace: Mutex<HashMap<Name, Weak<AtomicU64>>>,
}

/// Bytes taken from the account, given back on drop.
#[derive(Debug)]
pub struct Reserved {
    account: Arc<Account>,
    own_bytes: Arc<AtomicU64>,
    bytes: u64,
}

/// A body that was gathered, with its share of the account.
#[derive(Debug)]
pub struct Gathered {
    /// The content.
    pub bytes: Bytes,
    /// Keep it for as long as the content is held.
    pub reserved: Reserved,
}

impl Buffers {
    /// An account of `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        let account = Account { used_bytes: AtomicU64::new(0), max_bytes, by_namespace: Mutex::default() };
        Self { account: Arc::new(account), own_bytes: Arc::default() }
    }

    /// The same account as the functions of `namespace` see it.
    #[must_use]
    pub fn of(&self, namespace: &Name) -> Self {
        let mut all = self.account.by_namespace.lock().unwrap_or_else(PoisonError::into_inner);
        let account = Arc::clone(&self.account);
        if let Some(own_bytes) = all.get(namespace).and_then(Weak::upgrade) {
            return Self { account, own_bytes };
        }
        all.retain(|_, own_bytes| own_bytes.strong_count() > 0);
        let own_bytes = Arc::default();
        all.insert(namespace.clone(), Arc::downgrade(&own_bytes));
        Self { account, own_bytes }
    }

    /// Bytes that are taken now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.account.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes `bytes` from the account.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved, Fault> {
        let (account, own_bytes) = (Arc::clone(&self.account), Arc::clone(&self.own_bytes));
        let mut reserved = Reserved { account, own_bytes, bytes: 0 };
        reserved.grow(bytes)?;
        Ok(reserved)
    }

    /// Gathers the request body of a call, up to the `limit_bytes` that the function's spec allows.
    pub async fn gather_request(&self, body: Body, limit_bytes: u64) -> Result<Gathered, Fault> {
        let expected = body.size_hint().lower();
        if expected > limit_bytes {
            return Err(request_too_large(limit_bytes));
        }
        let mut reserved = self.reserve(expected)?;
        if body.as_full().is_some() {
            let bytes = body.collect(limit_bytes).await.map_err(|error| request_fault(&error))?;
            return Ok(Gathered { bytes, reserved });
        }
        let bytes = gather(body, limit_bytes, &mut reserved).await?;
        Ok(Gathered { bytes, reserved })
    }
}

async fn gather(mut body: Body, limit_bytes: u64, reserved: &mut Reserved) -> Result<Bytes, Fault> {
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| request_fault(&error))?.into_data() else { continue };
        let length = (gathered.len() + data.len()) as u64;
        if length > limit_bytes {
            return Err(request_too_large(limit_bytes));
        }
        reserved.grow_to(length)?;
        gathered.extend_from_slice(&data);
    }
    Ok(gathered.freeze())
}

impl Reserved {
    /// Makes it at least `bytes`; unchanged where the account has no more.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Fault> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    fn grow(&mut self, bytes: u64) -> Result<(), Fault> {
        let used = self.account.used_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let own = self.own_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let max = self.account.max_bytes;
        let is_only_one = own == self.bytes + bytes;
        if used <= max && (is_only_one || own <= max - used) {
            self.bytes += bytes;
            return Ok(());
        }
        self.account.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.own_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let message = match used <= max {
            true => "the platform holds as many request bodies of this namespace as it may have at once",
            false => "the platform holds too many request bodies at once",
        };
        let setting = "sandbox.buffer_bytes_max in the configuration";
        Err(Fault::limit(ErrorCode::BufferExhausted, message, "buffer_bytes_max", max, setting))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.own_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn request_too_large(limit_bytes: u64) -> Fault {
    let message = format!("the request body is larger than the {limit_bytes} bytes that this function takes");
    let setting = "request_bytes_max in alula.toml";
    Fault::limit(ErrorCode::RequestTooLarge, message, "request_bytes_max", limit_bytes, setting)
}

/// The fault of a call whose request body broke off.
pub(crate) fn request_fault(error: &BodyError) -> Fault {
    match error {
        BodyError::TooLarge { limit_bytes } => request_too_large(*limit_bytes),
        BodyError::Disconnected => Fault::new(ErrorCode::CallerGone, "the request body ended too early"),
        BodyError::TimedOut | BodyError::Malformed { .. } => {
            Fault::new(ErrorCode::InvalidRequest, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn streamed(content: &'static str) -> Body {
        Body::stream(Full::new(Bytes::from(content)).map_err(|never| match never {}))
    }

    #[tokio::test]
    async fn what_is_held_is_counted_and_given_back() {
        let buffers = Buffers::new(8);
        let first = buffers.gather_request(streamed("12345"), 100).await.unwrap();
        assert_eq!((&first.bytes[..], buffers.used_bytes()), (&b"12345"[..], 5));
        let refused = buffers.gather_request(Body::full("6789"), 100).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::BufferExhausted);
        drop(first);
        assert_eq!(buffers.used_bytes(), 0);
        assert!(buffers.gather_request(Body::full("6789"), 100).await.is_ok());
    }

    #[test]
    fn a_namespace_that_floods_leaves_room_for_the_others() {
        let all = Buffers::new(1_000);
        let of = |name: &str| all.of(&Name::new(name).unwrap());
        let flood = |name: &str| {
            let buffers = of(name);
            let held: Vec<_> = std::iter::from_fn(|| buffers.reserve(10).ok()).take(200).collect();
            held
        };
        let one = flood("one");
        assert_eq!(one.len(), 50, "a half");
        let two = flood("two");
        assert_eq!(two.len(), 25, "a half of what is left, until the first gives some back");
        assert!(of("three").reserve(100).is_ok(), "there is something for who comes next");
        drop((one, two));
        assert_eq!(all.used_bytes(), 0);
        let whole = of("one").reserve(1_000).unwrap();
        assert!(of("one").reserve(1).is_err() && of("two").reserve(1).is_err());
        drop(whole);
        assert_eq!(flood("one").len(), 50);
    }

    #[tokio::test]
    async fn the_function_s_own_limit_is_named() {
        for body in [Body::full("12345"), streamed("12345")] {
            let fault = Buffers::new(100).gather_request(body, 4).await.unwrap_err();
            assert_eq!(fault.code, ErrorCode::RequestTooLarge);
            assert_eq!(fault.limit.map(|hit| hit.value), Some(4));
        }
    }
}
