//! How failures and values of the platform read in S3's words.

use std::time::{Duration, SystemTime};

use alula_model::Timestamp;
use s3s::dto::ETag;
use s3s::{S3Error, S3ErrorCode, s3_error};

use crate::Error;
use crate::record::StoredObject;

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let code = code(&error);
        if matches!(code, S3ErrorCode::InternalError) {
            let report =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let report: Vec<String> = report.map(ToString::to_string).collect();
            tracing::error!("a request to the buckets failed: {}", report.join(": "));
        }
        let mut answer = Self::with_message(code, error.to_string());
        if matches!(error, Error::NotModified) {
            answer.set_status_code(http::StatusCode::NOT_MODIFIED);
        }
        answer
    }
}

fn code(error: &Error) -> S3ErrorCode {
    match error {
        Error::NoSuchBucket(_) => S3ErrorCode::NoSuchBucket,
        Error::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
        Error::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
        Error::NoSuchKey(_) => S3ErrorCode::NoSuchKey,
        Error::NoSuchUpload(_) => S3ErrorCode::NoSuchUpload,
        Error::InvalidPart(_) => S3ErrorCode::InvalidPart,
        Error::PartOrder => S3ErrorCode::InvalidPartOrder,
        Error::PartTooSmall(_) => S3ErrorCode::EntityTooSmall,
        Error::Precondition(_) => S3ErrorCode::PreconditionFailed,
        Error::NotModified => S3ErrorCode::NotModified,
        Error::Range { .. } => S3ErrorCode::InvalidRange,
        Error::TooLarge { what: "the length of the key", .. } => S3ErrorCode::KeyTooLongError,
        Error::TooLarge { what: "the size of the metadata", .. } => S3ErrorCode::MetadataTooLarge,
        Error::TooLarge { what: "the number of buckets", .. } => S3ErrorCode::TooManyBuckets,
        Error::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
        Error::Checksum(_) => S3ErrorCode::BadDigest,
        Error::Length => S3ErrorCode::IncompleteBody,
        Error::Incomplete(source) => of_body(source.as_ref()),
        Error::Invalid(_) => S3ErrorCode::InvalidRequest,
        Error::Refused(fault) if fault.is_retryable() => S3ErrorCode::ServiceUnavailable,
        Error::Refused(_) => S3ErrorCode::InvalidRequest,
        Error::Contended => S3ErrorCode::SlowDown,
        Error::Store(alula_store::Error::Full | alula_store::Error::Unavailable { .. }) => {
            S3ErrorCode::ServiceUnavailable
        }
        Error::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            S3ErrorCode::ServiceUnavailable
        }
        Error::Store(_) | Error::Disk(_) => S3ErrorCode::InternalError,
    }
}

/// A body that ends early, or whose bytes are not those that were signed.
fn of_body(source: &(dyn std::error::Error + Send + Sync + 'static)) -> S3ErrorCode {
    match source.downcast_ref::<S3Error>() {
        Some(error) => error.code().clone(),
        None => S3ErrorCode::IncompleteBody,
    }
}

/// What the endpoint does not do, and would have to in order not to mislead.
const REFUSED_HEADERS: &[(&str, &str)] = &[
    ("x-amz-server-side-encryption", "encryption by the server"),
    ("x-amz-tagging", "tags"),
    ("x-amz-object-lock", "object locks"),
    ("x-amz-website-redirect", "redirects"),
    ("x-amz-write-offset", "appending"),
];

/// Refuses a request that asks for something that would be ignored.
pub(crate) fn refuse_unsupported(headers: &http::HeaderMap) -> Result<(), S3Error> {
    for name in headers.keys() {
        if let Some((_, what)) = REFUSED_HEADERS.iter().find(|(prefix, _)| name.as_str().starts_with(prefix))
        {
            return Err(s3_error!(NotImplemented, "buckets of the platform have no {what} (header {name})"));
        }
    }
    Ok(())
}

pub(crate) fn etag(object: &StoredObject) -> ETag {
    ETag::Strong(object.etag.clone())
}

/// With all milliseconds, for listings.
pub(crate) fn time(at: Timestamp) -> s3s::dto::Timestamp {
    (SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))).into()
}

/// As it stands in a header, which conditions are compared with: whole seconds.
pub(crate) fn header_time(at: Timestamp) -> s3s::dto::Timestamp {
    time(Timestamp(at.as_millis() / 1_000 * 1_000))
}

/// `encoding-type=url`: everything that XML might not hold is written with percent signs.
pub(crate) fn url_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
