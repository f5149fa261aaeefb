//! The memory that bodies of buffered handlers may take, all calls together.
//!
//! A handler that gets its request as a whole makes the platform hold it. Each such body has the function's own limit;
//! this is the limit over all of them, so that many legal calls at once cannot exhaust the machine. Over it a call is
//! refused before it runs, and may be tried again. Streamed bodies hold a few pieces only and do not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::{ErrorCode, Fault};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::{Body, BodyError};

/// The shared account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    used_bytes: AtomicU64,
    max_bytes: u64,
}

/// Bytes taken from the account, given back on drop.
#[derive(Debug)]
pub struct Reserved {
    account: Arc<Account>,
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
        Self { account: Arc::new(Account { used_bytes: AtomicU64::new(0), max_bytes }) }
    }

    /// Bytes that are taken now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.account.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes `bytes` from the account.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved, Fault> {
        let mut reserved = Reserved { account: Arc::clone(&self.account), bytes: 0 };
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
        let max = self.account.max_bytes;
        if used <= max {
            self.bytes += bytes;
            return Ok(());
        }
        self.account.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let message = "the platform holds too many request bodies at once";
        let setting = "sandbox.buffer_bytes_max in the configuration";
        Err(Fault::limit(ErrorCode::BufferExhausted, message, "buffer_bytes_max", max, setting))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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

    #[tokio::test]
    async fn the_function_s_own_limit_is_named() {
        for body in [Body::full("12345"), streamed("12345")] {
            let fault = Buffers::new(100).gather_request(body, 4).await.unwrap_err();
            assert_eq!(fault.code, ErrorCode::RequestTooLarge);
            assert_eq!(fault.limit.map(|hit| hit.value), Some(4));
        }
    }
}
