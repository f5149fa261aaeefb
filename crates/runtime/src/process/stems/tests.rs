//! The stock over a launcher whose cells and processes are pretended.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alula_model::{ErrorCode, FunctionSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::conformance::plan;
use crate::language::{Host, Languages};
use crate::{BoxFuture, CellSpec, LauncherReport, Mount, Process, ProcessExit, ProcessSpec, Usage};

/// Counts its cells; each has one process, which answers every frame with WARMED and ends when it is told to.
#[derive(Debug, Default)]
struct Pretender {
    made: AtomicUsize,
    live: Arc<AtomicUsize>,
    fails: AtomicBool,
    /// Ends the process that is in the cell made last.
    end: Mutex<CancellationToken>,
}

#[derive(Debug)]
struct PretendedCell {
    live: Arc<AtomicUsize>,
    end: CancellationToken,
}

#[derive(Debug)]
struct PretendedProcess(CancellationToken);

impl Launcher for Pretender {
    fn prepare(&self, _: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>> {
        self.made.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(Fault::new(ErrorCode::SandboxFailed, "no"))));
        }
        self.live.fetch_add(1, Ordering::SeqCst);
        let end = CancellationToken::new();
        *self.end.lock().unwrap() = end.clone();
        let cell: Box<dyn Cell> = Box::new(PretendedCell { live: Arc::clone(&self.live), end });
        Box::pin(std::future::ready(Ok(cell)))
    }

    fn can_specialise(&self) -> bool {
        true
    }

    fn report(&self) -> LauncherReport {
        LauncherReport::default()
    }
}

impl Drop for PretendedCell {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cell for PretendedCell {
    fn mount(&self, _: Mount) -> BoxFuture<'_, Result<(), Fault>> {
        unreachable!()
    }

    fn specialise(&self, _: CellSpec) -> BoxFuture<'_, Result<(), Fault>> {
        unreachable!()
    }

    fn start(&self, mut spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        let socket = StdStream::from(spec.fds.swap_remove(3));
        socket.set_nonblocking(true).unwrap();
        let mut socket = UnixStream::from_std(socket).unwrap();
        tokio::spawn(async move {
            let mut frame = [0; 16];
            while socket.read_exact(&mut frame).await.is_ok() {
                frame[4] = crate::frames::Kind::Warmed as u8;
                socket.write_all(&frame).await.unwrap();
            }
        });
        let process: Box<dyn Process> = Box::new(PretendedProcess(self.end.clone()));
        Box::pin(std::future::ready(Ok(process)))
    }

    fn take_listener(&self, _: u16) -> Option<TcpListener> {
        None
    }

    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        unreachable!()
    }

    fn sweep(&self) -> BoxFuture<'_, ()> {
        unreachable!()
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn oom_kills(&self) -> u64 {
        0
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        unreachable!()
    }
}

impl Process for PretendedProcess {
    fn wait(&self) -> BoxFuture<'_, ProcessExit> {
        Box::pin(async {
            self.0.cancelled().await;
            ProcessExit::Signal(9)
        })
    }

    fn signal(&self, _: i32) {}
}

struct Bench {
    launcher: Arc<Pretender>,
    stems: Stems,
    python: Arc<Language>,
    _unpacked: tempfile::TempDir,
}

impl Bench {
    fn new(per_runtime: usize, per_runtime_max: usize) -> Self {
        let unpacked = tempfile::tempdir().unwrap();
        let host = Host { resolve: &|path| path.canonicalize().ok(), run: &|_| None };
        let languages = Languages::load(unpacked.path(), &[], &host).unwrap();
        let launcher = Arc::new(Pretender::default());
        let options = StemOptions { per_runtime, per_runtime_max, made_at_once: 2 };
        let stems = Stems::new(options, Arc::clone(&launcher) as _, tokio::runtime::Handle::current());
        Self { launcher, stems, python: languages.get("python").unwrap(), _unpacked: unpacked }
    }

    /// Takes one as a start does that is over at once.
    fn take(&self) -> Option<Stem> {
        let _start = self.stems.replace_after(&self.python);
        self.stems.take(&self.python, &plan("python", |_| {}))
    }

    /// Lets all tasks run until nothing happens any more; time is paused.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    fn made(&self) -> usize {
        self.launcher.made.load(Ordering::SeqCst)
    }

    fn live(&self) -> usize {
        self.launcher.live.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_has_none_until_it_is_used_and_then_as_many_as_it_should() {
    let bench = Bench::new(3, 3);
    bench.settle().await;
    assert_eq!(bench.made(), 0);
    assert!(bench.take().is_none(), "the first start does not wait for one");
    bench.settle().await;
    assert_eq!((bench.made(), bench.stems.ready(&bench.python)), (3, 3));
    let taken: Vec<_> = (0..2).map(|_| bench.take().unwrap()).collect();
    bench.settle().await;
    assert_eq!((bench.made(), bench.stems.ready(&bench.python)), (5, 3), "what was taken is replaced");
    drop(taken);
    bench.settle().await;
    assert_eq!((bench.stems.ready(&bench.python), bench.live()), (3, 3), "and never comes back");
}

#[tokio::test(start_paused = true)]
async fn making_them_gives_way_to_starts_but_not_for_ever() {
    let bench = Bench::new(1, 1);
    bench.stems.expect(&bench.python);
    let start = bench.stems.replace_after(&bench.python);
    tokio::time::sleep(REPLACE_PAUSE + YIELD_MAX / 2).await;
    assert_eq!(bench.made(), 0, "a start is under way");
    drop(start);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.made(), 1);
    let taken = bench.take();
    let _endless = bench.stems.replace_after(&bench.python);
    bench.settle().await;
    assert_eq!((bench.made(), bench.stems.ready(&bench.python)), (2, 1));
    drop(taken);
}

#[tokio::test(start_paused = true)]
async fn a_stem_whose_process_ends_is_replaced_and_never_given_away() {
    let bench = Bench::new(1, 1);
    bench.stems.expect(&bench.python);
    bench.settle().await;
    let first = bench.launcher.end.lock().unwrap().clone();
    first.cancel();
    bench.settle().await;
    assert_eq!((bench.made(), bench.live(), bench.stems.ready(&bench.python)), (2, 1, 1));
    let taken = bench.take().unwrap().waiting.unwrap();
    let ended = tokio::time::timeout(Duration::ZERO, taken.process.wait()).await;
    assert!(ended.is_err(), "the second one lives");
}

#[tokio::test(start_paused = true)]
async fn failures_make_no_storm_and_end_by_themselves() {
    let bench = Bench::new(2, 2);
    bench.launcher.fails.store(true, Ordering::SeqCst);
    bench.stems.expect(&bench.python);
    for _ in 0..100 {
        assert!(bench.take().is_none());
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!((4..60).contains(&bench.made()), "{} attempts in ten minutes", bench.made());
    bench.launcher.fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(RETRY_PAUSE_MAX).await;
    assert_eq!(bench.stems.ready(&bench.python), 2);
}

#[tokio::test(start_paused = true)]
async fn a_burst_raises_their_number_for_a_while() {
    let bench = Bench::new(2, 8);
    bench.stems.expect(&bench.python);
    bench.settle().await;
    let taken: Vec<_> = (0..5).filter_map(|_| bench.take()).collect();
    assert_eq!(taken.len(), 2);
    bench.settle().await;
    assert_eq!(bench.stems.ready(&bench.python), 8);
    drop(taken);
    tokio::time::sleep(demand::QUIET * 10).await;
    assert_eq!((bench.stems.ready(&bench.python), bench.live()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_language_has_them_while_there_is_a_function_in_it() {
    let bench = Bench::new(2, 8);
    bench.stems.serve(&[Arc::clone(&bench.python)]);
    bench.settle().await;
    assert_eq!((bench.made(), bench.stems.ready(&bench.python)), (2, 2));
    bench.stems.serve(&[]);
    bench.settle().await;
    assert_eq!((bench.made(), bench.live()), (2, 0), "nobody uses them");
    bench.stems.serve(&[Arc::clone(&bench.python)]);
    // Again before they are made.
    bench.stems.serve(&[]);
    bench.settle().await;
    assert_eq!(bench.live(), 0);
    bench.stems.serve(&[Arc::clone(&bench.python)]);
    bench.settle().await;
    assert_eq!(bench.stems.ready(&bench.python), 2);
}

#[tokio::test(start_paused = true)]
async fn a_function_whose_variables_work_at_the_start_takes_none() {
    let bench = Bench::new(1, 1);
    bench.stems.expect(&bench.python);
    bench.settle().await;
    let set = |spec: &mut FunctionSpec| drop(spec.env.insert("LD_PRELOAD".to_owned(), String::new()));
    assert!(bench.stems.take(&bench.python, &plan("python", set)).is_none());
    assert_eq!(bench.stems.ready(&bench.python), 1);
}

#[tokio::test(start_paused = true)]
async fn none_are_made_where_they_are_turned_off_or_cannot_be() {
    let off = Bench::new(0, 8);
    assert!(!off.stems.expect(&off.python));
    let bare = Stems::new(
        StemOptions { per_runtime: 3, per_runtime_max: 3, made_at_once: 1 },
        Arc::new(crate::bare::BareLauncher),
        tokio::runtime::Handle::current(),
    );
    assert!(!bare.expect(&off.python));
}
