//! People log in and out, over a store in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use alula_identity::login::{Attempt, SessionToken};
use alula_identity::{Grant, Identity, NewUser, Parts, Place, Principal, Refusal, Resource, Role, Verb};
use alula_model::{AuditEntry, Clock, ErrorCode, Name, Timestamp};
use alula_store::{AuditTrail, Batch, BoxFuture, Committed, Error, Key, MemoryStore, Records};

const HOUR_MS: i64 = 3_600_000;
const CHOSEN: &str = "correct horse battery";

#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Keeps what is recorded.
#[derive(Debug)]
struct Trail(Arc<MemoryStore>, std::sync::Mutex<Vec<AuditEntry>>);

impl AuditTrail for Trail {
    fn commit_audited(
        &self,
        batch: Batch,
        entries: Vec<AuditEntry>,
    ) -> BoxFuture<'_, Result<Committed, Error>> {
        self.1.lock().unwrap().extend(entries);
        self.0.commit(batch)
    }
}

fn random() -> u128 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    u128::from(LAST.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0123_4567_89ab)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A platform with the developer `anna` of `shop`, who has chosen a password.
struct World {
    store: Arc<MemoryStore>,
    clock: Arc<SetClock>,
    trail: Arc<Trail>,
    identity: Identity,
    admin: Principal,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let trail = Arc::new(Trail(Arc::clone(&store), std::sync::Mutex::default()));
        let clock = Arc::new(SetClock::default());
        let identity = load(&store, &clock, &trail).await;
        let world = Self { store, clock, trail, identity, admin: Principal::administrator("admin") };
        let new = NewUser { name: name("anna"), email: None, is_administrator: false };
        world.identity.create_user(&world.admin, new).await.unwrap();
        let grant = Grant { namespace: name("shop"), app: None, role: Role::Developer };
        world.identity.give(&world.admin, &name("anna"), grant).await.unwrap();
        let once = world.identity.reset_password(&world.admin, &name("anna")).await.unwrap();
        world.identity.change_password(attempt("anna", &once), CHOSEN).await.unwrap();
        world
    }

    async fn log_in(&self, password: &str) -> Result<SessionToken, ErrorCode> {
        let begun = self.identity.log_in(attempt("anna", password)).await;
        begun.map(|(_, token)| token).map_err(|fault| fault.code)
    }

    fn may_deploy(&self, token: &SessionToken) -> Result<bool, Refusal> {
        let who = self.identity.identify(token.secret_text())?;
        Ok(who.may(Verb::Write, Resource::Function, &Place::Namespace(name("shop"))))
    }
}

async fn load(store: &Arc<MemoryStore>, clock: &Arc<SetClock>, trail: &Arc<Trail>) -> Identity {
    let records: Arc<dyn Records> = Arc::<MemoryStore>::clone(store);
    let audit: Arc<dyn AuditTrail> = Arc::<Trail>::clone(trail);
    let clock: Arc<dyn Clock> = Arc::<SetClock>::clone(clock);
    Identity::load(Parts { records, clock, audit, random }).await.unwrap()
}

fn attempt<'a>(user: &'a str, password: &'a str) -> Attempt<'a> {
    let from: IpAddr = "192.0.2.1".parse().unwrap();
    Attempt { user, password, from: Some(from) }
}

#[tokio::test]
async fn a_session_may_what_its_owner_may_and_neither_it_nor_the_password_is_stored() {
    let world = World::new().await;
    let token = world.log_in(CHOSEN).await.unwrap();
    assert_eq!(world.may_deploy(&token), Ok(true));
    assert_eq!(&*world.identity.identify(token.secret_text()).unwrap().caller, "user:anna");
    let again = load(&world.store, &world.clock, &world.trail).await;
    assert!(again.identify(token.secret_text()).is_ok(), "another process knows it too");
    let secret = &token.secret_text()[token.secret_text().len() - 40..];
    for record in world.store.scan(&Key::new(&[]), None, 1_000).await.unwrap() {
        let value = String::from_utf8_lossy(&record.value).into_owned();
        assert!(!value.contains(secret) && !value.contains(CHOSEN), "{}: {value}", record.key);
    }
    let audit = format!("{:?}", world.trail.1.lock().unwrap());
    assert!(audit.contains("session.begin") && audit.contains("192.0.2.1"), "{audit}");
    for untold in [secret, CHOSEN, "argon2id"] {
        assert!(!audit.contains(untold), "{audit}");
    }
}

#[tokio::test]
async fn everybody_who_is_refused_is_told_the_same() {
    let world = World::new().await;
    let new = NewUser { name: name("bob"), email: None, is_administrator: false };
    world.identity.create_user(&world.admin, new).await.unwrap();
    let mut told = Vec::new();
    for (user, password) in
        [("anna", "wrong"), ("bob", ""), ("nobody", CHOSEN), ("No Name!", CHOSEN), ("", "")]
    {
        told.push(world.identity.log_in(attempt(user, password)).await.unwrap_err());
    }
    world.identity.disable_user(&world.admin, &name("anna")).await.unwrap();
    told.push(world.identity.log_in(attempt("anna", CHOSEN)).await.unwrap_err());
    assert!(
        told.iter().all(|fault| *fault == told[0] && fault.code == ErrorCode::Unauthenticated),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_password_that_was_made_for_somebody_opens_nothing_but_its_change() {
    let world = World::new().await;
    let old = world.log_in(CHOSEN).await.unwrap();
    let once = world.identity.reset_password(&world.admin, &name("anna")).await.unwrap();
    assert_eq!(world.may_deploy(&old), Err(Refusal::Unknown), "sessions end with the password");
    assert_eq!(world.log_in(CHOSEN).await.unwrap_err(), ErrorCode::Unauthenticated);
    assert_eq!(world.log_in(&once).await.unwrap_err(), ErrorCode::Forbidden);
    for unfit in ["short", once.as_str()] {
        let refused = world.identity.change_password(attempt("anna", &once), unfit).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{unfit}");
    }
    world.identity.change_password(attempt("anna", &once), "another good one").await.unwrap();
    assert!(world.log_in("another good one").await.is_ok());
    world.identity.remove_password(&world.admin, &name("anna")).await.unwrap();
    assert_eq!(world.log_in("another good one").await.unwrap_err(), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_is_ended_or_its_owner_is_disabled() {
    let world = World::new().await;
    let (first, second) = (world.log_in(CHOSEN).await.unwrap(), world.log_in(CHOSEN).await.unwrap());
    world.clock.0.store(11 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(world.may_deploy(&first), Ok(true));
    world.clock.0.store(12 * HOUR_MS, Ordering::Relaxed);
    assert_eq!((world.may_deploy(&first), world.may_deploy(&second)), (Ok(true), Err(Refusal::Expired)));
    assert_eq!(world.identity.sessions(Some(&name("anna"))).len(), 1);
    world.identity.end_session(&world.admin, first.id()).await.unwrap();
    assert_eq!(world.may_deploy(&first), Err(Refusal::Unknown));
    let third = world.log_in(CHOSEN).await.unwrap();
    world.identity.disable_user(&world.admin, &name("anna")).await.unwrap();
    assert_eq!(world.may_deploy(&third), Err(Refusal::Unknown));
    world.identity.enable_user(&world.admin, &name("anna")).await.unwrap();
    assert_eq!(world.may_deploy(&third), Err(Refusal::Unknown), "it does not come back");
}

#[tokio::test]
async fn the_oldest_session_ends_when_there_are_too_many() {
    let world = World::new().await;
    let first = world.log_in(CHOSEN).await.unwrap();
    for at in 1..=20 {
        world.clock.0.store(at, Ordering::Relaxed);
        world.log_in(CHOSEN).await.unwrap();
    }
    assert_eq!(world.identity.sessions(None).len(), 20);
    assert_eq!(world.may_deploy(&first), Err(Refusal::Unknown));
}

#[tokio::test(start_paused = true)]
async fn tries_in_vain_are_followed_by_pauses_that_only_administrators_see() {
    let world = World::new().await;
    for _ in 0..5 {
        assert_eq!(world.log_in("wrong password").await.unwrap_err(), ErrorCode::Unauthenticated);
    }
    assert_eq!(world.log_in(CHOSEN).await.unwrap_err(), ErrorCode::Unauthenticated, "although it is right");
    assert!(world.identity.paused().contains_key("anna"));
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert!(world.log_in(CHOSEN).await.is_ok());
    assert!(world.identity.paused().is_empty());
}
