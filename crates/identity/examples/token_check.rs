//! How long it takes to judge a request, with few and with many keys known.
//!
//!     cargo run --release -p alula-identity --example token_check
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints and may panic")]
#![allow(clippy::disallowed_methods, reason = "a measurement looks at the clock")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use alula_identity::calling::{Asked, Credentials, Gate, NewAddress, NoFetch, SignedUrl};
use alula_identity::{Grant, Identity, KeyOwner, NewKey, Parts, Principal, Resource, Role, Tokens};
use alula_model::{AccessSpec, AuditEntry, Clock, Name, Timestamp};
use alula_store::{AuditTrail, Batch, BoxFuture, Committed, Error, MemoryStore, Records};

const ROUNDS: u32 = 1_000_000;

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap())
    }
}

#[derive(Debug)]
struct Untold(Arc<MemoryStore>);

impl AuditTrail for Untold {
    fn commit_audited(&self, batch: Batch, _: Vec<AuditEntry>) -> BoxFuture<'_, Result<Committed, Error>> {
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

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for keys in [10, 10_000] {
        measure(keys).await;
    }
}

async fn measure(keys: usize) {
    let store = Arc::new(MemoryStore::new());
    let parts = Parts {
        records: Arc::<MemoryStore>::clone(&store) as Arc<dyn Records>,
        clock: Arc::new(SystemClock),
        audit: Arc::new(Untold(store)),
        random,
    };
    let (identity, admin) = (Identity::load(parts).await.unwrap(), Principal::administrator("admin"));
    let mut token = String::new();
    for number in 0..keys {
        let namespace = name(&format!("n{}", number / 500));
        let grants = vec![Grant { namespace: namespace.clone(), app: None, role: Role::Developer }];
        let owner = KeyOwner::Namespace(namespace);
        let new = NewKey { name: name(&format!("k{number}")), owner, grants, expires_at: None };
        token = identity.create_key(&admin, new).await.unwrap().1.secret_text().to_owned();
    }
    let (namespace, function) = (name(&format!("n{}", (keys - 1) / 500)), name("pay"));
    let new = NewAddress {
        method: "GET",
        namespace: &namespace,
        function: &function,
        path_and_query: "/function/pay/x?a=1",
        lifetime_s: 3_600,
    };
    let (address, _) = identity.sign_address(&admin, new).await.unwrap();
    let default = serde_json::from_str(r#""public""#).unwrap();
    let gate = Gate::new(identity, Tokens::default(), default, Arc::new(NoFetch));
    let judge = |access: &AccessSpec, credentials: Credentials<'_>| {
        let asked = Asked {
            method: "GET",
            namespace: &namespace,
            app: None,
            resource: Resource::Function,
            name: &function,
            access: Some(access),
            credentials,
        };
        gate.judge(black_box(&asked)).unwrap()
    };
    let nothing = Credentials::default();
    let bearer = Credentials { bearer: Some(&token), signed: None };
    let signed = Credentials { bearer: None, signed: SignedUrl::read(&address) };
    for (what, access, credentials) in [
        ("public", "public", nothing),
        ("a key", "namespace", bearer),
        ("a signed address", "signed-url", signed),
    ] {
        let access: AccessSpec = serde_json::from_str(&format!("{access:?}")).unwrap();
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            black_box(judge(&access, credentials));
        }
        let each = begun.elapsed().as_nanos() / u128::from(ROUNDS);
        println!("{keys:>6} keys, {what:<17} {each:>6} ns");
    }
}
