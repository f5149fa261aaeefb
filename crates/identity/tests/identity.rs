//! Who is known, from outside: made, let in, changed, shut out; by two processes over one store.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use alula_identity::{
    Grant, Identity, KeyOwner, NewKey, NewUser, Parts, Place, Principal, Refusal, Resource, Role, Verb,
};
use alula_model::{AuditEntry, Clock, ErrorCode, Name, Timestamp};
use alula_store::{AuditTrail, Batch, BoxFuture, Committed, Error, Expect, Key, MemoryStore, Records};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Trail(Arc<MemoryStore>, AtomicU64);

impl AuditTrail for Trail {
    fn commit_audited(
        &self,
        batch: Batch,
        entries: Vec<AuditEntry>,
    ) -> BoxFuture<'_, Result<Committed, Error>> {
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        let line = format!("{} {}", entries[0].actor, entries[0].action);
        self.0.commit(batch.put(Key::new(&["audit", &format!("{number:04}")]), line, Expect::Any))
    }
}

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<SetClock>,
    trail: Arc<Trail>,
    identity: Identity,
    admin: Principal,
}

/// Different with every call, as far as tests care.
fn random() -> u128 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    u128::from(LAST.fetch_add(1, Ordering::Relaxed)) * 0x9e37_79b9_7f4a_7c15_f39c
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn grant(namespace: &str, role: Role) -> Grant {
    Grant { namespace: name(namespace), app: None, role }
}

impl World {
    async fn new() -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SetClock::default()));
        let trail = Arc::new(Trail(Arc::clone(&store), AtomicU64::new(0)));
        let identity = load(&store, &clock, &trail).await;
        Self { store, clock, trail, identity, admin: Principal::administrator("admin") }
    }

    async fn again(&self) -> Identity {
        load(&self.store, &self.clock, &self.trail).await
    }

    async fn key(&self, grants: Vec<Grant>) -> (alula_identity::KeyInfo, String) {
        let new =
            NewKey { name: name("ci"), owner: KeyOwner::Namespace(name("shop")), grants, expires_at: None };
        let (info, plain) = self.identity.create_key(&self.admin, new).await.unwrap();
        (info, plain.secret_text().to_owned())
    }

    async fn user(&self, text: &str, grants: &[Grant]) -> String {
        let new = NewUser { name: name(text), email: None, is_administrator: false };
        self.identity.create_user(&self.admin, new).await.unwrap();
        for grant in grants {
            self.identity.give(&self.admin, &name(text), grant.clone()).await.unwrap();
        }
        let new = NewKey {
            name: name("laptop"),
            owner: KeyOwner::User(name(text)),
            grants: Vec::new(),
            expires_at: None,
        };
        self.identity.create_key(&self.admin, new).await.unwrap().1.secret_text().to_owned()
    }
}

async fn load(store: &Arc<MemoryStore>, clock: &Arc<SetClock>, trail: &Arc<Trail>) -> Identity {
    let records: Arc<dyn Records> = Arc::<MemoryStore>::clone(store);
    let (clock, audit): (Arc<dyn Clock>, Arc<dyn AuditTrail>) =
        (Arc::<SetClock>::clone(clock), Arc::<Trail>::clone(trail));
    Identity::load(Parts { records, clock, audit, random }).await.unwrap()
}

fn may_publish(identity: &Identity, key: &str, namespace: &str) -> bool {
    let principal = identity.identify(key).unwrap();
    principal.may(Verb::Write, Resource::Function, &Place::Namespace(name(namespace)))
}

#[tokio::test]
async fn a_key_lets_in_until_it_is_taken_back_and_is_never_stored() {
    let world = World::new().await;
    let (info, key) = world.key(vec![grant("shop", Role::Developer)]).await;
    assert!(may_publish(&world.identity, &key, "shop") && !may_publish(&world.identity, &key, "bank"));
    assert!(may_publish(&world.again().await, &key, "shop"), "another process knows it too");
    for record in world.store.scan(&Key::new(&[]), None, 1_000).await.unwrap() {
        let value = String::from_utf8_lossy(&record.value).into_owned();
        assert!(!value.contains(&key[20..]), "{}: {value}", record.key);
    }
    let almost = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    assert_eq!(world.identity.identify(&almost).unwrap_err(), Refusal::Unknown);
    world.identity.revoke_key(&world.admin, &info.id).await.unwrap();
    assert_eq!(world.identity.identify(&key).unwrap_err(), Refusal::Unknown);
    let again = world.identity.revoke_key(&world.admin, &info.id).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::NotFound);
    let audit = world.store.scan(&Key::new(&["audit"]), None, 9).await.unwrap();
    let lines: Vec<_> =
        audit.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect();
    assert_eq!(lines, ["admin key.create", "admin key.revoke"]);
}

#[tokio::test]
async fn a_key_expires_and_a_replaced_secret_ends_after_its_grace() {
    let world = World::new().await;
    let (info, old) = world.key(vec![grant("shop", Role::Developer)]).await;
    let (_, new) = world.identity.rotate_key(&world.admin, &info.id, 5_000).await.unwrap();
    let new = new.secret_text();
    assert!(
        new != old && may_publish(&world.identity, new, "shop") && may_publish(&world.identity, &old, "shop")
    );
    world.clock.0.store(5_000, Ordering::Relaxed);
    assert_eq!(world.identity.identify(&old).unwrap_err(), Refusal::Unknown);
    assert!(may_publish(&world.identity, new, "shop"));
    let short = NewKey {
        name: name("short"),
        owner: KeyOwner::Namespace(name("shop")),
        grants: vec![grant("shop", Role::Viewer)],
        expires_at: Some(Timestamp(6_000)),
    };
    let (_, short) = world.identity.create_key(&world.admin, short).await.unwrap();
    assert!(world.identity.identify(short.secret_text()).is_ok());
    world.clock.0.store(6_000, Ordering::Relaxed);
    assert_eq!(world.identity.identify(short.secret_text()).unwrap_err(), Refusal::Expired);
}

#[tokio::test]
async fn a_persons_key_may_what_the_person_may_now() {
    let world = World::new().await;
    let key = world.user("anna", &[grant("shop", Role::Viewer)]).await;
    assert!(!may_publish(&world.identity, &key, "shop"));
    world.identity.give(&world.admin, &name("anna"), grant("shop", Role::Developer)).await.unwrap();
    assert!(may_publish(&world.identity, &key, "shop"));
    world.identity.take(&world.admin, &name("anna"), &grant("shop", Role::Developer)).await.unwrap();
    assert!(!may_publish(&world.identity, &key, "shop"));
    world.identity.disable_user(&world.admin, &name("anna")).await.unwrap();
    assert_eq!(world.identity.identify(&key).unwrap_err(), Refusal::Disabled);
    world.identity.enable_user(&world.admin, &name("anna")).await.unwrap();
    assert!(world.identity.identify(&key).is_ok());
    world.identity.remove_user(&world.admin, &name("anna")).await.unwrap();
    assert_eq!(world.identity.identify(&key).unwrap_err(), Refusal::Unknown);
}

#[tokio::test]
async fn nobody_gives_what_is_not_theirs_to_give() {
    let world = World::new().await;
    let key = world.user("olga", &[grant("shop", Role::Owner)]).await;
    world.user("bob", &[]).await;
    let olga = world.identity.identify(&key).unwrap();
    world.identity.give(&olga, &name("bob"), grant("shop", Role::Owner)).await.unwrap();
    let refused = world.identity.give(&olga, &name("bob"), grant("bank", Role::Viewer)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    let new = |grants| NewKey {
        name: name("k"),
        owner: KeyOwner::Namespace(name("bank")),
        grants,
        expires_at: None,
    };
    let refused = world.identity.create_key(&olga, new(vec![grant("bank", Role::Viewer)])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    for grants in [vec![], vec![grant("shop", Role::Viewer)]] {
        let refused = world.identity.create_key(&world.admin, new(grants)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
    }
    // A key of her own that asks for more than she has gets nothing by it.
    let own = NewKey {
        name: name("more"),
        owner: KeyOwner::User(name("olga")),
        grants: vec![grant("bank", Role::Owner), grant("shop", Role::Owner)],
        expires_at: None,
    };
    let (_, own) = world.identity.create_key(&olga, own).await.unwrap();
    assert!(may_publish(&world.identity, own.secret_text(), "shop"));
    assert!(!may_publish(&world.identity, own.secret_text(), "bank"));
}

#[tokio::test(start_paused = true)]
async fn another_process_shuts_out_within_a_second() {
    let world = World::new().await;
    let other = world.again().await;
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (other, stop) = (other.clone(), stop.clone());
        async move { other.run(stop).await }
    });
    let (info, key) = world.key(vec![grant("shop", Role::Viewer)]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.clock.0.store(77, Ordering::Relaxed);
    assert!(other.identify(&key).is_ok());
    world.identity.revoke_key(&world.admin, &info.id).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(other.identify(&key).unwrap_err(), Refusal::Unknown);
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_use_is_known_after_a_restart() {
    let world = World::new().await;
    let (info, key) = world.key(vec![grant("shop", Role::Viewer)]).await;
    assert_eq!(world.identity.key(&info.id).unwrap().last_used_at, None);
    world.clock.0.store(77, Ordering::Relaxed);
    world.identity.identify(&key).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    world.identity.run(stop).await;
    let again = world.again().await;
    assert_eq!(again.key(&info.id).unwrap().last_used_at, Some(Timestamp(77)));
    assert_eq!(again.keys(&KeyOwner::Namespace(name("shop"))).len(), 1);
}

#[tokio::test]
async fn a_namespace_goes_with_its_keys_and_roles_however_many() {
    let world = World::new().await;
    let shop = name("shop");
    world.identity.create_namespace(&world.admin, &shop, "the shop").await.unwrap();
    let twice = world.identity.create_namespace(&world.admin, &shop, "").await.unwrap_err();
    assert_eq!(twice.code, ErrorCode::Conflict);
    for number in 0..900 {
        let new = NewKey {
            name: name(&format!("k{number}")),
            owner: KeyOwner::Namespace(shop.clone()),
            grants: vec![grant("shop", Role::Viewer)],
            expires_at: None,
        };
        world.identity.create_key(&world.admin, new).await.unwrap();
    }
    let new = NewKey {
        name: name("one-more"),
        owner: KeyOwner::Namespace(shop.clone()),
        grants: vec![grant("shop", Role::Viewer)],
        expires_at: None,
    };
    let refused = world.identity.create_key(&world.admin, new).await.unwrap_err();
    assert_eq!(refused.limit.map(|limit| limit.name), Some("keys_per_owner_max".to_owned()));
    let key = world.user("anna", &[grant("shop", Role::Viewer)]).await;
    world.identity.remove_namespace(&world.admin, &shop).await.unwrap();
    assert_eq!(world.identity.keys(&KeyOwner::Namespace(shop.clone())), []);
    assert_eq!(world.identity.identify(&key).unwrap().grants(), []);
    assert_eq!(world.again().await.namespaces(), []);
}
