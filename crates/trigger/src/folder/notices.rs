//! What the kernel tells of a folder (inotify(7)): which names to look at, and which files somebody is writing.
//!
//! The kernel queues what it tells, so nothing is missed between two looks; where its queue overflows it says so, and
//! everything is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::opened::Opened;
use super::{NAMES_MAX, WRITTEN_MAX};

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// These names: somebody closed, moved or removed them.
    Names(BTreeSet<Vec<u8>>),
    /// Everything.
    All,
}

/// How far somebody is with a file that was not closed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// It is there. A second name of a file that is whole (a hard link) begins like this too, and stays so.
    Created,
    /// It has got bytes.
    Written,
}

/// The kernel's word on one folder.
#[derive(Debug)]
pub(super) struct Notices {
    kernel: AsyncFd<OwnedFd>,
    writing: BTreeMap<Vec<u8>, Writing>,
    work: Work,
}

/// Read at once: some hundred notices.
const READ_BYTES: usize = 16 * 1024;
/// Notices that are taken in at once, so that a folder that never rests is looked at too.
const GATHERED_MAX: usize = 4_096;

/// Whether the kernel has more to tell.
#[derive(Debug, PartialEq, Eq)]
enum Gathered {
    Everything,
    Some,
}

impl Notices {
    /// Listens from now on.
    pub(super) fn of(folder: &Opened) -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let which = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&kernel, folder.path(), which)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for owners that may change their descriptor; this one cannot"
        )]
        let kernel = AsyncFd::new(kernel)?;
        Ok(Self { kernel, writing: BTreeMap::new(), work: nothing() })
    }

    /// Waits until something is to be looked at, and takes it.
    pub(super) async fn next(&mut self) -> io::Result<Work> {
        loop {
            let gathered = self.read()?;
            if self.work != nothing() {
                return Ok(std::mem::replace(&mut self.work, nothing()));
            }
            if gathered == Gathered::Everything {
                self.kernel.readable().await?.clear_ready();
            }
        }
    }

    /// Takes in what the kernel has told so far: [`Notices::is_being_written`] knows of every write until now.
    pub(super) fn gather(&mut self) -> io::Result<()> {
        while self.read()? == Gathered::Some {}
        Ok(())
    }

    /// Whether somebody writes this file, which has so many bytes, and the kernel will tell when it is closed.
    pub(super) fn is_being_written(&self, name: &[u8], bytes: u64) -> bool {
        match self.writing.get(name) {
            Some(Writing::Written) => true,
            Some(Writing::Created) => bytes == 0,
            None => false,
        }
    }

    fn read(&mut self) -> io::Result<Gathered> {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut reader = Reader::new(self.kernel.get_ref(), &mut buffer);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(notice) => {
                    let name = notice.file_name().map(std::ffi::CStr::to_bytes);
                    take_in(&mut self.work, &mut self.writing, notice.events(), name);
                }
                Err(Errno::AGAIN) => return Ok(Gathered::Everything),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            count += 1;
            // What has been read is taken in to its end.
            if count >= GATHERED_MAX && reader.is_buffer_empty() {
                return Ok(Gathered::Some);
            }
        }
    }
}

fn nothing() -> Work {
    Work::Names(BTreeSet::new())
}

fn take_in(
    work: &mut Work,
    writing: &mut BTreeMap<Vec<u8>, Writing>,
    events: ReadFlags,
    name: Option<&[u8]>,
) {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        // What was closed meanwhile is not known.
        writing.clear();
        *work = Work::All;
    }
    let Some(name) = name else {
        // The folder itself was moved, removed or unmounted, or is not listened to any more.
        *work = Work::All;
        return;
    };
    if events.contains(ReadFlags::ISDIR) {
        return;
    }
    if events.intersects(ReadFlags::CREATE) {
        writing.insert(name.to_owned(), Writing::Created);
    } else if events.intersects(ReadFlags::MODIFY) {
        writing.insert(name.to_owned(), Writing::Written);
    } else {
        writing.remove(name);
        if let Work::Names(names) = work {
            names.insert(name.to_owned());
            if names.len() > NAMES_MAX {
                *work = Work::All;
            }
        }
    }
    if writing.len() > WRITTEN_MAX {
        writing.clear();
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn told(notices: &[(ReadFlags, Option<&[u8]>)]) -> (Work, BTreeMap<Vec<u8>, Writing>) {
        let (mut work, mut writing) = (nothing(), BTreeMap::new());
        notices.iter().for_each(|(events, name)| take_in(&mut work, &mut writing, *events, *name));
        (work, writing)
    }

    #[test]
    fn a_file_is_to_be_looked_at_when_it_is_closed_and_not_before() {
        let (work, writing) = told(&[(ReadFlags::CREATE, Some(b"a")), (ReadFlags::MODIFY, Some(b"a"))]);
        assert_eq!((work, writing.get(&b"a"[..])), (nothing(), Some(&Writing::Written)));
        let (work, writing) = told(&[
            (ReadFlags::MODIFY, Some(b"a")),
            (ReadFlags::CLOSE_WRITE, Some(b"a")),
            (ReadFlags::CREATE | ReadFlags::ISDIR, Some(b"folder")),
        ]);
        assert_eq!(work, Work::Names(BTreeSet::from([b"a".to_vec()])));
        assert!(writing.is_empty());
    }

    #[test]
    fn everything_is_looked_at_where_the_kernel_lost_count_or_the_folder_went() {
        for (events, name) in [
            (ReadFlags::QUEUE_OVERFLOW, None),
            (ReadFlags::DELETE_SELF, None),
            (ReadFlags::MOVE_SELF, None),
            (ReadFlags::IGNORED, None),
        ] {
            let (work, writing) = told(&[(events, name), (ReadFlags::CLOSE_WRITE, Some(b"a"))]);
            assert_eq!((work, writing.len()), (Work::All, 0), "{events:?}");
        }
        let names: Vec<String> = (0..=NAMES_MAX).map(|number| number.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (ReadFlags::CLOSE_WRITE, Some(name.as_bytes()))).collect();
        assert_eq!(told(&many).0, Work::All);
        assert_ne!(told(&many[1..]).0, Work::All);
    }
}
