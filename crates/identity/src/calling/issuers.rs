//! The keys of issuers, in memory: those that stand in specs, read once, and those that are published, fetched now and then.
//!
//! A call never waits for an issuer whose keys are known. Keys are fetched again in the background; while an issuer does not
//! answer, what it published within the last day is good. Only the first token of an issuer, and one that is signed with a
//! key nobody has seen, wait for one fetch, which all who wait share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use alula_model::JwtSpec;
use alula_store::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key_set::{KeySet, KeySetError};

/// Published keys are fetched again after this time: an issuer that takes a key back is heard within it.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// How long published keys are good while their issuer does not answer.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// A key that nobody has seen is looked for this often at most, so that invented ones do not become requests.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How often it is looked which keys are to be fetched again.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Issuers whose keys are not asked for in this time are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Issuers that are known at once.
const ISSUERS_MAX: usize = 1_000;
/// Sets of keys of specs that are kept read.
const STATED_MAX: usize = 10_000;
/// Largest set of keys that is taken, in bytes.
pub const KEY_SET_BYTES_MAX: u64 = 256 * 1024;

/// Fetches what issuers publish.
pub trait FetchKeys: Send + Sync + fmt::Debug {
    /// What lies at `url`, [`KEY_SET_BYTES_MAX`] at the most. The error is one line for the log.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// Fetches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFetch;

impl FetchKeys for NoFetch {
    fn fetch<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(std::future::ready(Err("nothing is fetched here".to_owned())))
    }
}

/// Everybody's keys. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Issuers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fetch: Arc<dyn FetchKeys>,
    published: RwLock<HashMap<String, Arc<Issuer>>>,
    /// By the spec itself, since versions share specs.
    stated: Mutex<HashMap<String, Arc<KeySet>>>,
}

/// One address with keys.
#[derive(Debug)]
struct Issuer {
    state: RwLock<State>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    keys: Arc<KeySet>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
    asked_at: Instant,
}

/// What is known of the keys that a spec names.
pub(crate) enum Known {
    /// These.
    Keys(Arc<KeySet>),
    /// They must be fetched first.
    Missing,
    /// They could not be fetched a moment ago.
    Unreachable,
}

impl Issuers {
    pub(crate) fn new(fetch: Arc<dyn FetchKeys>) -> Self {
        Self { shared: Arc::new(Shared { fetch, published: RwLock::default(), stated: Mutex::default() }) }
    }

    /// The keys for a spec, without waiting.
    pub(crate) fn keys(&self, spec: &JwtSpec) -> Result<Known, KeySetError> {
        let Some(url) = &spec.jwks_url else { return self.stated(spec).map(Known::Keys) };
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let Some(issuer) = published.get(url) else { return Ok(Known::Missing) };
        let now = Instant::now();
        let state = issuer.state();
        let is_good = state.fetched_at.is_some_and(|at| now.duration_since(at) < GOOD_FOR);
        let tried = state.tried_at.is_some_and(|at| now.duration_since(at) < LOOK_AGAIN_AFTER);
        Ok(match (is_good, tried) {
            (true, _) => Known::Keys(Arc::clone(&state.keys)),
            (false, true) => Known::Unreachable,
            (false, false) => Known::Missing,
        })
    }

    /// Whether a key that is not among them may have been published since.
    pub(crate) fn may_have_more(&self, url: &str) -> bool {
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let tried = published.get(url).and_then(|issuer| issuer.state().tried_at);
        tried.is_none_or(|at| at.elapsed() >= LOOK_AGAIN_AFTER)
    }

    /// Fetches the keys at `url`, unless somebody just has.
    pub(crate) async fn learn(&self, url: &str) {
        let begun = Instant::now();
        let Some(issuer) = self.issuer(url) else { return };
        let _turn = issuer.fetching.lock().await;
        if issuer.state().tried_at.is_some_and(|at| at >= begun) {
            return;
        }
        let fetched = self.shared.fetch.fetch(url).await;
        let read = fetched.and_then(|json| KeySet::published(&json).map_err(|error| error.to_string()));
        let mut state = issuer.state.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.tried_at = Some(now);
        match read {
            Ok(keys) => {
                state.keys = Arc::new(keys);
                state.fetched_at = Some(now);
            }
            Err(error) => tracing::warn!(url, error, "the keys of an issuer of tokens could not be fetched"),
        }
    }

    /// Fetches keys again before they are old, until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = every.tick() => {}
            }
            for url in self.due() {
                self.learn(&url).await;
            }
        }
    }

    /// Whose keys are to be fetched again. Those that nobody asks for are forgotten.
    fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let mut published = self.shared.published.write().unwrap_or_else(PoisonError::into_inner);
        published.retain(|_, issuer| now.duration_since(issuer.state().asked_at) < FORGET_AFTER);
        let is_due = |issuer: &Issuer| {
            issuer.state().tried_at.is_none_or(|at| now.duration_since(at) >= REFRESH_AFTER)
        };
        published.iter().filter(|(_, issuer)| is_due(issuer)).map(|(url, _)| url.clone()).collect()
    }

    /// Notes that the keys at `url` are in use.
    pub(crate) fn note_use(&self, url: &str) {
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let Some(issuer) = published.get(url) else { return };
        let now = Instant::now();
        if now.duration_since(issuer.state().asked_at) > LOOK_EVERY {
            issuer.state.write().unwrap_or_else(PoisonError::into_inner).asked_at = now;
        }
    }

    fn issuer(&self, url: &str) -> Option<Arc<Issuer>> {
        let mut published = self.shared.published.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(issuer) = published.get(url) {
            return Some(Arc::clone(issuer));
        }
        if published.len() >= ISSUERS_MAX {
            tracing::error!(
                url,
                "{ISSUERS_MAX} issuers of tokens are known already; this one's are not fetched"
            );
            return None;
        }
        let state =
            State { keys: Arc::default(), fetched_at: None, tried_at: None, asked_at: Instant::now() };
        let issuer = Arc::new(Issuer { state: RwLock::new(state), fetching: tokio::sync::Mutex::default() });
        published.insert(url.to_owned(), Arc::clone(&issuer));
        Some(issuer)
    }

    fn stated(&self, spec: &JwtSpec) -> Result<Arc<KeySet>, KeySetError> {
        let name = serde_json::to_string(&(&spec.keys, &spec.pem, &spec.algorithms)).unwrap_or_default();
        let mut stated = self.shared.stated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = stated.get(&name) {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(KeySet::stated(spec)?);
        if stated.len() >= STATED_MAX {
            stated.clear();
        }
        stated.insert(name, Arc::clone(&keys));
        Ok(keys)
    }
}

impl Issuer {
    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
