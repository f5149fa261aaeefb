//! Who is let in, by whatever ways there are; and forgeries of every kind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use alula_model::{AccessSpec, AuditEntry, Caller, Clock, Name, Timestamp};
use alula_store::{AuditTrail, Batch, BoxFuture, Committed, Error, MemoryStore, Records};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use alula_identity::calling::{
    Admitted, Asked, By, Credentials, Denied, FetchKeys, Gate, NewAddress, NoFetch, SignedUrl, check,
};
use alula_identity::{Grant, Identity, KeyOwner, NewKey, NewUser, Parts, Principal, Resource, Role, Tokens};

const NOW_S: i64 = 1_700_000_000;
const SECRET: &[u8; 32] = b"a secret of thirty-two character";

#[derive(Debug)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
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
    u128::from(LAST.fetch_add(1, Ordering::Relaxed)) * 0x9e37_79b9_7f4a_7c15_f39c
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A gate before the function `pay` of the namespace `shop`, in the app `till`.
struct World {
    gate: Gate,
    identity: Identity,
    clock: Arc<SetClock>,
    admin: Principal,
}

impl World {
    async fn new() -> Self {
        Self::with(Arc::new(NoFetch)).await
    }

    async fn with(fetch: Arc<dyn FetchKeys>) -> Self {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(SetClock(AtomicI64::new(NOW_S * 1_000)));
        let parts = Parts {
            records: Arc::<MemoryStore>::clone(&store) as Arc<dyn Records>,
            clock: Arc::<SetClock>::clone(&clock) as Arc<dyn Clock>,
            audit: Arc::new(Untold(store)),
            random,
        };
        let identity = Identity::load(parts).await.unwrap();
        let tokens = Tokens::default().with("admin", Tokens::digest_of("alula_admin_0"));
        let default = serde_json::from_str(r#""public""#).unwrap();
        let gate = Gate::new(identity.clone(), tokens, default, fetch);
        Self { gate, identity, clock, admin: Principal::administrator("admin") }
    }

    async fn key(&self, owner: &str, called: &str, grant: Grant) -> String {
        let owner = KeyOwner::Namespace(name(owner));
        let new = NewKey { name: name(called), owner, grants: vec![grant], expires_at: None };
        self.identity.create_key(&self.admin, new).await.unwrap().1.secret_text().to_owned()
    }

    fn judge(&self, access: Option<&str>, credentials: Credentials<'_>) -> Result<Admitted, Denied> {
        let access = access.map(|json| serde_json::from_str::<AccessSpec>(json).unwrap());
        self.gate.judge(&Asked {
            method: "GET",
            namespace: &name("shop"),
            app: Some(&name("till")),
            resource: Resource::Function,
            name: &name("pay"),
            access: access.as_ref(),
            credentials,
        })
    }

    fn with_token(&self, access: &str, token: &str) -> Result<Admitted, Denied> {
        self.judge(Some(access), Credentials { bearer: Some(token), signed: None })
    }

    fn with_address(&self, access: &str, address: &str) -> Result<Admitted, Denied> {
        self.judge(Some(access), Credentials { bearer: None, signed: SignedUrl::read(address) })
    }
}

fn grant(namespace: &str, app: Option<&str>, role: Role) -> Grant {
    Grant { namespace: name(namespace), app: app.map(name), role }
}

fn known(caller: &str) -> Result<Admitted, Denied> {
    Ok(Admitted { caller: Caller::Known(caller.into()), by: By::Token })
}

fn is_forbidden(judged: &Result<Admitted, Denied>) -> bool {
    matches!(judged, Err(Denied::Forbidden(_)))
}

fn is_unknown(judged: &Result<Admitted, Denied>) -> bool {
    matches!(judged, Err(Denied::Unknown(_)))
}

#[tokio::test]
async fn everybody_is_let_in_where_it_is_public_and_nothing_is_looked_at() {
    let world = World::new().await;
    let public = Ok(Admitted { caller: Caller::Public, by: By::Nothing });
    for token in [None, Some("alula_admin_0"), Some("rubbish"), Some("a.b.c")] {
        let credentials = Credentials { bearer: token, signed: None };
        assert_eq!(world.judge(Some(r#""public""#), credentials), public);
        assert_eq!(world.judge(Some(r#"["public","namespace"]"#), credentials), public);
        assert_eq!(world.judge(None, credentials), public, "the default of the installation");
    }
}

#[tokio::test]
async fn a_token_of_the_namespace_lets_in_who_may_call_there() {
    let world = World::new().await;
    let access = r#""namespace""#;
    assert!(is_unknown(&world.judge(Some(access), Credentials::default())));
    for token in ["", "alula_", "alula_admin_1", "alula_0123456789ab_00", "a.b.c", "x"] {
        assert!(is_unknown(&world.with_token(access, token)), "{token}");
    }
    assert_eq!(world.with_token(access, "alula_admin_0"), known("admin"));
    let developer = world.key("shop", "dev", grant("shop", None, Role::Developer)).await;
    assert_eq!(world.with_token(access, &developer), known("key:shop/dev"));
    let of_app = world.key("shop", "till", grant("shop", Some("till"), Role::Operator)).await;
    assert_eq!(world.with_token(access, &of_app), known("key:shop/till"));
    for (owner, called, grant) in [
        ("shop", "look", grant("shop", None, Role::Viewer)),
        ("shop", "other", grant("shop", Some("cart"), Role::Owner)),
        ("bank", "dev", grant("bank", None, Role::Owner)),
    ] {
        let key = world.key(owner, called, grant).await;
        assert!(is_forbidden(&world.with_token(access, &key)), "{owner}/{called}");
    }
}

#[tokio::test]
async fn whoever_is_named_is_let_in_and_nobody_of_the_same_name() {
    let world = World::new().await;
    let viewer = || grant("shop", None, Role::Viewer);
    let ours = world.key("shop", "ci", viewer()).await;
    let theirs = world.key("bank", "ci", grant("bank", None, Role::Viewer)).await;
    assert_eq!(world.with_token(r#""key:ci""#, &ours), known("key:shop/ci"));
    assert!(is_forbidden(&world.with_token(r#""key:ci""#, &theirs)));
    assert_eq!(world.with_token(r#"["key:bank/ci","key:x"]"#, &theirs), known("key:bank/ci"));
    assert!(is_forbidden(&world.with_token(r#""key:bank/ci""#, &ours)));
    let new = NewUser { name: name("anna"), email: None, is_administrator: false };
    world.identity.create_user(&world.admin, new).await.unwrap();
    let new =
        NewKey { name: name("ci"), owner: KeyOwner::User(name("anna")), grants: vec![], expires_at: None };
    let annas = world.identity.create_key(&world.admin, new).await.unwrap().1;
    assert_eq!(world.with_token(r#""user:anna""#, annas.secret_text()), known("user:anna"));
    assert!(is_forbidden(&world.with_token(r#"["user:bob","key:ci"]"#, annas.secret_text())));
    assert!(is_forbidden(&world.with_token(r#""inside""#, "alula_admin_0")), "nobody from outside");
}

#[tokio::test]
async fn a_namespace_says_what_holds_for_all_that_say_nothing() {
    let world = World::new().await;
    let namespace = serde_json::from_str(r#""namespace""#).unwrap();
    world.identity.set_default_access(&world.admin, &name("shop"), Some(namespace)).await.unwrap();
    assert!(is_unknown(&world.judge(None, Credentials::default())));
    assert!(world.judge(Some(r#""public""#), Credentials::default()).is_ok(), "it says something itself");
    world.identity.set_default_access(&world.admin, &name("shop"), None).await.unwrap();
    assert!(world.judge(None, Credentials::default()).is_ok());
    let empty = AccessSpec::default();
    assert!(world.identity.set_default_access(&world.admin, &name("shop"), Some(empty)).await.is_err());
}

#[tokio::test]
async fn a_signed_address_is_good_for_what_it_was_signed_for_until_it_ends_or_its_key_does() {
    let world = World::new().await;
    let (shop, pay, other) = (name("shop"), name("pay"), name("other"));
    let new = NewAddress {
        method: "GET",
        namespace: &shop,
        function: &pay,
        path_and_query: "/function/pay.shop/x?a=1",
        lifetime_s: 60,
    };
    let access = r#""signed-url""#;
    let (address, ends) = world.identity.sign_address(&world.admin, new).await.unwrap();
    assert_eq!(ends, Timestamp((NOW_S + 60) * 1_000));
    let admitted = world.with_address(access, &address).unwrap();
    assert!(matches!(&admitted.caller, Caller::Known(name) if name.starts_with("url:shop/")), "{admitted:?}");
    assert_eq!(admitted.by, By::Address);
    assert!(is_unknown(&world.with_address(r#""namespace""#, &address)), "signed addresses are not let in");
    for forged in [address.replace("a=1", "a=2"), address.replace("alula-key=", "alula-key=f")] {
        assert!(is_unknown(&world.with_address(access, &forged)), "{forged}");
    }
    let (for_other, _) =
        world.identity.sign_address(&world.admin, NewAddress { function: &other, ..new }).await.unwrap();
    let (to_post, _) =
        world.identity.sign_address(&world.admin, NewAddress { method: "POST", ..new }).await.unwrap();
    let bank = name("bank");
    let (of_bank, _) =
        world.identity.sign_address(&world.admin, NewAddress { namespace: &bank, ..new }).await.unwrap();
    for foreign in [for_other, to_post, of_bank] {
        assert!(is_unknown(&world.with_address(access, &foreign)), "{foreign}");
    }
    world.identity.rotate_url_key(&world.admin, &shop, 10_000).await.unwrap();
    assert!(world.with_address(access, &address).is_ok(), "the old key is kept for a while");
    world.clock.0.fetch_add(10_000, Ordering::Relaxed);
    assert!(is_unknown(&world.with_address(access, &address)), "and ends");
    let (address, _) = world.identity.sign_address(&world.admin, new).await.unwrap();
    assert!(world.with_address(access, &address).is_ok());
    world.clock.0.fetch_add(60_000, Ordering::Relaxed);
    assert!(is_unknown(&world.with_address(access, &address)), "its time is over");
    for lifetime_s in [0, 7 * 86_400 + 1, u64::MAX] {
        assert!(world.identity.sign_address(&world.admin, NewAddress { lifetime_s, ..new }).await.is_err());
    }
}

/// A key of `P-256`, `Ed25519` and RSA, and a secret: what an issuer may have.
struct Issuer {
    algorithm: Algorithm,
    signing: EncodingKey,
    jwk: Value,
}

impl Issuer {
    fn secret() -> Self {
        let k = URL_SAFE_NO_PAD.encode(SECRET);
        Self {
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(SECRET),
            jwk: json!({"kty": "oct", "k": k, "kid": "s"}),
        }
    }

    fn es256() -> Self {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as WAY, EcdsaKeyPair, KeyPair as _};
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&WAY, &aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&WAY, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        Self {
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_der(pkcs8.as_ref()),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "e", "alg": "ES256", "use": "sig"}),
        }
    }

    fn eddsa() -> Self {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Self {
            algorithm: Algorithm::EdDSA,
            signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "d"}),
        }
    }

    fn rs256() -> Self {
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use aws_lc_rs::signature::KeyPair as _;
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        let n = text(public.modulus().big_endian_without_leading_zero());
        let e = text(public.exponent().big_endian_without_leading_zero());
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref())
        );
        Self {
            algorithm: Algorithm::RS256,
            signing: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
            jwk: json!({"kty": "RSA", "n": n, "e": e, "kid": "r"}),
        }
    }

    fn token(&self, claims: &Value) -> String {
        let kid = self.jwk["kid"].as_str().map(str::to_owned);
        let header = Header { kid, ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }

    /// Access for its tokens; `rest` is what else is asked for.
    fn access(&self, rest: Value) -> String {
        let mut jwt = json!({"issuer": "https://a.test", "audience": ["shop"], "keys": [self.jwk]});
        jwt.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({"jwt": [jwt]}).to_string()
    }
}

fn good() -> Value {
    json!({"iss": "https://a.test", "aud": "shop", "sub": "u1", "exp": NOW_S + 60})
}

fn but(name: &str, value: Value) -> Value {
    let mut claims = good();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn tokens_of_every_kind_of_key_are_taken_and_their_claims_told() {
    let world = World::new().await;
    for issuer in [Issuer::secret(), Issuer::es256(), Issuer::eddsa(), Issuer::rs256()] {
        let admitted = world.with_token(&issuer.access(json!({})), &issuer.token(&good())).unwrap();
        assert_eq!(admitted.caller, Caller::Vouched("jwt:u1".into()), "{:?}", issuer.algorithm);
        assert_eq!(admitted.by, By::Jwt(good().as_object().unwrap().clone()));
    }
}

#[tokio::test]
async fn a_key_in_pem_is_taken_for_the_algorithm_that_is_named() {
    let world = World::new().await;
    let issuer = Issuer::es256();
    let decode = |name: &str| URL_SAFE_NO_PAD.decode(issuer.jwk[name].as_str().unwrap()).unwrap();
    // SubjectPublicKeyInfo of a point on P-256 (RFC 5480).
    let prefix = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    let der = [&prefix[..], &decode("x"), &decode("y")].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(der)
    );
    let access = |algorithm: &str| {
        json!({"jwt": [{"issuer": "https://a.test", "audience": ["shop"], "pem": pem, "algorithms": [algorithm]}]})
            .to_string()
    };
    assert!(world.with_token(&access("ES256"), &issuer.token(&good())).is_ok());
    let checked = |access: &str| check(&serde_json::from_str(access).unwrap());
    assert_eq!(checked(&access("ES256")), Ok(()));
    assert!(checked(&access("RS256")).unwrap_err().contains("PEM"));
    // The public key as the secret of an HMAC: the classic confusion.
    let confused = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &good(),
        &EncodingKey::from_secret(pem.as_bytes()),
    );
    assert!(is_unknown(&world.with_token(&access("ES256"), &confused.unwrap())));
}

#[tokio::test]
async fn a_forged_token_lets_nobody_in() {
    let world = World::new().await;
    for issuer in [Issuer::secret(), Issuer::es256(), Issuer::eddsa(), Issuer::rs256()] {
        let access = issuer.access(json!({}));
        let token = issuer.token(&good());
        let parts: Vec<&str> = token.split('.').collect();
        let other_claims = URL_SAFE_NO_PAD.encode(but("sub", json!("root")).to_string());
        let kid = &issuer.jwk["kid"];
        let mut forged = vec![
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.{other_claims}.{}", parts[0], parts[2]),
            format!("{token}."),
            format!("{token}.{}", parts[2]),
            format!(".{}.{}", parts[1], parts[2]),
            "..".to_owned(),
            "a.b.c".to_owned(),
            "x".repeat(20_000),
            raw(&json!({"alg": "none"}), &good(), b""),
            raw(&json!({"alg": "None", "kid": kid}), &good(), b""),
            raw(&json!({"alg": "HS256", "kid": kid}), &good(), b"x"),
            raw(&json!({"alg": "RS512", "kid": kid}), &good(), &[0; 256]),
            raw(&json!({"alg": "ES256", "kid": kid}), &good(), &[0; 64]),
            raw(&json!({"kid": kid}), &good(), b""),
            raw(&json!({"alg": format!("{:?}", issuer.algorithm), "kid": kid, "crit": ["x"]}), &good(), b""),
        ];
        // Another issuer's key under the same name.
        for other in [Issuer::secret(), Issuer::es256(), Issuer::eddsa()] {
            if other.algorithm != issuer.algorithm || other.jwk != issuer.jwk {
                let header = Header { kid: kid.as_str().map(str::to_owned), ..Header::new(other.algorithm) };
                forged.push(jsonwebtoken::encode(&header, &good(), &other.signing).unwrap());
            }
        }
        // The public key itself as the secret of an HMAC.
        let public = issuer.jwk.to_string();
        let header = Header { kid: kid.as_str().map(str::to_owned), ..Header::new(Algorithm::HS256) };
        let signing = EncodingKey::from_secret(public.as_bytes());
        forged.push(jsonwebtoken::encode(&header, &good(), &signing).unwrap());
        for token in forged {
            assert!(is_unknown(&world.with_token(&access, &token)), "{:?}: {token}", issuer.algorithm);
        }
    }
}

#[tokio::test]
async fn what_a_token_says_must_be_what_is_asked_for() {
    let world = World::new().await;
    let issuer = Issuer::secret();
    let access = issuer.access(json!({"claims": {"scope": "pay", "tier": ["gold", "silver"]}}));
    let judge = |claims: &Value| world.with_token(&access, &issuer.token(claims));
    let full = |name: &str, value: Value| {
        let mut claims = but(name, value);
        for (name, value) in [("scope", json!("read pay")), ("tier", json!(["silver", "x"]))] {
            claims.as_object_mut().unwrap().entry(name).or_insert(value);
        }
        claims
    };
    assert!(judge(&full("x", json!(1))).is_ok());
    assert!(judge(&full("aud", json!(["other", "shop"]))).is_ok());
    assert!(judge(&full("exp", json!(NOW_S - 59))).is_ok(), "clocks may differ by a minute");
    assert!(judge(&full("nbf", json!(NOW_S + 60))).is_ok());
    for (name, value) in [
        ("iss", json!("https://b.test")),
        ("iss", json!(["https://a.test"])),
        ("iss", Value::Null),
        ("aud", json!("bank")),
        ("aud", json!(["bank"])),
        ("aud", json!("shop2")),
        ("aud", Value::Null),
        ("exp", json!(NOW_S - 60)),
        ("exp", json!("9999999999")),
        ("exp", Value::Null),
        ("nbf", json!(NOW_S + 61)),
        ("nbf", json!("0")),
    ] {
        assert!(is_unknown(&judge(&full(name, value.clone()))), "{name} {value}");
    }
    for (name, value) in [("scope", json!("payments")), ("tier", json!("bronze")), ("tier", json!(7))] {
        assert!(is_forbidden(&judge(&full(name, value.clone()))), "{name} {value}");
    }
    assert!(is_forbidden(&judge(&good())), "a claim that is not there");
    let odd = judge(&full("sub", json!("a b\r\nx-alula-caller: admin\u{e9}%"))).unwrap();
    assert_eq!(odd.caller, Caller::Vouched("jwt:a%20b%0D%0Ax-alula-caller:%20admin%C3%A9%25".into()));
}

#[tokio::test]
async fn keys_that_are_weak_or_for_something_else_are_refused_at_the_deploy() {
    let rsa = Issuer::rs256().jwk;
    let checked = |jwk: &Value| {
        let access = json!({"jwt": [{"issuer": "a", "audience": ["b"], "keys": [jwk]}]});
        check(&serde_json::from_value(access).unwrap())
    };
    assert_eq!(checked(&rsa), Ok(()));
    let mut for_encryption = rsa.clone();
    for_encryption["use"] = json!("enc");
    let mut for_another = rsa.clone();
    for_another["alg"] = json!("RS512");
    let mut short = rsa.clone();
    short["n"] = json!(URL_SAFE_NO_PAD.encode([0xff; 128]));
    let weak = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("too short")});
    for jwk in [for_encryption, for_another, short, weak, json!({"kty": "EC", "crv": "P-521"}), json!("x")] {
        assert!(checked(&jwk).unwrap_err().contains("key 1"), "{jwk}");
    }
}

/// Publishes what it is told to, and counts who asks.
#[derive(Debug, Default)]
struct Publishing {
    document: std::sync::Mutex<Option<Value>>,
    asked: AtomicUsize,
}

impl FetchKeys for Publishing {
    fn fetch<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let document = self.document.lock().unwrap().clone();
        Box::pin(async move { document.map(|keys| keys.to_string().into_bytes()).ok_or("gone".to_owned()) })
    }
}

fn published(algorithms: &[&str]) -> String {
    let jwt = json!({"issuer": "https://a.test", "audience": ["shop"], "jwks_url": "https://a.test/keys",
                     "algorithms": algorithms});
    json!({ "jwt": [jwt] }).to_string()
}

#[tokio::test(start_paused = true)]
async fn published_keys_are_fetched_once_and_again_for_a_key_that_nobody_has_seen() {
    let publishing = Arc::new(Publishing::default());
    let world = World::with(Arc::<Publishing>::clone(&publishing)).await;
    let (first, second) = (Issuer::es256(), Issuer::eddsa());
    let (access, url) = (published(&[]), "https://a.test/keys");
    let needed = Err(Denied::KeysNeeded(url.to_owned()));
    assert_eq!(world.with_token(&access, &first.token(&good())), needed);
    world.gate.learn(url).await;
    let unavailable = world.with_token(&access, &first.token(&good()));
    assert!(matches!(unavailable, Err(Denied::Unavailable(_))), "{unavailable:?}");
    *publishing.document.lock().unwrap() = Some(json!({"keys": [first.jwk, {"kty": "oct", "k": "AAAA"}, 7]}));
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    assert_eq!(world.with_token(&access, &first.token(&good())), needed);
    tokio::join!(world.gate.learn(url), world.gate.learn(url), world.gate.learn(url));
    assert_eq!(publishing.asked.load(Ordering::Relaxed), 2, "those who wait share one fetch");
    assert!(world.with_token(&access, &first.token(&good())).is_ok());
    // The issuer has a new key; invented ones do not become a storm of requests.
    assert!(is_unknown(&world.with_token(&access, &second.token(&good()))), "it was asked a moment ago");
    *publishing.document.lock().unwrap() = Some(json!({"keys": [first.jwk, second.jwk]}));
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    assert_eq!(world.with_token(&access, &second.token(&good())), needed);
    world.gate.learn(url).await;
    assert!(world.with_token(&access, &second.token(&good())).is_ok());
    // Gone for most of a day, then for too long.
    *publishing.document.lock().unwrap() = None;
    tokio::time::advance(std::time::Duration::from_secs(23 * 3_600)).await;
    world.gate.learn(url).await;
    assert!(world.with_token(&access, &second.token(&good())).is_ok());
    tokio::time::advance(std::time::Duration::from_secs(3_600)).await;
    world.gate.learn(url).await;
    assert!(matches!(world.with_token(&access, &second.token(&good())), Err(Denied::Unavailable(_))));
}

#[tokio::test]
async fn a_published_secret_is_no_key() {
    let publishing = Arc::new(Publishing::default());
    let world = World::with(Arc::<Publishing>::clone(&publishing)).await;
    let secret = Issuer::secret();
    *publishing.document.lock().unwrap() = Some(json!({"keys": [secret.jwk]}));
    world.gate.learn("https://a.test/keys").await;
    assert!(is_unknown(&world.with_token(&published(&[]), &secret.token(&good()))));
    assert!(is_unknown(&world.with_token(&published(&["RS256"]), &secret.token(&good()))));
}

#[tokio::test]
async fn any_of_several_ways_lets_in() {
    let world = World::new().await;
    let issuer = Issuer::secret();
    let jwt: Value = serde_json::from_str(&issuer.access(json!({}))).unwrap();
    let access = json!({"allow": ["namespace", "signed-url"], "jwt": jwt["jwt"]}).to_string();
    let key = world.key("shop", "dev", grant("shop", None, Role::Developer)).await;
    assert!(world.with_token(&access, &key).is_ok());
    assert!(world.with_token(&access, &issuer.token(&good())).is_ok());
    let (shop, pay) = (name("shop"), name("pay"));
    let new =
        NewAddress { method: "GET", namespace: &shop, function: &pay, path_and_query: "/x", lifetime_s: 9 };
    let (address, _) = world.identity.sign_address(&world.admin, new).await.unwrap();
    let signed = SignedUrl::read(&address);
    let both = Credentials { bearer: Some("a.b.c"), signed };
    assert_eq!(world.judge(Some(&access), both).unwrap().by, By::Address, "a wrong token takes nothing away");
    assert!(is_unknown(&world.judge(Some(&access), Credentials { bearer: Some("a.b.c"), signed: None })));
}
