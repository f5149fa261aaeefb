//! Operations on objects.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::answer::{etag, header_time, refuse_unsupported, time};
use super::checksum;
use super::endpoint::{Answer, Endpoint};
use crate::contents::{Arrived, too_large};
use crate::event::Written;
use crate::objects::{Conditions, Place, matches};
use crate::options::{CONTENT_BYTES_MAX, DELETE_LEN_MAX, DELETES_AT_ONCE};
use crate::record::{Headers, StoredObject};
use crate::{Error, Result};

/// What a reader requires of an object.
struct ReadConditions {
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// In the order of RFC 9110, section 13.2.2.
    fn check(&self, object: &StoredObject) -> Result<()> {
        let modified = header_time(object.modified_at);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(wanted), _) if !matches(wanted, object) => return Err(Error::Precondition("If-Match")),
            (None, Some(since)) if modified > *since => {
                return Err(Error::Precondition("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(unwanted), _) if matches(unwanted, object) => Err(Error::NotModified),
            (None, Some(since)) if modified <= *since => Err(Error::NotModified),
            _ => Ok(()),
        }
    }
}

/// The part of an object that is asked for, and how the answer says so.
struct Asked {
    range: std::ops::Range<u64>,
    header: Option<String>,
}

fn asked(object: &StoredObject, range: Option<Range>) -> Result<Asked> {
    let bytes = object.bytes;
    let Some(range) = range else { return Ok(Asked { range: 0..bytes, header: None }) };
    let range = range.check(bytes).map_err(|_| Error::Range { bytes })?;
    let header = Some(format!("bytes {}-{}/{bytes}", range.start, range.end.saturating_sub(1)));
    Ok(Asked { range, header })
}

fn refuse_part_number(part_number: Option<i32>) -> S3Result<()> {
    match part_number {
        Some(_) => {
            Err(s3_error!(NotImplemented, "objects are read by ranges, not by the parts they came in"))
        }
        None => Ok(()),
    }
}

impl Endpoint {
    pub(super) async fn head(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let input = request.input;
        refuse_part_number(input.part_number)?;
        let object = self.buckets.object(&place.at, &place.key).await?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let Asked { range, header } = asked(&object, input.range)?;
        let (e_tag, Headers { user, .. }) = (etag(&object), object.headers.clone());
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: object.headers.cache_control,
            content_disposition: object.headers.content_disposition,
            content_encoding: object.headers.content_encoding,
            content_language: object.headers.content_language,
            content_type: object.headers.content_type,
            content_length: Some(length(&range)),
            content_range: header,
            e_tag: Some(e_tag),
            last_modified: Some(time(object.modified_at)),
            metadata: Some(user.into_iter().collect()),
            ..HeadObjectOutput::default()
        }))
    }

    pub(super) async fn get(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let input = request.input;
        refuse_part_number(input.part_number)?;
        let object = self.buckets.object(&place.at, &place.key).await?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let Asked { range, header } = asked(&object, input.range)?;
        let observe = Arc::clone(&self.buckets.shared.parts.observe);
        let body = self.buckets.read(&object, range.clone()).await?.inspect(move |piece| {
            observe.sent(piece.as_ref().map_or(0, bytes::Bytes::len) as u64);
        });
        let (e_tag, Headers { user, .. }) = (etag(&object), object.headers.clone());
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(body)),
            cache_control: object.headers.cache_control,
            content_disposition: object.headers.content_disposition,
            content_encoding: object.headers.content_encoding,
            content_language: object.headers.content_language,
            content_type: object.headers.content_type,
            content_length: Some(length(&range)),
            content_range: header,
            e_tag: Some(e_tag),
            last_modified: Some(time(object.modified_at)),
            metadata: Some(user.into_iter().collect()),
            ..GetObjectOutput::default()
        }))
    }

    pub(super) async fn put(&self, mut request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        refuse_unsupported(&request.headers)?;
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let body = request.input.body.take();
        let headers = Headers {
            content_type: request.input.content_type.take(),
            cache_control: request.input.cache_control.take(),
            content_disposition: request.input.content_disposition.take(),
            content_encoding: stored_encoding(request.input.content_encoding.take()),
            content_language: request.input.content_language.take(),
            user: request.input.metadata.take().unwrap_or_default().into_iter().collect(),
        };
        // Refused before the content comes.
        crate::objects::check(&place.key, &headers)?;
        let conditions = Conditions {
            if_match: request.input.if_match.take(),
            if_none_match: request.input.if_none_match.take(),
        };
        let arrived = self.arrive(body, &request).await?;
        let object = self.buckets.put(&place, arrived, (Written::Put, headers), &conditions).await?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(etag(&object)), ..PutObjectOutput::default() }))
    }

    /// Takes in the content of a request and compares it with the checksums that came with it.
    pub(super) async fn arrive<T>(
        &self,
        body: Option<StreamingBlob>,
        request: &S3Request<T>,
    ) -> Result<Arrived> {
        let body = body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        let (announced, limit) = (announced_bytes(&request.headers), self.buckets.content_bytes_max());
        if let Some(bytes) = announced.filter(|bytes| *bytes > limit) {
            return Err(too_large(bytes, limit));
        }
        let (body, expected) = checksum::watch(body, &request.headers, request.trailing_headers.clone());
        let arrived = self.buckets.take(body).await?;
        self.buckets.shared.parts.observe.received(arrived.piece.1);
        let is_whole = announced.is_none_or(|bytes| bytes == arrived.piece.1);
        let checked = if is_whole { expected.check(&arrived.md5) } else { Err(Error::Length) };
        match checked {
            Ok(()) => Ok(arrived),
            Err(error) => {
                self.buckets.shared.contents.discard(arrived).await;
                Err(error)
            }
        }
    }

    /// The object that a copy is made of.
    pub(super) async fn source<T>(
        &self,
        request: &S3Request<T>,
        source: &CopySource,
    ) -> S3Result<(Place, StoredObject)> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "a copy names a bucket and a key"));
        };
        if version_id.is_some() {
            return Err(s3_error!(NotImplemented, "objects have no versions"));
        }
        let place = self.place(request, bucket, key).await?;
        let object = self.buckets.object(&place.at, &place.key).await?;
        Ok((place, object))
    }

    pub(super) async fn copy(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        refuse_unsupported(&request.headers)?;
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let (from, source) = self.source(&request, &request.input.copy_source).await?;
        let input = request.input;
        let replaces =
            input.metadata_directive.as_ref().is_some_and(|how| how.as_str() == MetadataDirective::REPLACE);
        if !replaces && (&from.at, &from.key) == (&place.at, &place.key) {
            let message = "a copy to itself must replace the metadata";
            return Err(s3_error!(InvalidRequest, "{message}"));
        }
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        // Where a reader would be told that nothing has changed, a copy fails.
        conditions.check(&source).map_err(|_| Error::Precondition("x-amz-copy-source-if"))?;
        if source.bytes > CONTENT_BYTES_MAX {
            let (what, value, limit) =
                ("the size of what is copied at once", source.bytes, CONTENT_BYTES_MAX);
            return Err(Error::TooLarge { what, value, limit, remedy: "; copy it in parts" }.into());
        }
        let headers = match replaces {
            true => Headers {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding,
                content_language: input.content_language,
                user: input.metadata.unwrap_or_default().into_iter().collect(),
            },
            false => source.headers.clone(),
        };
        let arrived = self.buckets.take(self.buckets.read(&source, 0..source.bytes).await?).await?;
        let copy = (Written::Copy, headers);
        let object = self.buckets.put(&place, arrived, copy, &Conditions::default()).await?;
        let result = CopyObjectResult {
            e_tag: Some(etag(&object)),
            last_modified: Some(time(object.modified_at)),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    pub(super) async fn delete(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        refuse_version(request.input.version_id.as_deref())?;
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        self.buckets.remove(&place).await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) async fn delete_several(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let at = self.place(&request, &request.input.bucket, "").await?;
        let Delete { objects, quiet } = request.input.delete;
        if objects.len() > DELETE_LEN_MAX {
            return Err(s3_error!(
                MalformedXML,
                "{} keys, at most {DELETE_LEN_MAX} are allowed",
                objects.len()
            ));
        }
        let removals = objects.into_iter().map(|object| {
            let place = Place { key: object.key, ..at.clone() };
            async move {
                let removed = match refuse_version(object.version_id.as_deref()) {
                    Ok(()) => self.buckets.remove(&place).await.map_err(s3s::S3Error::from),
                    Err(error) => Err(error),
                };
                (place.key, removed)
            }
        });
        let outcomes: Vec<_> = stream::iter(removals).buffered(DELETES_AT_ONCE).collect().await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, outcome) in outcomes {
            match outcome {
                Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
                Err(error) => errors.push(s3s::dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(key),
                    version_id: None,
                }),
            }
        }
        let deleted = if quiet.unwrap_or(false) { Vec::new() } else { deleted };
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }
}

/// How many bytes of content are to come: of one that comes in chunks, without what is around them.
fn announced_bytes(headers: &http::HeaderMap) -> Option<u64> {
    let names = ["x-amz-decoded-content-length", "content-length"];
    let value = names.iter().find_map(|name| headers.get(*name))?;
    value.to_str().ok()?.parse().ok()
}

/// `null` is the version of what has none.
fn refuse_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("" | "null") => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "objects have no versions")),
    }
}

/// Without the encoding of the request itself, which is gone when the content has arrived.
pub(super) fn stored_encoding(encoding: Option<String>) -> Option<String> {
    let encodings = encoding?;
    let kept: Vec<&str> =
        encodings.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

fn length(range: &std::ops::Range<u64>) -> i64 {
    i64::try_from(range.end - range.start).unwrap_or(i64::MAX)
}
