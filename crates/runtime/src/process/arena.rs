//! Long bodies go through memory that platform and guest share, instead of through the socket in pieces.
//!
//! Each instance of a language whose shim can do that has one file in memory, of a fixed and sealed size, whose pages
//! exist once they are used. The guest finds it as descriptor 4.
//!
//! ```text
//! 0                        HALF_BYTES                ARENA_BYTES
//! | request bodies         | bodies of answers       |
//! | written here, by call  | written by the guest    |
//! ```
//!
//! A frame with the flag ARENA has, in place of its body, where the body lies: offset and length, each a u32 in
//! little-endian. A request's region is free again when the guest has ended the call. A guest learns from each INVOKE
//! how many of its answers have been taken, and writes the next one when all were.
//!
//! The guest may write anywhere in it at any time, but not change its size. So nothing is looked at in place: what is
//! said to be an answer is copied out once and then looked at. And it is never mapped into this process: a page that
//! cannot be had is an error of a system call then, and not a signal that ends the platform.

use std::fmt;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{ErrorCode, Fault};
use bytes::Bytes;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use crate::buffers::{Buffers, Reserved};
use crate::language::Language;

/// Size of either half: the bodies that a function has by default, and some more.
pub(crate) const HALF_BYTES: u32 = 8 * 1024 * 1024;
/// Size of the file.
pub(crate) const ARENA_BYTES: u32 = 2 * HALF_BYTES;
/// Bytes of a [`Place`] on the wire.
pub(crate) const PLACE_BYTES: usize = 8;

/// Where a body lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    offset: u32,
    length: u32,
}

/// What a guest says of an answer's place is not true: it is not written as a place is, or not in the guest's half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it said that an answer lies where none can be")]
pub(crate) struct PlaceError;

/// A body cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// It is longer than was said.
    #[error("the request body is longer than was said")]
    TooLong,
    /// The kernel has no pages for it.
    #[error("the machine has no memory for the request body")]
    NoMemory,
}

/// The memory that one instance shares with the platform.
pub(crate) struct Arena {
    file: OwnedFd,
    regions: Mutex<Regions>,
    /// Answers that were copied out, modulo 2^16.
    taken: AtomicU16,
}

#[derive(Default)]
struct Regions {
    /// Those in use, in the order of their offsets.
    used: Vec<Range<u32>>,
    /// The platform's memory is accounted for as far as it has ever been written.
    reserved: Option<Reserved>,
}

/// The part of an arena that one request body has until this is dropped.
pub(crate) struct Region {
    arena: Arc<Arena>,
    place: Place,
    written: u32,
}

impl Arena {
    /// An arena for a guest in `language`, and the guest's descriptor of it. `None` where the language takes none, and
    /// where there is none to be had: bodies go through the socket then.
    pub(crate) fn open(language: &Language) -> Option<(Arc<Self>, OwnedFd)> {
        if !language.manifest.arena {
            return None;
        }
        match Self::make() {
            Ok(made) => Some(made),
            Err(error) => {
                tracing::warn!(%error, "no memory can be shared with a function; its long bodies take longer");
                None
            }
        }
    }

    fn make() -> rustix::io::Result<(Arc<Self>, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("alula-bodies", flags)?;
        rustix::fs::ftruncate(&file, u64::from(ARENA_BYTES))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // Opened anew, because the flags of an open file belong to all who have it: with O_APPEND on it, nothing could
        // be written here any more.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let inside = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok((Arc::new(Self { file, regions: Mutex::default(), taken: AtomicU16::new(0) }), inside))
    }

    /// Room for a request body of `length` bytes; `None` where there is none left.
    pub(crate) fn region(self: &Arc<Self>, length: u64, buffers: &Buffers) -> Option<Region> {
        let length = u32::try_from(length).ok().filter(|length| (1..=HALF_BYTES).contains(length))?;
        let mut regions = self.regions();
        let (at, offset) = regions.find(length)?;
        let end = offset + length;
        match &mut regions.reserved {
            Some(reserved) => reserved.grow_to(u64::from(end)).ok()?,
            none => *none = Some(buffers.reserve(u64::from(end)).ok()?),
        }
        regions.used.insert(at, offset..end);
        Some(Region { arena: Arc::clone(self), place: Place { offset, length }, written: 0 })
    }

    /// A copy of the answer that lies in `place`. The guest may use the place again from its next call on.
    pub(crate) fn take_answer(&self, place: Place) -> Result<Bytes, Fault> {
        let length = place.length as usize;
        let mut body = Vec::with_capacity(length);
        while body.len() < length {
            let offset = u64::from(place.offset) + body.len() as u64;
            let room = rustix::buffer::spare_capacity(&mut body);
            match rustix::io::pread(&self.file, room, offset) {
                Ok(1..) => {}
                // Its size is sealed, so this is not the guest's doing.
                _ => return Err(Fault::new(ErrorCode::Internal, "the memory of the answer cannot be read")),
            }
        }
        body.truncate(length);
        Ok(body.into())
    }

    /// Counts one more answer as taken.
    pub(crate) fn count_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// How many answers have been taken, modulo 2^16.
    pub(crate) fn taken(&self) -> u16 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Gives the memory back that no call uses. Only while the guest runs none.
    pub(crate) fn give_back(&self) {
        let mut regions = self.regions();
        if regions.used.is_empty() && regions.reserved.is_some() {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where it is not done, it stays accounted for.
            if rustix::fs::fallocate(&self.file, hole, 0, u64::from(ARENA_BYTES)).is_ok() {
                regions.reserved = None;
            }
        }
    }

    fn regions(&self) -> MutexGuard<'_, Regions> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Regions {
    /// The first gap of `length` bytes: its index among those in use, and its offset.
    fn find(&self, length: u32) -> Option<(usize, u32)> {
        let starts = self.used.iter().map(|range| range.start).chain([HALF_BYTES]);
        let ends = [0].into_iter().chain(self.used.iter().map(|range| range.end));
        starts.zip(ends).enumerate().find_map(|(at, (next, end))| (next - end >= length).then_some((at, end)))
    }
}

impl Region {
    /// Appends a piece of the body.
    pub(crate) fn append(&mut self, mut piece: &[u8]) -> Result<(), AppendError> {
        if piece.len() > (self.place.length - self.written) as usize {
            return Err(AppendError::TooLong);
        }
        while !piece.is_empty() {
            let offset = u64::from(self.place.offset + self.written);
            match rustix::io::pwrite(&self.arena.file, piece, offset) {
                Ok(bytes @ 1..) => {
                    piece = piece.get(bytes..).unwrap_or_default();
                    // At most what the region has room for.
                    self.written += u32::try_from(bytes).unwrap_or(u32::MAX);
                }
                _ => return Err(AppendError::NoMemory),
            }
        }
        Ok(())
    }

    /// Whether the whole body has been written.
    pub(crate) fn is_full(&self) -> bool {
        self.written == self.place.length
    }

    /// Where it lies.
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.arena.regions().used.retain(|range| range.start != self.place.offset);
    }
}

impl Place {
    /// As a frame has it.
    pub(crate) fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// The place of an answer, as a guest has said it.
    pub(crate) fn of_answer(said: &[u8]) -> Result<Self, PlaceError> {
        let [o0, o1, o2, o3, l0, l1, l2, l3] = *said else { return Err(PlaceError) };
        let (offset, length) = (u32::from_le_bytes([o0, o1, o2, o3]), u32::from_le_bytes([l0, l1, l2, l3]));
        let end = offset.checked_add(length).ok_or(PlaceError)?;
        if offset < HALF_BYTES || end > ARENA_BYTES {
            return Err(PlaceError);
        }
        Ok(Self { offset, length })
    }

    /// Bytes of the body.
    pub(crate) fn length(self) -> u64 {
        u64::from(self.length)
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} regions)", self.regions().used.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> (Arc<Arena>, OwnedFd, Buffers) {
        let (arena, inside) = Arena::make().unwrap();
        (arena, inside, Buffers::new(1 << 30))
    }

    #[test]
    fn regions_lie_apart_and_are_used_again() {
        let (arena, _inside, buffers) = arena();
        let quarter = u64::from(HALF_BYTES / 4);
        let mut regions: Vec<_> = (0..4).map(|_| arena.region(quarter, &buffers).unwrap()).collect();
        let offsets: Vec<_> = regions.iter().map(|region| u64::from(region.place.offset)).collect();
        assert_eq!(offsets, [0, quarter, 2 * quarter, 3 * quarter]);
        assert!(arena.region(1, &buffers).is_none(), "it is full");
        drop(regions.remove(1));
        assert!(arena.region(quarter + 1, &buffers).is_none());
        assert_eq!(u64::from(arena.region(quarter, &buffers).unwrap().place.offset), quarter);
        drop(regions);
        assert!(arena.region(u64::from(HALF_BYTES) + 1, &buffers).is_none());
        assert_eq!(arena.region(u64::from(HALF_BYTES), &buffers).unwrap().place.offset, 0);
    }

    #[test]
    fn what_is_written_is_there_and_no_more_than_was_asked_for() {
        let (arena, inside, buffers) = arena();
        let mut region = arena.region(5, &buffers).unwrap();
        region.append(b"abc").unwrap();
        assert_eq!((region.append(b"def"), region.is_full()), (Err(AppendError::TooLong), false));
        region.append(b"de").unwrap();
        assert!(region.is_full());
        let mut seen = [0; 6];
        rustix::io::pread(&inside, &mut seen, 0).unwrap();
        assert_eq!(&seen, b"abcde\0");
    }

    #[test]
    fn places_of_answers_are_in_the_guest_s_half() {
        let place = |offset: u32, length: u32| Place::of_answer(&Place { offset, length }.to_bytes());
        assert!(place(HALF_BYTES, HALF_BYTES).is_ok() && place(ARENA_BYTES, 0).is_ok());
        for (offset, length) in [
            (0, 1),
            (HALF_BYTES - 1, 1),
            (HALF_BYTES, HALF_BYTES + 1),
            (ARENA_BYTES, 1),
            (u32::MAX, 1),
            (HALF_BYTES, u32::MAX),
        ] {
            assert_eq!(place(offset, length), Err(PlaceError), "{offset} {length}");
        }
        assert_eq!(Place::of_answer(&[0; 7]), Err(PlaceError));
    }

    #[test]
    fn a_guest_cannot_change_its_size_nor_its_seals_nor_what_is_taken() {
        let (arena, inside, buffers) = arena();
        for bytes in [0, u64::from(ARENA_BYTES) * 2] {
            assert_eq!(rustix::fs::ftruncate(&inside, bytes), Err(rustix::io::Errno::PERM));
        }
        assert_eq!(rustix::fs::fcntl_add_seals(&inside, SealFlags::WRITE), Err(rustix::io::Errno::PERM));
        rustix::fs::fcntl_setfl(&inside, OFlags::APPEND).unwrap();
        let written = arena.region(3, &buffers).unwrap().append(b"abc");
        assert_eq!(written, Ok(()), "the guest's flags are its own");
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&inside, hole, 0, u64::from(ARENA_BYTES)).unwrap();
        let place = Place { offset: HALF_BYTES, length: 3 };
        assert_eq!(arena.take_answer(place).unwrap(), &[0; 3][..], "a hole reads as zeros");
        rustix::io::pwrite(&inside, b"abc", place.offset.into()).unwrap_err();
        rustix::fs::fcntl_setfl(&inside, OFlags::empty()).unwrap();
        rustix::io::pwrite(&inside, b"abc", place.offset.into()).unwrap();
        let taken = arena.take_answer(place).unwrap();
        rustix::io::pwrite(&inside, b"xyz", place.offset.into()).unwrap();
        assert_eq!(taken, "abc");
    }

    #[test]
    fn its_memory_is_accounted_for_until_it_is_given_back() {
        let (arena, _inside, _) = arena();
        let buffers = Buffers::new(10);
        let region = arena.region(8, &buffers).unwrap();
        assert!(arena.region(3, &buffers).is_none());
        arena.give_back();
        assert_eq!(buffers.used_bytes(), 8, "a call uses it");
        drop(region);
        assert_eq!(buffers.used_bytes(), 8, "its pages are still there");
        arena.give_back();
        assert_eq!(buffers.used_bytes(), 0);
        assert!(arena.region(10, &buffers).is_some());
    }
}
