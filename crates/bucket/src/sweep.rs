//! Removing what no object refers to any more: contents that were replaced, parts of uploads that are over, contents whose
//! object was never committed because the process ended; and uploads that nobody finished.
//!
//! A note is claimed before its content is removed: whoever wanted to name the content finds the note gone and fails. What
//! was removed twice does no harm, so a sweep may end anywhere.

use std::collections::HashSet;

use alula_model::Digest;
use alula_store::{BATCH_LEN_MAX, Batch, Expect, Key, Record, SCAN_LEN_MAX};
use tokio_util::sync::CancellationToken;

use crate::contents::{claimed, due_at, notes};
use crate::key::{self, all_uploads};
use crate::options::{SWEEP_INTERVAL, UPLOAD_KEEP_MS};
use crate::record::{self, Content, Piece, StoredUpload};
use crate::{Buckets, Result};

impl Buckets {
    /// Sweeps now and then, until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "contents that no object refers to could not be removed");
            }
        }
    }

    /// Removes what is due.
    pub(crate) async fn sweep(&self) -> Result<()> {
        self.give_up_old_uploads().await?;
        loop {
            let found = self.records().scan(&notes(), None, SCAN_LEN_MAX).await?;
            let now = self.now();
            let due: Vec<_> =
                found.into_iter().take_while(|note| due_at(&note.key).is_some_and(|at| at <= now)).collect();
            if due.is_empty() {
                return Ok(());
            }
            for note in due {
                self.settle(&note).await?;
            }
        }
    }

    async fn settle(&self, note: &Record) -> Result<()> {
        let content: Content = record::read(note)?;
        let claim = claimed(&content);
        if note.key != claim {
            let batch = Batch::default().delete(note.key.clone(), Expect::At(note.revision)).put(
                claim.clone(),
                note.value.clone(),
                Expect::Any,
            );
            match self.records().commit(batch).await {
                Err(alula_store::Error::Conflict { .. }) => return Ok(()),
                outcome => {
                    outcome?;
                }
            }
        }
        let packages = &self.shared.contents.packages;
        match &content {
            Content::Whole(digest) => packages.remove(digest).await?,
            Content::Pieces(id) => {
                for Piece(digest, _) in self.shared.contents.pieces(&content, 0).await? {
                    packages.remove(&digest).await?;
                }
                self.records().commit(Batch::default().delete(key::pieces(id), Expect::Any)).await?;
            }
            Content::Parts(id) => self.forget_parts(id, &content).await?,
        }
        self.records().commit(Batch::default().delete(claim, Expect::Any)).await?;
        Ok(())
    }

    /// Removes the parts of an upload, except the contents that its object is made of.
    async fn forget_parts(&self, upload: &str, content: &Content) -> Result<()> {
        let kept: HashSet<Digest> =
            self.shared.contents.pieces(content, 0).await?.into_iter().map(|piece| piece.0).collect();
        let parts = self.parts(upload).await?;
        for part in parts.values().filter(|part| !kept.contains(&part.piece.0)) {
            self.shared.contents.packages.remove(&part.piece.0).await?;
        }
        let keys: Vec<Key> = parts.keys().map(|number| key::part(upload, *number)).collect();
        for some in keys.chunks(BATCH_LEN_MAX) {
            let forget = |batch: Batch, key: &Key| batch.delete(key.clone(), Expect::Any);
            self.records().commit(some.iter().fold(Batch::default(), forget)).await?;
        }
        Ok(())
    }

    async fn give_up_old_uploads(&self) -> Result<()> {
        let (now, mut after): (_, Option<Key>) = (self.now(), None);
        loop {
            let page = self.records().scan(&all_uploads(), after.as_ref(), SCAN_LEN_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for open in &page {
                let StoredUpload { begun_at, .. } = record::read(open)?;
                if begun_at.plus_millis(UPLOAD_KEEP_MS) > now {
                    continue;
                }
                let id = open.key.segments().last().unwrap_or_default().to_owned();
                let batch = Batch::default().delete(open.key.clone(), Expect::At(open.revision));
                let batch = self.shared.contents.released(batch, &Content::Parts(id));
                match self.records().commit(batch).await {
                    // Somebody uses it after all.
                    Err(alula_store::Error::Conflict { .. }) => {}
                    outcome => {
                        outcome?;
                    }
                }
            }
        }
    }
}
