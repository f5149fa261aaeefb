//! Passwords: kept as argon2id hashes in the PHC string format, and computed where no caller waits on a thread for it.
//!
//! A hash takes memory on purpose, so only a few are computed at once, and few more may wait: a storm of logins costs the
//! platform neither its memory nor the threads that serve others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alula_model::{ErrorCode, Fault};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Memory of one hash in KiB, passes and lanes: what OWASP recommends for argon2id with 19 MiB.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes computed at once: 38 MiB, and no more than two cores.
const AT_ONCE: usize = 2;
/// Logins that may wait for that: some two seconds' worth.
const WAITING_MAX: usize = 64;
/// Shortest password: with a lock-out, guessing one of this length takes longer than anybody has.
const CHARS_MIN: usize = 12;
/// Longest password, in bytes: what a hash is given is bounded.
const BYTES_MAX: usize = 1_024;

/// The hash of a password, as a PHC string.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashed(String);

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed")
    }
}

/// Computes hashes. Cheap to clone; all clones share the bound.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// What a password is compared with whose user is not there, so that it takes as long.
    nobody: Hashed,
}

/// Counts one who waits, until it is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Hasher {
    fn default() -> Self {
        // No password has this hash: it is 32 bytes of nothing.
        let nobody = format!(
            "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$AAAAAAAAAAAAAAAAAAAAAA$\
             AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        );
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default(), nobody: Hashed(nobody) }
    }
}

impl Hasher {
    /// The hash of a password that is fit to be one.
    pub(crate) async fn hash(&self, password: &str, salt: u128) -> Result<Hashed, Fault> {
        check(password)?;
        let password = password.to_owned();
        self.compute(move || {
            let made = argon2().hash_password_with_salt(password.as_bytes(), &salt.to_be_bytes());
            made.map(|hash| Hashed(hash.to_string()))
        })
        .await?
        .map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Fault::new(ErrorCode::Internal, "the password could not be hashed")
        })
    }

    /// Whether `password` is the one that was hashed. Takes the same time where there is none.
    pub(crate) async fn verify(&self, password: &str, hashed: Option<&Hashed>) -> Result<bool, Fault> {
        let is_possible = password.len() <= BYTES_MAX;
        let password = if is_possible { password.to_owned() } else { String::new() };
        let Hashed(phc) = hashed.unwrap_or(&self.nobody).clone();
        let is_there = hashed.is_some();
        let is_right = self
            .compute(move || {
                let hash = PasswordHash::new(&phc);
                hash.is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(is_right && is_there && is_possible)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(Arc::clone(&self.waiting));
        if before >= WAITING_MAX {
            let message = "too many people log in at this moment; try again";
            let (name, limit) = ("logins_waiting_max", WAITING_MAX as u64);
            return Err(Fault::limit(
                ErrorCode::ConcurrencyExceeded,
                message,
                name,
                limit,
                "fixed in this version",
            ));
        }
        let gone = || Fault::new(ErrorCode::Draining, "the platform is shutting down");
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| gone())?;
        // The turn is given back when the hash is computed, even if nobody waits for it any more.
        let computing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        let computed = computing.await.map_err(|_| gone());
        drop(waiting);
        computed
    }
}

#[expect(clippy::expect_used, reason = "the parameters are constants within the bounds of argon2")]
fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("constants within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn check(password: &str) -> Result<(), Fault> {
    let refuse = |reason: String| Err(Fault::new(ErrorCode::InvalidRequest, format!("password: {reason}")));
    if password.chars().count() < CHARS_MIN {
        return refuse(format!("at least {CHARS_MIN} characters are needed"));
    }
    if password.len() > BYTES_MAX {
        return refuse(format!("at most {BYTES_MAX} bytes are allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_password_and_no_other_is_right() {
        let hasher = Hasher::default();
        let hashed = hasher.hash("correct horse battery", 7).await.unwrap();
        assert!(hashed.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hashed.0);
        assert_eq!(format!("{hashed:?}"), "Hashed");
        assert!(hasher.verify("correct horse battery", Some(&hashed)).await.unwrap());
        for wrong in ["", "correct horse batterz", "correct horse battery ", &"x".repeat(5_000)] {
            assert!(!hasher.verify(wrong, Some(&hashed)).await.unwrap(), "{wrong}");
        }
        assert!(!hasher.verify("correct horse battery", None).await.unwrap());
        let damaged = Hashed("rubbish".to_owned());
        assert!(!hasher.verify("rubbish", Some(&damaged)).await.unwrap());
        assert!(hasher.hash("too short", 7).await.is_err());
        assert!(hasher.hash(&"long".repeat(1_000), 7).await.is_err());
    }

    #[tokio::test]
    async fn what_nobody_is_compared_with_is_a_hash_of_the_same_cost() {
        let nobody = Hasher::default().nobody;
        let hash = PasswordHash::new(&nobody.0).unwrap();
        let params = Params::try_from(&hash).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
        assert_eq!(hash.hash.unwrap().len(), 32, "what is computed for it is compared with it");
    }

    #[tokio::test]
    async fn who_comes_to_a_crowd_is_turned_away_at_once() {
        let hasher = Hasher::default();
        let _busy = Arc::clone(&hasher.turns).acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let crowd: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.verify("x", None).await })
            })
            .collect();
        while hasher.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        let refused = hasher.verify("x", None).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ConcurrencyExceeded);
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
        for gone in crowd {
            drop(gone.await);
        }
        assert_eq!(hasher.waiting.load(Ordering::Relaxed), 0, "those who went are not counted");
    }
}
