//! The vault from outside: set, listed, opened, rolled back, removed; by two processes over one store; and the master key
//! replaced, with the process killed at every commit of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use alula_model::{AuditEntry, By, Clock, ErrorCode, Name, SecretName, SecretUses, Timestamp};
use alula_store::{
    AuditTrail, Batch, BoxFuture, Committed, Error, Expect, Key, MemoryStore, Records, SCAN_LEN_MAX,
};
use alula_vault::{Keyring, Parts, Vault};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Commits as long as it may; what is beyond finds the process killed.
#[derive(Debug)]
struct Trail {
    store: Arc<MemoryStore>,
    left: AtomicU64,
}

impl AuditTrail for Trail {
    fn commit_audited(
        &self,
        batch: Batch,
        entries: Vec<AuditEntry>,
    ) -> BoxFuture<'_, Result<Committed, Error>> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Box::pin(std::future::pending());
        }
        let number = self.left.load(Ordering::Relaxed);
        let line = format!(
            "{} {} {} {}",
            entries[0].actor, entries[0].action, entries[0].subject, entries[0].detail
        );
        self.store.commit(batch.put(Key::new(&["audit", &format!("{number:020}")]), line, Expect::Any))
    }
}

struct World {
    store: Arc<MemoryStore>,
    folder: tempfile::TempDir,
    vault: Vault,
}

impl World {
    async fn new() -> Self {
        let (store, folder) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
        let vault = load(&store, folder.path(), u64::MAX).await;
        Self { store, folder, vault }
    }

    /// Another process with the same store and the same file of keys, which is killed after so many commits.
    async fn again(&self, commits: u64) -> Vault {
        load(&self.store, self.folder.path(), commits).await
    }

    /// Everything that is stored, and the file of keys, as text.
    async fn everything(&self) -> String {
        let mut text = std::fs::read_to_string(self.folder.path().join("master.key")).unwrap();
        let records = self.store.scan(&Key::new(&[]), None, SCAN_LEN_MAX).await.unwrap();
        for record in records {
            text += &format!("{} {}\n", record.key, String::from_utf8_lossy(&record.value));
        }
        text
    }
}

async fn load(store: &Arc<MemoryStore>, folder: &Path, commits: u64) -> Vault {
    let trail = Trail { store: Arc::clone(store), left: AtomicU64::new(commits) };
    let parts = Parts {
        records: Arc::<MemoryStore>::clone(store),
        clock: Arc::new(SetClock::default()),
        audit: Arc::new(trail),
        keys: Keyring::open(&folder.join("master.key")).unwrap(),
    };
    Vault::load(parts).await.unwrap()
}

fn by() -> By {
    By { name: "anna".to_owned(), from: None }
}

fn namespace(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn uses(texts: &[&str]) -> SecretUses {
    texts.iter().map(|text| (text.to_uppercase(), text.parse().unwrap())).collect()
}

async fn set(vault: &Vault, of: &str, name: &str, value: &str) -> Result<u64, ErrorCode> {
    set_pinned(vault, of, name, value, &[]).await
}

async fn set_pinned(
    vault: &Vault,
    of: &str,
    name: &str,
    value: &str,
    pinned: &[u64],
) -> Result<u64, ErrorCode> {
    let (of, name) = (namespace(of), SecretName::new(name).unwrap());
    let pinned: BTreeSet<u64> = pinned.iter().copied().collect();
    let set = vault.set(&by(), (&of, &name), Zeroizing::new(value.to_owned()), &pinned).await;
    set.map(|info| info.current).map_err(|fault| fault.code)
}

fn open(vault: &Vault, of: &str, used: &str) -> Result<String, ErrorCode> {
    let opened = vault.open(&namespace(of), &uses(&[used])).map_err(|fault| fault.code)?;
    Ok(opened[0].1.to_string())
}

#[tokio::test]
async fn a_value_is_opened_for_its_namespace_and_stored_nowhere() {
    let world = World::new().await;
    let vault = &world.vault;
    assert_eq!(set(vault, "shop", "db", "hunter2-shop").await, Ok(1));
    assert_eq!(set(vault, "blog", "db", "hunter2-blog").await, Ok(1));
    assert_eq!(open(vault, "shop", "db").unwrap(), "hunter2-shop");
    assert_eq!(open(vault, "blog", "db").unwrap(), "hunter2-blog");
    assert_eq!(open(vault, "other", "db").unwrap_err(), ErrorCode::SecretUnavailable);
    assert_eq!(vault.list(&namespace("shop")).len(), 1);
    let told = format!("{vault:?} {:?} {}", vault.list(&namespace("shop")), world.everything().await);
    assert!(told.contains("anna secret.set shop/db version 1") && !told.contains("hunter2"), "{told}");
    assert_eq!(open(&world.again(0).await, "shop", "db").unwrap(), "hunter2-shop");
}

#[tokio::test]
async fn each_set_is_a_version_and_the_oldest_go_but_those_that_are_named() {
    let world = World::new().await;
    let vault = &world.vault;
    for number in 1..=12 {
        assert_eq!(set_pinned(vault, "shop", "db", &format!("v{number}"), &[2]).await, Ok(number));
    }
    let info = vault.list(&namespace("shop")).remove(0);
    let kept: Vec<_> = info.versions.iter().map(|version| version.number).collect();
    assert_eq!(kept, [12, 11, 10, 9, 8, 7, 6, 5, 4, 2]);
    assert_eq!(open(vault, "shop", "db@2").unwrap(), "v2");
    assert_eq!(open(vault, "shop", "db@3").unwrap_err(), ErrorCode::SecretUnavailable);
    assert_eq!(open(vault, "shop", "db").unwrap(), "v12");
    let pinned: Vec<u64> = kept.to_vec();
    assert_eq!(set_pinned(vault, "shop", "db", "v13", &pinned).await, Err(ErrorCode::Conflict));
    assert_eq!(open(vault, "shop", "db").unwrap(), "v12");
}

#[tokio::test]
async fn an_earlier_version_is_put_into_force_and_a_new_one_has_a_new_number() {
    let world = World::new().await;
    let (vault, of, name) = (&world.vault, namespace("shop"), SecretName::new("db").unwrap());
    for value in ["one", "two", "three"] {
        set(vault, "shop", "db", value).await.unwrap();
    }
    let rollback = |to| vault.rollback(by_static(), (&of, &name), to);
    assert_eq!(rollback(None).await.unwrap().current, 2);
    assert_eq!(open(vault, "shop", "db").unwrap(), "two");
    assert_eq!(rollback(Some(3)).await.unwrap().current, 3);
    assert_eq!(rollback(Some(9)).await.unwrap_err().code, ErrorCode::SecretNotFound);
    assert_eq!(rollback(Some(1)).await.unwrap().current, 1);
    assert_eq!(rollback(None).await.unwrap_err().code, ErrorCode::SecretNotFound);
    assert_eq!(set(vault, "shop", "db", "four").await, Ok(4));
    vault.remove(&by(), (&of, &name)).await.unwrap();
    assert_eq!(open(vault, "shop", "db").unwrap_err(), ErrorCode::SecretUnavailable);
    assert_eq!(vault.remove(&by(), (&of, &name)).await.unwrap_err().code, ErrorCode::SecretNotFound);
}

fn by_static() -> &'static By {
    static BY: std::sync::OnceLock<By> = std::sync::OnceLock::new();
    BY.get_or_init(by)
}

#[tokio::test]
async fn what_no_variable_can_hold_is_refused() {
    let world = World::new().await;
    for (value, code) in [
        (String::new(), ErrorCode::InvalidRequest),
        ("a\0b".to_owned(), ErrorCode::InvalidRequest),
        ("x".repeat(16 * 1024 + 1), ErrorCode::RequestTooLarge),
    ] {
        assert_eq!(set(&world.vault, "shop", "db", &value).await, Err(code));
    }
    assert!(set(&world.vault, "shop", "db", &"ä".repeat(8 * 1024)).await.is_ok());
    assert!(set(&world.vault, "shop", "pem", "-----BEGIN\nx\n").await.is_ok());
}

#[tokio::test]
async fn a_function_that_names_what_is_not_there_is_told_what_to_do() {
    let world = World::new().await;
    set(&world.vault, "shop", "db", "x").await.unwrap();
    let check = |of: &str, used: &str| world.vault.check(&namespace(of), &uses(&[used]));
    assert!(check("shop", "db").is_ok() && check("shop", "db@1").is_ok());
    for (of, used) in [("shop", "db@2"), ("shop", "api"), ("blog", "db")] {
        let error = check(of, used).unwrap_err();
        assert_eq!(error.field, "secrets");
        assert!(error.reason.contains(&format!("namespace {of} has no secret {used}")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_process_follows_and_tells_what_changed_and_nothing_else() {
    let world = World::new().await;
    set(&world.vault, "shop", "db", "one").await.unwrap();
    set(&world.vault, "shop", "api", "one").await.unwrap();
    let other = world.again(0).await;
    let (stop, following) = (CancellationToken::new(), other.clone());
    let mut changes = other.changes();
    let stopped = stop.clone();
    let run = tokio::spawn(async move { following.run(stopped).await });
    set(&world.vault, "shop", "db", "two").await.unwrap();
    let changed = changes.next().await;
    let has = |of: &str, name: &str| changed.has(&namespace(of), &SecretName::new(name).unwrap());
    assert!(has("shop", "db") && !has("shop", "api") && !has("blog", "db"));
    assert_eq!(open(&other, "shop", "db").unwrap(), "two");
    stop.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn two_changes_before_one_look_are_both_told() {
    let world = World::new().await;
    let mut changes = world.vault.changes();
    set(&world.vault, "shop", "db", "one").await.unwrap();
    set(&world.vault, "shop", "api", "one").await.unwrap();
    let changed = changes.next().await;
    assert!(
        ["db", "api"].iter().all(|name| changed.has(&namespace("shop"), &SecretName::new(name).unwrap()))
    );
}

#[tokio::test]
async fn a_value_that_is_put_into_another_place_does_not_open() {
    let world = World::new().await;
    set(&world.vault, "shop", "db", "hunter2").await.unwrap();
    let own = Key::new(&["secrets", "of", "shop", "db"]);
    let record = world.store.get(&own).await.unwrap().unwrap();
    // An attacker who can write to the store takes the secret of another tenant.
    let forged = String::from_utf8(record.value.to_vec()).unwrap().replace("\"shop\"", "\"thief\"");
    let theirs = Key::new(&["secrets", "of", "thief", "db"]);
    world.store.commit(Batch::default().put(theirs, forged, Expect::Any)).await.unwrap();
    let vault = world.again(0).await;
    assert_eq!(open(&vault, "thief", "db").unwrap_err(), ErrorCode::SecretUnavailable);
    assert_eq!(open(&vault, "shop", "db").unwrap(), "hunter2");
}

/// More than three commits of a rotation.
const SECRETS: usize = 160;

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_commit_loses_nothing_and_is_finished_later() {
    let world = World::new().await;
    for number in 0..SECRETS {
        set(&world.vault, "shop", &format!("s{number}"), &format!("value-{number}")).await.unwrap();
    }
    let all_open = |vault: &Vault| {
        (0..SECRETS).all(|number| open(vault, "shop", &format!("s{number}")) == Ok(format!("value-{number}")))
    };
    for commits in 0..4 {
        let killed = world.again(commits).await;
        let rotating = tokio::spawn(async move { killed.rotate_master(&by()).await });
        // It stands at its last commit: nothing that it could wait for comes any more.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!rotating.is_finished());
        rotating.abort();
        assert!(all_open(&world.again(0).await), "killed at commit {commits}");
    }
    let before = std::fs::read_to_string(world.folder.path().join("master.key")).unwrap();
    assert_eq!(before.lines().count(), 5, "every key that something may be under is still there");
    let vault = world.again(u64::MAX).await;
    let rotated = vault.resume_rotation().await.unwrap().unwrap();
    assert!(rotated.secrets > 0 && all_open(&vault));
    let after = std::fs::read_to_string(world.folder.path().join("master.key")).unwrap();
    assert_eq!(after.trim(), before.lines().next().unwrap(), "only the newest is left");
    let last = world.again(0).await;
    assert!(all_open(&last) && last.resume_rotation().await.unwrap().is_none());
    assert!(!world.everything().await.contains("value-"));
}

#[tokio::test]
async fn the_operator_s_keys_are_used_and_a_lost_one_costs_only_what_was_under_it() {
    let (store, folder) = (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap());
    let key = |name: &str| {
        Keyring::open(&folder.path().join(name)).unwrap();
        std::fs::read_to_string(folder.path().join(name)).unwrap()
    };
    let (old, new) = (key("old"), key("new"));
    let load = async |keys: &str| {
        let parts = Parts {
            records: Arc::<MemoryStore>::clone(&store),
            clock: Arc::new(SetClock::default()),
            audit: Arc::new(Trail { store: Arc::clone(&store), left: AtomicU64::new(u64::MAX) }),
            keys: Keyring::given(keys).unwrap(),
        };
        Vault::load(parts).await.unwrap()
    };
    set(&load(&old).await, "shop", "db", "hunter2").await.unwrap();
    assert_eq!(open(&load(&new).await, "shop", "db").unwrap_err(), ErrorCode::SecretUnavailable);
    let both = load(&format!("{new} {old}")).await;
    assert_eq!(both.rotate_master(&by()).await.unwrap().secrets, 1);
    assert_eq!(open(&load(&new).await, "shop", "db").unwrap(), "hunter2");
    assert_eq!(open(&load(&old).await, "shop", "db").unwrap_err(), ErrorCode::SecretUnavailable);
    // With a key that opens nothing there is nothing to seal again, and it says so instead of losing it.
    let lost = load(&old).await;
    assert_eq!(lost.rotate_master(&by()).await.unwrap_err().code, ErrorCode::SecretUnavailable);
}
