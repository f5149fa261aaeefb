//! Uploads in parts. A complete one is an object that is made of its parts' packages: nothing is copied.

use std::collections::BTreeMap;

use alula_store::{Batch, Expect, Key, Record, SCAN_LEN_MAX};
use s3s::crypto::{Checksum as _, Md5};

use crate::contents::{Arrived, hex};
use crate::event::Written;
use crate::key::{self, BucketKey};
use crate::objects::{Conditions, NewObject, Place, check};
use crate::options::{COMMITS_MAX, PART_BYTES_MIN, PARTS_MAX, UPLOADS_MAX};
use crate::record::{self, Content, Headers, Piece, StoredObject, StoredPart, StoredUpload};
use crate::{Buckets, Error, Result};

/// An open upload.
#[derive(Debug, Clone)]
pub(crate) struct OpenUpload {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) stored: StoredUpload,
}

/// A part as the client names it when it completes an upload.
#[derive(Debug, Clone)]
pub(crate) struct ClaimedPart {
    pub(crate) number: u16,
    pub(crate) etag: Option<String>,
}

impl Buckets {
    /// Begins an upload and returns its id.
    pub(crate) async fn begin_upload(&self, place: &Place, headers: Headers) -> Result<String> {
        check(&place.key, &headers)?;
        let _stays = self.shared.existence.read().await;
        self.bucket(&place.at.namespace, place.at.bucket.as_str()).await?;
        let open = self.records().scan(&place.at.uploads(), None, UPLOADS_MAX).await?.len();
        if open >= UPLOADS_MAX {
            let (value, limit) = (open as u64 + 1, UPLOADS_MAX as u64);
            let remedy = "; abort those that nobody finishes";
            return Err(Error::TooLarge { what: "the number of open uploads", value, limit, remedy });
        }
        let id = self.draw_id();
        let stored = StoredUpload { begun_at: self.now(), headers };
        let batch =
            Batch::default().put(place.at.upload(&place.key, &id), record::write(&stored), Expect::Absent);
        self.records().commit(batch).await?;
        Ok(id)
    }

    /// Keeps a content that has arrived as part of an upload, in place of an earlier one of its number.
    pub(crate) async fn put_part(
        &self,
        place: &Place,
        upload: &str,
        number: u16,
        arrived: Arrived,
    ) -> Result<StoredPart> {
        let part = StoredPart { piece: arrived.piece.clone(), etag: arrived.etag(), modified_at: self.now() };
        let kept = self.keep_part(place, upload, number, (&part, &arrived)).await;
        if let Err(error) = &kept
            && !matches!(error, Error::Store(_))
        {
            self.shared.contents.discard(arrived).await;
        }
        kept.map(|()| part)
    }

    async fn keep_part(
        &self,
        place: &Place,
        upload: &str,
        number: u16,
        (part, arrived): (&StoredPart, &Arrived),
    ) -> Result<()> {
        let (upload_key, part_key) = (place.at.upload(&place.key, upload), key::part(upload, number));
        for _ in 0..COMMITS_MAX {
            let open = self.upload_record(place, upload).await?;
            let earlier = self.records().get(&part_key).await?;
            let expect = earlier.as_ref().map_or(Expect::Absent, |record| Expect::At(record.revision));
            // Writing the upload's record as it is makes sure that nobody completes or aborts it at this moment.
            let mut batch = Batch::default()
                .put(upload_key.clone(), open.value.clone(), Expect::At(open.revision))
                .put(part_key.clone(), record::write(part), expect);
            if let Some(earlier) = earlier {
                let StoredPart { piece, .. } = record::read(&earlier)?;
                batch = self.shared.contents.released(batch, &Content::Whole(piece.0));
            }
            match self.records().commit(arrived.named(batch)).await {
                Err(alula_store::Error::Conflict { key }) if key == upload_key || key == part_key => {}
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(Error::Contended)
    }

    /// Makes an object of the parts that are named. They must be there and in ascending order.
    pub(crate) async fn complete_upload(
        &self,
        place: &Place,
        upload: &str,
        claimed: &[ClaimedPart],
        conditions: &Conditions,
    ) -> Result<StoredObject> {
        let (upload_key, pieces_key) = (place.at.upload(&place.key, upload), key::pieces(upload));
        for _ in 0..COMMITS_MAX {
            let open = self.upload_record(place, upload).await?;
            let StoredUpload { headers, .. } = record::read(&open)?;
            let present = self.parts(upload).await?;
            let chosen = choose(&present, claimed)?;
            let pieces: Vec<&Piece> = chosen.iter().map(|part| &part.piece).collect();
            let bytes = pieces.iter().map(|piece| piece.1).sum();
            self.check_size(bytes)?;
            let content = Content::Pieces(upload.to_owned());
            let new =
                NewObject { how: Written::Complete, bytes, etag: joint_etag(&chosen), headers, content };
            let (listed, parts) = (record::write(&pieces), Content::Parts(upload.to_owned()));
            let settle = |batch: Batch| {
                let batch = batch.delete(upload_key.clone(), Expect::At(open.revision)).put(
                    pieces_key.clone(),
                    listed.clone(),
                    Expect::Absent,
                );
                self.shared.contents.released(batch, &parts)
            };
            match self.replace(place, &new, conditions, &settle).await {
                Err(Error::Store(alula_store::Error::Conflict { key })) if key == upload_key => {}
                outcome => return outcome,
            }
        }
        Err(Error::Contended)
    }

    fn check_size(&self, bytes: u64) -> Result<()> {
        let limit = self.shared.parts.options.object_bytes_max;
        let remedy = "; bucket.object_bytes_max in the configuration";
        match bytes > limit {
            true => Err(Error::TooLarge { what: "the object's size", value: bytes, limit, remedy }),
            false => Ok(()),
        }
    }

    /// Gives an upload up. Its parts go soon.
    pub(crate) async fn abort_upload(&self, place: &Place, upload: &str) -> Result<()> {
        for _ in 0..COMMITS_MAX {
            let open = self.upload_record(place, upload).await?;
            let batch = Batch::default().delete(open.key.clone(), Expect::At(open.revision));
            let batch = self.shared.contents.released(batch, &Content::Parts(upload.to_owned()));
            match self.records().commit(batch).await {
                Err(alula_store::Error::Conflict { .. }) => {}
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(Error::Contended)
    }

    /// The parts of an open upload by their numbers.
    pub(crate) async fn open_parts(&self, place: &Place, upload: &str) -> Result<BTreeMap<u16, StoredPart>> {
        self.upload_record(place, upload).await?;
        self.parts(upload).await
    }

    /// The open uploads of a bucket, ordered by key and then by age.
    pub(crate) async fn open_uploads(&self, at: &BucketKey) -> Result<Vec<OpenUpload>> {
        let records = self.records().scan(&at.uploads(), None, UPLOADS_MAX).await?;
        let read = |record: &Record| {
            let mut segments = record.key.segments().skip(3);
            let key = key::decode(segments.next().unwrap_or_default());
            let id = segments.next().unwrap_or_default().to_owned();
            Ok(OpenUpload { key, id, stored: record::read(record)? })
        };
        let mut open = records.iter().map(read).collect::<Result<Vec<_>>>()?;
        open.sort_by(|a, b| (&a.key, a.stored.begun_at, &a.id).cmp(&(&b.key, b.stored.begun_at, &b.id)));
        Ok(open)
    }

    /// Makes sure that an upload is open.
    pub(crate) async fn find_upload(&self, place: &Place, upload: &str) -> Result<()> {
        self.upload_record(place, upload).await.map(drop)
    }

    async fn upload_record(&self, place: &Place, upload: &str) -> Result<Record> {
        let missing = || Error::NoSuchUpload(upload.to_owned());
        if upload.is_empty() || upload.contains(['/', '\0']) {
            return Err(missing());
        }
        self.records().get(&place.at.upload(&place.key, upload)).await?.ok_or_else(missing)
    }

    pub(crate) async fn parts(&self, upload: &str) -> Result<BTreeMap<u16, StoredPart>> {
        let (mut parts, mut after): (_, Option<Key>) = (BTreeMap::new(), None);
        loop {
            let page = self.records().scan(&key::parts(upload), after.as_ref(), SCAN_LEN_MAX).await?;
            let Some(last) = page.last() else { return Ok(parts) };
            after = Some(last.key.clone());
            for record in &page {
                let number = record.key.segments().last().and_then(|number| number.parse().ok());
                parts.extend(
                    number.map(|number| Ok::<_, Error>((number, record::read(record)?))).transpose()?,
                );
            }
        }
    }
}

/// The parts that the client claims, of those that are there.
fn choose<'a>(
    present: &'a BTreeMap<u16, StoredPart>,
    claimed: &[ClaimedPart],
) -> Result<Vec<&'a StoredPart>> {
    if claimed.is_empty() || claimed.len() > usize::from(PARTS_MAX) {
        return Err(Error::Invalid(format!("an upload has between 1 and {PARTS_MAX} parts")));
    }
    if claimed.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(Error::PartOrder);
    }
    let mut chosen = Vec::with_capacity(claimed.len());
    for (index, claim) in claimed.iter().enumerate() {
        let part = present.get(&claim.number).ok_or(Error::InvalidPart(claim.number))?;
        if claim.etag.as_ref().is_some_and(|etag| etag != &part.etag) {
            return Err(Error::InvalidPart(claim.number));
        }
        if index + 1 < claimed.len() && part.piece.1 < PART_BYTES_MIN {
            return Err(Error::PartTooSmall(claim.number));
        }
        chosen.push(part);
    }
    Ok(chosen)
}

/// S3's ETag of an object of several parts: the MD5 of the parts' MD5s, and how many they are.
fn joint_etag(parts: &[&StoredPart]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        let digits = part.etag.as_bytes().chunks(2);
        let bytes = digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        md5.update(&bytes.collect::<Vec<u8>>());
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_of_parts_is_that_of_s3() {
        let part = |etag: &str| StoredPart {
            piece: Piece(alula_model::Digest::from_bytes([0; 32]), 1),
            etag: etag.to_owned(),
            modified_at: alula_model::Timestamp(0),
        };
        // md5(md5("a") || md5("b")), as `md5sum` says.
        let (a, b) = (part("0cc175b9c0f1b6a831c399e269772661"), part("92eb5ffee6ae2fec3ad71c777531578f"));
        assert_eq!(joint_etag(&[&a, &b]), "96e024ba2074fe77e8e965ba43a704be-2");
    }
}
