//! The endpoint, running here on a store in memory and contents on the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_bucket::{Buckets, NewAccessKey, Nobody, Options, Parts, Service, Silent};
use alula_invoke::LineageSeal;
use alula_model::{Clock, Name, Timestamp};
use alula_store::{DataDir, DiskPackages, MemoryStore};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Signatures carry the time, so the endpoint needs the real one.
#[derive(Debug)]
struct RealClock;

impl Clock for RealClock {
    #[allow(clippy::disallowed_methods, reason = "what is signed must be of this moment")]
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(now.as_millis()).unwrap())
    }
}

static DRAWN: AtomicU64 = AtomicU64::new(1);

fn draw_id() -> String {
    format!("00000000-0000-7000-8000-{:012}", DRAWN.fetch_add(1, Ordering::Relaxed))
}

fn draw_secret() -> u128 {
    u128::from(DRAWN.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// An endpoint with a key of a namespace of its own.
pub(crate) struct Endpoint {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) key: NewAccessKey,
    pub(crate) folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&folder.path().join("data")).unwrap();
        let records: Arc<dyn alula_store::Records> = Arc::new(MemoryStore::new());
        let buckets = Buckets::open(Parts {
            options: Options::default(),
            data_dir: data_dir.path().to_owned(),
            records: Arc::clone(&records),
            packages: Arc::new(DiskPackages::open_in(&data_dir, "objects").unwrap()),
            announce: Arc::new(Silent),
            audit: Arc::new(alula_store::Unaudited(records)),
            observe: Arc::new(Nobody),
            seal: LineageSeal::new(b"of this test"),
            clock: Arc::new(RealClock),
            draw_id,
            draw_secret,
        })
        .unwrap();
        let key = buckets.create_access_key(&Name::default_namespace(), &"test".into()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(alula_bucket::serve(listener, Service::new(buckets), stop.clone()));
        Self { address, key, folder, stop }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
