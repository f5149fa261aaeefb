//! Which operations there are, who asks, and the operations on buckets themselves.

use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::answer::time;
use super::serve::{Insider, Origin};
use crate::event::Actor;
use crate::objects::Place;
use crate::{Buckets, Error};

/// The endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) buckets: Buckets,
}

/// Looks up the secrets of access keys.
#[derive(Debug, Clone)]
pub(crate) struct Secrets(pub(crate) Buckets);

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.secret(access_key).await? {
            Some(stored) => Ok(SecretKey::from(stored.secret)),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "there is no such access key; `alula bucket key create` makes one"
            )),
        }
    }
}

/// What a request is answered with.
pub(crate) type Answer<T> = S3Result<S3Response<T>>;

/// Who asks, from where, and through which functions.
fn actor<T>(request: &S3Request<T>) -> Actor {
    let by =
        request.credentials.as_ref().map_or_else(String::new, |credentials| credentials.access_key.clone());
    let origin = request.extensions.get::<Origin>().cloned();
    let Origin { remote, lineage } = origin.unwrap_or_default();
    Actor { by, remote, lineage }
}

impl Endpoint {
    /// The namespace of whoever signed the request. Unsigned ones were refused before.
    pub(crate) async fn namespace<T>(&self, request: &S3Request<T>) -> S3Result<alula_model::Name> {
        let Some(credentials) = &request.credentials else { return Err(s3_error!(AccessDenied)) };
        let stored = self.buckets.secret(&credentials.access_key).await?;
        let namespace = stored.map(|stored| stored.namespace).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        match request.extensions.get::<Insider>() {
            Some(insider) if insider.namespace != namespace => {
                Err(s3_error!(AccessDenied, "functions reach the buckets of their own namespace"))
            }
            _ => Ok(namespace),
        }
    }

    /// An object of a bucket that exists, and who asks.
    pub(crate) async fn place<T>(&self, request: &S3Request<T>, bucket: &str, key: &str) -> S3Result<Place> {
        let namespace = self.namespace(request).await?;
        let at = self.buckets.bucket(&namespace, bucket).await?;
        Ok(Place { at, key: key.to_owned(), actor: actor(request) })
    }

    async fn make_bucket(&self, request: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        let namespace = self.namespace(&request).await?;
        let name = &request.input.bucket;
        // Whoever makes a bucket twice has it.
        match self.buckets.create(&namespace, name, &actor(&request).as_by()).await {
            Ok(_) | Err(Error::BucketExists(_)) => {
                let location = Some(format!("/{name}"));
                Ok(S3Response::new(CreateBucketOutput { location }))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn buckets(&self, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let namespace = self.namespace(&request).await?;
        let prefix = request.input.prefix.unwrap_or_default();
        let buckets = self.buckets.list(&namespace).await?;
        let buckets = buckets.into_iter().filter(|bucket| bucket.name.as_str().starts_with(&prefix));
        let shown = buckets.map(|bucket| Bucket {
            creation_date: Some(time(bucket.created_at)),
            name: Some(bucket.name.as_str().to_owned()),
            ..Bucket::default()
        });
        let namespace = Some(namespace.as_str().to_owned());
        let owner = Some(Owner { display_name: namespace.clone(), id: namespace });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(shown.collect()),
            owner,
            ..ListBucketsOutput::default()
        }))
    }
}

#[async_trait::async_trait]
impl S3 for Endpoint {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.make_bucket(request).await
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let namespace = self.namespace(&request).await?;
        self.buckets.delete(&namespace, &request.input.bucket, &actor(&request).as_by()).await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        let namespace = self.namespace(&request).await?;
        self.buckets.bucket(&namespace, &request.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(super::REGION.to_owned()),
            ..HeadBucketOutput::default()
        }))
    }

    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        self.buckets(request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        let namespace = self.namespace(&request).await?;
        self.buckets.bucket(&namespace, &request.input.bucket).await?;
        // No constraint means the region that clients take by themselves.
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        self.head(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.get(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        self.put(request).await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        self.copy(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.delete(request).await
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        self.delete_several(request).await
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        self.list_v1(request).await
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        self.list_v2(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.begin(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.part(request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        self.part_copy(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.complete(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.abort(request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.list_of_parts(request).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        self.list_of_uploads(request).await
    }
}
