//! Buckets and their access keys. Objects are left to S3 clients.

use alula_wire::{BucketInfo, BucketKeyList, BucketList, NewBucketKey};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// The buckets of the namespace.
    pub async fn buckets(&self) -> Result<BucketList> {
        self.get(&["v1", "buckets"], &self.here()).await
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, name: &str) -> Result<BucketInfo> {
        self.fetch(self.request(Method::PUT, &["v1", "buckets", name]).query(&self.here())).await
    }

    /// Removes an empty bucket.
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "buckets", name]).query(&self.here())).await
    }

    /// The access keys of the namespace, without their secrets.
    pub async fn bucket_keys(&self) -> Result<BucketKeyList> {
        self.get(&["v1", "bucket-keys"], &self.here()).await
    }

    /// Makes an access key.
    pub async fn create_bucket_key(&self) -> Result<NewBucketKey> {
        self.fetch(self.request(Method::POST, &["v1", "bucket-keys"]).query(&self.here())).await
    }

    /// Removes an access key.
    pub async fn delete_bucket_key(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "bucket-keys", id]).query(&self.here())).await
    }
}
