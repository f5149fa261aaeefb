//! The two listings of objects.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::answer::{etag, time, url_encode};
use super::endpoint::{Answer, Endpoint};
use crate::listing::{Entry, Query};
use crate::options::PAGE_LEN_MAX;

/// How names stand in the answer.
#[derive(Clone, Copy)]
pub(super) enum Names {
    Plain,
    UrlEncoded,
}

impl Names {
    pub(super) fn of(encoding: Option<&EncodingType>) -> Self {
        match encoding {
            Some(_) => Self::UrlEncoded,
            None => Self::Plain,
        }
    }

    pub(super) fn write(self, name: &str) -> String {
        match self {
            Self::Plain => name.to_owned(),
            Self::UrlEncoded => url_encode(name),
        }
    }
}

/// The entries of a page as S3 shows them: objects and common prefixes apart.
struct Shown {
    objects: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
}

fn show(entries: Vec<Entry>, names: Names) -> Shown {
    let mut shown = Shown { objects: Vec::new(), prefixes: Vec::new() };
    for entry in entries {
        match entry {
            Entry::Prefix(prefix) => shown.prefixes.push(CommonPrefix { prefix: Some(names.write(&prefix)) }),
            Entry::Object(key, object) => shown.objects.push(Object {
                e_tag: Some(etag(&object)),
                key: Some(names.write(&key)),
                last_modified: Some(time(object.modified_at)),
                size: i64::try_from(object.bytes).ok(),
                storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                ..Object::default()
            }),
        }
    }
    shown
}

/// How many entries a page has, of what is asked for.
pub(super) fn page_len(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(i32::MAX);
    let asked = usize::try_from(asked)
        .map_err(|_| s3_error!(InvalidArgument, "a page cannot have {asked} entries"))?;
    Ok(asked.min(PAGE_LEN_MAX))
}

impl Endpoint {
    pub(super) async fn list_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let at = self.place(&request, &request.input.bucket, "").await?.at;
        let input = request.input;
        let names = Names::of(input.encoding_type.as_ref());
        let continued = input.continuation_token.as_deref().map(read_token).transpose()?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: continued.or_else(|| input.start_after.clone()).unwrap_or_default(),
            limit: page_len(input.max_keys)?,
        };
        let page = self.buckets.page(&at, &query).await?;
        let next = page.entries.last().filter(|_| page.is_truncated).map(|entry| write_token(entry.name()));
        let key_count = i32::try_from(page.entries.len()).ok();
        let Shown { objects, prefixes } = show(page.entries, names);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(names.write(&query.prefix)),
            max_keys: i32::try_from(query.limit).ok(),
            key_count,
            continuation_token: input.continuation_token,
            is_truncated: Some(page.is_truncated),
            next_continuation_token: next,
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.map(|delimiter| names.write(&delimiter)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| names.write(&after)),
            ..ListObjectsV2Output::default()
        }))
    }

    pub(super) async fn list_v1(&self, request: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        let at = self.place(&request, &request.input.bucket, "").await?.at;
        let input = request.input;
        let names = Names::of(input.encoding_type.as_ref());
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: input.marker.clone().unwrap_or_default(),
            limit: page_len(input.max_keys)?,
        };
        let page = self.buckets.page(&at, &query).await?;
        let next = page.entries.last().filter(|_| page.is_truncated).map(|entry| names.write(entry.name()));
        let Shown { objects, prefixes } = show(page.entries, names);
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(names.write(&query.prefix)),
            marker: Some(names.write(&query.after)),
            max_keys: i32::try_from(query.limit).ok(),
            is_truncated: Some(page.is_truncated),
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            delimiter: input.delimiter.map(|delimiter| names.write(&delimiter)),
            next_marker: next,
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        }))
    }
}

/// A continuation is the last name, in digits that need no escape.
fn write_token(name: &str) -> String {
    crate::contents::hex(name.as_bytes())
}

fn read_token(token: &str) -> S3Result<String> {
    let wrong = || s3_error!(InvalidArgument, "the continuation token is not one of ours");
    if !token.len().is_multiple_of(2) || !token.is_ascii() {
        return Err(wrong());
    }
    let byte = |at| u8::from_str_radix(token.get(at..at + 2).unwrap_or_default(), 16).map_err(|_| wrong());
    let bytes = (0..token.len()).step_by(2).map(byte).collect::<S3Result<Vec<u8>>>()?;
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_a_foreign_one_is_refused() {
        for name in ["", "a/b", "ü\u{1}日"] {
            assert_eq!(read_token(&write_token(name)).unwrap(), name);
        }
        for foreign in ["x", "zz", "ü", "ff"] {
            assert!(read_token(foreign).is_err(), "{foreign}");
        }
    }
}
