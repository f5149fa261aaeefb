//! Operations on uploads in parts.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::answer::{etag, refuse_unsupported, time};
use super::endpoint::{Answer, Endpoint};
use super::listings::{Names, page_len};
use super::objects::stored_encoding;
use crate::Error;
use crate::multipart::ClaimedPart;
use crate::objects::Conditions;
use crate::options::{CONTENT_BYTES_MAX, PARTS_MAX};
use crate::record::Headers;

fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=PARTS_MAX).contains(number));
    number.ok_or_else(|| s3_error!(InvalidArgument, "the number of a part lies between 1 and {PARTS_MAX}"))
}

impl Endpoint {
    pub(super) async fn begin(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        refuse_unsupported(&request.headers)?;
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let input = request.input;
        let headers = Headers {
            content_type: input.content_type,
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            content_encoding: stored_encoding(input.content_encoding),
            content_language: input.content_language,
            user: input.metadata.unwrap_or_default().into_iter().collect(),
        };
        let id = self.buckets.begin_upload(&place, headers).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn part(&self, mut request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        refuse_unsupported(&request.headers)?;
        let number = part_number(request.input.part_number)?;
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        // Refused before the content comes.
        self.buckets.find_upload(&place, &request.input.upload_id).await?;
        let body = request.input.body.take();
        let arrived = self.arrive(body, &request).await?;
        let part = self.buckets.put_part(&place, &request.input.upload_id, number, arrived).await?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag)),
            ..UploadPartOutput::default()
        }))
    }

    pub(super) async fn part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        let number = part_number(request.input.part_number)?;
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        self.buckets.find_upload(&place, &request.input.upload_id).await?;
        let (_, source) = self.source(&request, &request.input.copy_source).await?;
        let range = match &request.input.copy_source_range {
            None => 0..source.bytes,
            Some(text) => {
                let range =
                    Range::parse(text).map_err(|_| s3_error!(InvalidArgument, "the range is malformed"))?;
                range.check(source.bytes).map_err(|_| Error::Range { bytes: source.bytes })?
            }
        };
        let bytes = range.end - range.start;
        if bytes > CONTENT_BYTES_MAX {
            let (what, limit) = ("the size of what is copied at once", CONTENT_BYTES_MAX);
            return Err(Error::TooLarge { what, value: bytes, limit, remedy: "; copy it in parts" }.into());
        }
        let arrived = self.buckets.take(self.buckets.read(&source, range).await?).await?;
        let part = self.buckets.put_part(&place, &request.input.upload_id, number, arrived).await?;
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(time(part.modified_at)),
            ..CopyPartResult::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        }))
    }

    pub(super) async fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let input = request.input;
        let claimed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let claimed = claimed.into_iter().map(|part| {
            let number = part_number(part.part_number.unwrap_or_default())?;
            Ok(ClaimedPart { number, etag: part.e_tag.map(ETag::into_value) })
        });
        let claimed = claimed.collect::<S3Result<Vec<_>>>()?;
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let object = self.buckets.complete_upload(&place, &input.upload_id, &claimed, &conditions).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            e_tag: Some(etag(&object)),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn abort(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        self.buckets.abort_upload(&place, &request.input.upload_id).await?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) async fn list_of_parts(&self, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        let place = self.place(&request, &request.input.bucket, &request.input.key).await?;
        let input = request.input;
        let all = self.buckets.open_parts(&place, &input.upload_id).await?;
        let limit = page_len(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let mut rest = all.into_iter().filter(|(number, _)| i32::from(*number) > after).peekable();
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let next = page.last().map(|(number, _)| i32::from(*number));
        let parts = page.into_iter().map(|(number, part)| Part {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(time(part.modified_at)),
            part_number: Some(number.into()),
            size: i64::try_from(part.piece.1).ok(),
            ..Part::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(parts.collect()),
            is_truncated: Some(rest.peek().is_some()),
            next_part_number_marker: next,
            part_number_marker: input.part_number_marker,
            max_parts: i32::try_from(limit).ok(),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn list_of_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let at = self.place(&request, &request.input.bucket, "").await?.at;
        let input = request.input;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "open uploads are listed without a delimiter"));
        }
        let names = Names::of(input.encoding_type.as_ref());
        let prefix = input.prefix.clone().unwrap_or_default();
        let (key_marker, id_marker) = (input.key_marker.clone(), input.upload_id_marker.clone());
        let all = self.buckets.open_uploads(&at).await?;
        let mut rest = all.into_iter().filter(|upload| upload.key.starts_with(&prefix)).collect::<Vec<_>>();
        if let Some(marker) = &key_marker {
            let seen = rest
                .iter()
                .position(|upload| &upload.key == marker && Some(&upload.id) == id_marker.as_ref());
            rest = match seen {
                Some(seen) => rest.split_off(seen + 1),
                None => rest.into_iter().filter(|upload| &upload.key > marker).collect(),
            };
        }
        let limit = page_len(input.max_uploads)?;
        let is_truncated = rest.len() > limit;
        rest.truncate(limit);
        let last = rest.last().filter(|_| is_truncated);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            next_key_marker: last.map(|upload| names.write(&upload.key)),
            next_upload_id_marker: last.map(|upload| upload.id.clone()),
            is_truncated: Some(is_truncated),
            uploads: Some(
                rest.iter()
                    .map(|upload| MultipartUpload {
                        initiated: Some(time(upload.stored.begun_at)),
                        key: Some(names.write(&upload.key)),
                        upload_id: Some(upload.id.clone()),
                        ..MultipartUpload::default()
                    })
                    .collect(),
            ),
            bucket: Some(input.bucket),
            key_marker,
            upload_id_marker: id_marker,
            max_uploads: i32::try_from(limit).ok(),
            prefix: Some(names.write(&prefix)),
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        }))
    }
}
