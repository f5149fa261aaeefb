//! Access keys of S3 clients. One reaches all buckets of its namespace.
//!
//! A signature of S3 is made with the secret itself, so the platform must be able to read it: it lies in the records, in
//! the data directory that only its owner may look into. It is shown once.

use alula_model::{By, Name, Timestamp};
use alula_store::{Batch, Expect, Record, SCAN_LEN_MAX};

use crate::key;
use crate::options::ACCESS_KEYS_MAX;
use crate::record::{self, StoredAccessKey};
use crate::{Buckets, Error, Result};

/// An access key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id, which clients name.
    pub id: String,
    /// The namespace whose buckets it reaches.
    pub namespace: Name,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// An access key that was made just now.
#[derive(Debug, Clone)]
pub struct NewAccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// Letters and digits that an id is made of: those of S3's ids.
const ID_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Begins every id, so that one is known for what it is.
const ID_PREFIX: &str = "ALULA";
const ID_LEN: usize = 20;

impl Buckets {
    /// Makes an access key of a namespace.
    pub async fn create_access_key(&self, namespace: &Name, by: &By) -> Result<NewAccessKey> {
        let present = self.access_keys(namespace).await?.len();
        if present >= ACCESS_KEYS_MAX {
            let (value, limit) = (present as u64 + 1, ACCESS_KEYS_MAX as u64);
            let remedy = "; delete one that nobody uses";
            return Err(Error::TooLarge { what: "the number of access keys", value, limit, remedy });
        }
        let draw = self.shared.parts.draw_secret;
        let id = access_key_id(draw());
        let secret = format!("{:032x}{:032x}", draw(), draw());
        let stored = StoredAccessKey {
            namespace: namespace.clone(),
            secret: secret.clone(),
            created_at: self.now(),
            created_by: by.name.clone(),
        };
        let batch = Batch::default().put(key::access_key(&id), record::write(&stored), Expect::Absent);
        self.commit_audited(batch, by, "bucket_key.create", (namespace, &id)).await?;
        Ok(NewAccessKey { id, secret })
    }

    /// The access keys of a namespace, the oldest first.
    pub async fn access_keys(&self, namespace: &Name) -> Result<Vec<AccessKey>> {
        let (mut keys, mut after): (Vec<AccessKey>, Option<alula_store::Key>) = (Vec::new(), None);
        loop {
            let page = self.records().scan(&key::access_keys(), after.as_ref(), SCAN_LEN_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for record in &page {
                let key = read(record)?;
                keys.extend((key.namespace == *namespace).then_some(key));
            }
        }
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(keys)
    }

    /// Removes an access key; what it signed is refused from now on. `false`: the namespace has none of this id.
    pub async fn delete_access_key(&self, namespace: &Name, id: &str, by: &By) -> Result<bool> {
        match self.secret(id).await? {
            Some(stored) if stored.namespace == *namespace => {
                let batch = Batch::default().delete(key::access_key(id), Expect::Any);
                self.commit_audited(batch, by, "bucket_key.delete", (namespace, id)).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// An access key with its secret.
    pub(crate) async fn secret(&self, id: &str) -> Result<Option<StoredAccessKey>> {
        if id.len() != ID_LEN || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        let found = self.records().get(&key::access_key(id)).await?;
        Ok(found.as_ref().map(record::read).transpose()?)
    }
}

fn read(record: &Record) -> Result<AccessKey> {
    let StoredAccessKey { namespace, created_at, created_by, .. } = record::read(record)?;
    let id = record.key.segments().last().unwrap_or_default().to_owned();
    Ok(AccessKey { id, namespace, created_at, created_by })
}

fn access_key_id(random: u128) -> String {
    let mut id = ID_PREFIX.to_owned();
    let mut rest = random;
    while id.len() < ID_LEN {
        id.push(char::from(ID_LETTERS[(rest % ID_LETTERS.len() as u128) as usize]));
        rest /= ID_LETTERS.len() as u128;
    }
    id
}
