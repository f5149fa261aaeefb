//! The script host's first thread: it hears the platform and hands contexts to the others.
//!
//! It runs no script, so it can always tell whether a thread that does is stuck: every ping is passed on to each
//! thread, and the platform gets its sign of life only when all of them have seen the one before.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use crate::control::{self, Kind, PACKET_BYTES_MAX, Packet};

use super::worker::{Order, Worker};

/// Threads of a host: more than the machine has cores make it no faster.
const THREADS_MAX: usize = 8;

/// Serves until the platform closes the link.
pub(super) fn run(memory_bytes: usize) -> ExitCode {
    let Some(link) = link() else { return ExitCode::from(64) };
    let link = Arc::new(link);
    // Fails only where a provider was installed before, which is then used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    // A quarter is left for what is not JavaScript.
    let share = memory_bytes / 4 * 3 / threads;
    let workers: Option<Vec<Worker>> =
        (0..threads).map(|_| Worker::start(Arc::clone(&link), share).ok()).collect();
    let Some(mut workers) = workers else { return ExitCode::from(71) };
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while let Ok(Some(packet)) = control::receive(&*link, &mut buffer) {
        if !obey(&link, &mut workers, packet) {
            break;
        }
    }
    // The threads may be stuck in a script, so nobody waits for them.
    ExitCode::SUCCESS
}

/// The platform makes its link the standard input, the one place from where it is taken over in safe code.
fn link() -> Option<OwnedFd> {
    std::io::stdin().as_fd().try_clone_to_owned().ok()
}

fn obey(link: &OwnedFd, workers: &mut [Worker], packet: Packet) -> bool {
    match packet.kind {
        Kind::Open => {
            // The thread with the fewest contexts; they stay there.
            let least = workers.iter_mut().min_by_key(|worker| worker.contexts());
            least.is_some_and(|worker| worker.order(Order::Open(packet)))
        }
        Kind::Close => workers.iter_mut().all(|worker| worker.order(Order::Close(packet.number))),
        Kind::Ping => {
            // A platform that does not read is one that has gone.
            if workers.iter().all(Worker::has_seen_ping) {
                let _ = control::send(link, Kind::Pong, packet.number, 0, &[], &[]);
            }
            for stuck in workers.iter().filter_map(Worker::stuck_in) {
                let _ = control::send(link, Kind::Stuck, stuck, 0, &[], &[]);
            }
            workers.iter_mut().all(|worker| worker.ping(packet.number))
        }
        Kind::Pong | Kind::Ended | Kind::Usage | Kind::Stuck => false,
    }
}
