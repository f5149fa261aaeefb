//! The spawner's life: set up, say hello, serve requests until the platform is gone, end everything.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, geteuid};
use rustix::thread::CapabilitySet;

use super::SpawnerOptions;
use super::cells::{Cells, Maker, Stage, last_capability};
use super::template::Template;
use crate::cgroup::{self, Groups, Layout};
use crate::link::{self, ANSWER_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::protocol::{Answer, CellPlan, NEWS, Numbered, Purpose, Reply, Request};
use crate::report::Facts;
use crate::{seccomp, sys};

/// The link's number in the spawner.
const LINK: i32 = 3;
/// How long the trial cell at the start may take: far above any machine's need.
const TRIAL_WAIT: Duration = Duration::from_secs(10);
/// The trial cell: large enough for a holder.
const TRIAL: CellPlan = CellPlan {
    purpose: Purpose::Work,
    memory_bytes: 64 * 1024 * 1024,
    processes_max: 4,
    tmp_bytes: 1024 * 1024,
    cpu_weight: 100,
    listeners: Vec::new(),
    mounts: Vec::new(),
};

/// The spawner's whole life. Never returns into the program it was forked from.
pub(super) fn main(link: OwnedFd, options: &SpawnerOptions) -> ! {
    let status = std::panic::catch_unwind(|| match run(link, options) {
        Ok(()) => 0,
        Err(_) => 1,
    });
    sys::exit_now(status.unwrap_or(101))
}

fn run(link: OwnedFd, options: &SpawnerOptions) -> io::Result<()> {
    // Whatever the platform does without for itself, functions have. A kernel without the switch has no huge pages.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    sys::place_fd(link.as_fd(), LINK)?;
    if std::os::fd::AsRawFd::as_raw_fd(&link) == LINK {
        std::mem::forget(link);
    } else {
        drop(link);
    }
    sys::close_from(LINK.cast_unsigned() + 1)?;
    let link = sys::adopt_fd(LINK);
    // Errors may be seen where the platform's are; a pipe that reads the platform's output must not wait for
    // us.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for standard in 0..=1 {
        sys::place_fd(null.as_fd(), standard)?;
    }
    drop(null);
    let _ = rustix::thread::set_name(c"alula-spawner");
    // Ctrl-C and a stop of the service are for the platform, which drains first; the spawner ends with its
    // link.
    sys::ignore_signals(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE]);
    let _ = rustix::process::setsid();
    let (mut cells, facts, layout) = match set_up(options) {
        Ok(done) => done,
        Err((facts, error)) => {
            let facts = Facts { cell_error: Some(error.to_string()), ..facts };
            return refuse_all(&link, facts, &error.to_string());
        }
    };
    let facts = Facts { cell_error: trial(&mut cells).err().map(|error| error.to_string()), ..facts };
    send(&link, NEWS, &Reply::Hello { facts, groups: layout }, &[])?;
    let served = Server::new(&link, &mut cells).and_then(|mut server| server.serve());
    cells.end_all();
    if let Some(groups) = &cells.maker.groups {
        groups.remove_parents();
    }
    served
}

type Ready = (Cells, Facts, Option<Layout>);

fn set_up(options: &SpawnerOptions) -> Result<Ready, (Facts, io::Error)> {
    let mut facts = Facts { landlock_abi: sys::landlock_abi(), ..Facts::default() };
    let (groups, layout) = match open_groups(&options.group_name) {
        Ok((groups, layout)) => (Some(groups), Some(layout)),
        Err(error) => {
            facts.groups_error = Some(error.to_string());
            (None, None)
        }
    };
    facts.groups = layout.clone();
    facts.privileged = is_privileged();
    let build = || -> io::Result<(Template, Vec<libc::sock_filter>)> {
        if !facts.privileged {
            become_root_of_own_namespace().map_err(|error| named("user namespace", &error))?;
        }
        let template = Template::build(facts.privileged, &options.extra_readonly)
            .map_err(|error| named("root of the cells", &error))?;
        Ok((template, seccomp::filter()?))
    };
    match build() {
        Ok((template, filter)) => {
            let maker = Maker {
                template,
                groups,
                filter,
                landlock_abi: facts.landlock_abi,
                last_capability: last_capability(),
                uid_base: facts.privileged.then_some(options.uid_base),
            };
            Ok((Cells::new(maker), facts, layout))
        }
        Err(error) => Err((facts, error)),
    }
}

fn open_groups(name: &str) -> io::Result<(Groups, Layout)> {
    let platform = rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid());
    let machine = cgroup::Machine {
        mountinfo: std::fs::read_to_string("/proc/self/mountinfo")?,
        own_groups: std::fs::read_to_string("/proc/self/cgroup")?,
        own_pids: vec![platform, rustix::process::getpid().as_raw_pid()],
    };
    // Again when a predecessor that was just ending took its groups away.
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let layout = cgroup::find(&machine, &format!("alula-{name}"))?;
        if let Some(groups) = Groups::open(&layout)? {
            return Ok((groups, layout));
        }
    }
    Err(io::Error::other("the control groups are removed again and again"))
}

/// Root with the rights that a spawner needs; root in a container often lacks them.
fn is_privileged() -> bool {
    let needed =
        CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::MKNOD;
    let has = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    geteuid().is_root() && has
}

/// Without privilege: a user namespace in which this user is root, which gives the right to make mounts.
fn become_root_of_own_namespace() -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    // Gaining rights closed this process, and holders forked from it, to looks from outside; the spawner must look
    // into holders until they are complete.
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// Makes one cell and ends it again, so that what is reported was tried.
fn trial(cells: &mut Cells) -> io::Result<()> {
    let cell = cells.prepare(&TRIAL, None, NEWS)?;
    let result = match cells.live.get(&cell) {
        Some(super::cells::Cell { stage: Stage::SettingUp { link, .. }, .. }) => wait_ready(link),
        _ => Ok(()),
    };
    cells.kill(cell, NEWS);
    cells.reap(cell);
    cells.forget(cell);
    result
}

fn wait_ready(link: &OwnedFd) -> io::Result<()> {
    let wait = Timespec { tv_sec: TRIAL_WAIT.as_secs().cast_signed(), tv_nsec: 0 };
    if rustix::event::poll(&mut [PollFd::new(link, PollFlags::IN)], Some(&wait))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the trial cell was not ready in time"));
    }
    ready(link).map(drop)
}

/// The holder's first message: the listeners and the ruleset, or why there is no cell.
fn ready(link: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    match link::receive::<Numbered<Answer>>(link, &mut buffer)? {
        Some(received) => match received.message.body {
            Answer::Ready => Ok(received.fds),
            Answer::Failed { reason } => Err(io::Error::other(reason)),
            _ => Err(io::Error::other("the holder said something unexpected")),
        },
        None => Err(io::Error::other("the holder ended before the cell was complete")),
    }
}

/// Serves a machine that cannot make cells: the reason is the answer to everything.
fn refuse_all(link: &OwnedFd, facts: Facts, reason: &str) -> io::Result<()> {
    send(link, NEWS, &Reply::Hello { facts, groups: None }, &[])?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    while let Some(received) = link::receive::<Numbered<Request>>(link, &mut buffer)? {
        send(link, received.message.number, &Reply::Failed { reason: reason.to_owned() }, &[])?;
    }
    Ok(())
}

/// The loop over the platform's link, the cells that are being set up, and holders that end.
struct Server<'a> {
    link: &'a OwnedFd,
    cells: &'a mut Cells,
    events: OwnedFd,
    buffer: Vec<u8>,
}

/// What an event is about, as the number that the kernel keeps with it.
const PLATFORM: u64 = 0;
/// Marks what is about a zygote.
const ZYGOTE: u64 = 1 << 63;
fn set_up_of(cell: u64) -> EventData {
    EventData::new_u64(cell * 2)
}
fn end_of(cell: u64) -> EventData {
    EventData::new_u64(cell * 2 + 1)
}

impl<'a> Server<'a> {
    fn new(link: &'a OwnedFd, cells: &'a mut Cells) -> io::Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&events, link, EventData::new_u64(PLATFORM), EventFlags::IN)?;
        Ok(Self { link, cells, events, buffer: vec![0; MESSAGE_BYTES_MAX] })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(64);
        loop {
            ready.clear();
            match epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut ready), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &ready {
                let about = event.data.u64();
                if about == PLATFORM {
                    let received = link::receive::<Numbered<Request>>(self.link, &mut self.buffer)?;
                    let Some(received) = received else { return Ok(()) };
                    self.serve_request(received.message, received.fds)?;
                } else if about & ZYGOTE != 0 {
                    self.serve_zygote((about & !ZYGOTE) / 2, about % 2 == 1)?;
                } else if about % 2 == 0 {
                    self.finish_set_up(about / 2)?;
                } else {
                    self.finish_end(about / 2)?;
                }
            }
        }
    }

    fn serve_request(
        &mut self,
        Numbered { number, body }: Numbered<Request>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        match body {
            Request::Prepare { plan, within } => {
                let begun = self.cells.prepare(&plan, within, number).and_then(|cell| self.watch(cell));
                begun.or_else(|error| self.fail(number, &error))
            }
            Request::Mount { cell, mount } => match self.cells.mount(cell, &mount) {
                Ok(()) => send(self.link, number, &Reply::Done, &[]),
                Err(error) => self.fail(number, &error),
            },
            Request::Specialise { cell, plan } => match self.cells.specialise(cell, &plan) {
                Ok(()) => send(self.link, number, &Reply::Done, &[]),
                Err(error) => self.fail(number, &error),
            },
            Request::Fork { cell, zygote } => {
                let begun = self.cells.fork(number, cell, zygote.as_ref(), &fds);
                let watched = begun.and_then(|new| new.into_iter().try_for_each(|id| self.watch_zygote(id)));
                watched.or_else(|error| self.fail(number, &error))
            }
            Request::Breed { cell } => {
                let zygote = fds.first().ok_or_else(|| io::Error::other("the request names no zygote"));
                let begun = zygote.and_then(|zygote| self.cells.breed(number, cell, zygote));
                begun.and_then(|id| self.watch_zygote(id)).or_else(|error| self.fail(number, &error))
            }
            Request::Destroy { cell } => {
                if self.cells.kill(cell, number) {
                    return Ok(());
                }
                send(self.link, number, &Reply::Done, &[])
            }
        }
    }

    fn watch(&self, cell: u64) -> io::Result<()> {
        let Some(found) = self.cells.live.get(&cell) else { return Ok(()) };
        epoll::add(&self.events, &found.holder, end_of(cell), EventFlags::IN)?;
        if let Stage::SettingUp { link, .. } = &found.stage {
            epoll::add(&self.events, link, set_up_of(cell), EventFlags::IN)?;
        }
        Ok(())
    }

    fn watch_zygote(&self, id: u64) -> io::Result<()> {
        let Some((link, process)) = self.cells.zygotes.watched(id) else { return Ok(()) };
        epoll::add(&self.events, link, EventData::new_u64(ZYGOTE | (id * 2)), EventFlags::IN)?;
        Ok(epoll::add(&self.events, process, EventData::new_u64(ZYGOTE | (id * 2 + 1)), EventFlags::IN)?)
    }

    /// A zygote has spoken, or has ended. Its descriptors leave the events by being closed.
    fn serve_zygote(&mut self, id: u64, has_ended: bool) -> io::Result<()> {
        if has_ended {
            let error = io::Error::other("the zygote has ended");
            let unanswered = self.cells.zygotes.ended(id);
            return unanswered.into_iter().try_for_each(|number| self.fail(number, &error));
        }
        match self.cells.zygotes.heard(id) {
            Some((number, Ok(pid))) => send(self.link, number, &Reply::Forked { pid }, &[]),
            Some((number, Err(reason))) => self.fail(number, &io::Error::other(reason)),
            None => Ok(()),
        }
    }

    /// A holder has spoken: its cell goes to the platform, or is ended.
    fn finish_set_up(&mut self, cell: u64) -> io::Result<()> {
        let Some(found) = self.cells.live.get_mut(&cell) else { return Ok(()) };
        let Stage::SettingUp { link, listeners: count, request } =
            std::mem::replace(&mut found.stage, Stage::Running)
        else {
            return Ok(());
        };
        epoll::delete(&self.events, &link)?;
        match ready(&link) {
            Ok(mut listeners) => {
                found.ruleset = listeners.split_off(count.min(listeners.len())).pop();
                let mut fds = vec![link.as_fd()];
                fds.extend(listeners.iter().map(AsFd::as_fd));
                if found.purpose == Purpose::Breeding {
                    found.link = Some(link.try_clone()?);
                }
                let (group, owner) = (found.group.clone(), found.map.owner());
                send(self.link, request, &Reply::Prepared { cell, group, owner }, &fds)
            }
            Err(error) => {
                // Answered now; the end of the holder is answered to nobody.
                self.cells.kill(cell, NEWS);
                self.fail(request, &error)
            }
        }
    }

    /// A holder has ended, killed or by itself.
    fn finish_end(&mut self, cell: u64) -> io::Result<()> {
        self.cells.reap(cell);
        let Some(found) = self.cells.live.get_mut(&cell) else { return Ok(()) };
        epoll::delete(&self.events, &found.holder)?;
        match std::mem::replace(&mut found.stage, Stage::Dead) {
            Stage::SettingUp { request, .. } => {
                self.cells.forget(cell);
                self.fail(request, &io::Error::other("the holder ended before the cell was complete"))
            }
            Stage::Ending { requests } => {
                self.cells.forget(cell);
                let mut askers = requests.into_iter().filter(|request| *request != NEWS);
                askers.try_for_each(|request| send(self.link, request, &Reply::Done, &[]))
            }
            Stage::Running | Stage::Dead => Ok(()),
            Stage::Lingering => {
                self.cells.forget(cell);
                Ok(())
            }
        }
    }

    fn fail(&self, number: u64, error: &io::Error) -> io::Result<()> {
        send(self.link, number, &Reply::Failed { reason: error.to_string() }, &[])
    }
}

fn send(to: &OwnedFd, number: u64, body: &Reply, fds: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    link::send(to, &Numbered { number, body }, fds)
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
