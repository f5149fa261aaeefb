//! Buckets and the keys that S3 clients sign with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketInfo {
    /// Its name, unique in the namespace.
    pub name: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

/// The buckets of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketList {
    /// Ordered by name.
    pub buckets: Vec<BucketInfo>,
}

/// An access key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketKeyInfo {
    /// Its id.
    pub id: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// By whom.
    pub created_by: String,
}

/// The access keys of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketKeyList {
    /// The oldest first.
    pub keys: Vec<BucketKeyInfo>,
}

/// An access key that was made just now: the only time that its secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewBucketKey {
    /// Its id: `aws_access_key_id` of S3 clients.
    pub id: String,
    /// Its secret: `aws_secret_access_key` of S3 clients.
    pub secret: String,
    /// Where S3 clients find the buckets; without one the platform does not listen for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}
