//! Which users of the host the users of a cell are.
//!
//! With privilege every cell gets a range of its own, so root inside is a user outside that owns nothing and
//! that no other cell has. Without privilege the kernel allows to map one user only: the one that runs the
//! platform.

use std::fs;
use std::io;

/// Users in the range of one cell: what 16 bits name, so that packages with any usual owner can be unpacked.
pub(crate) const IDS_PER_CELL: u32 = 65_536;

/// The users of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// Root inside is `base` outside, and so on for the whole range.
    Range { base: u32 },
    /// The same users as in the cell that this one is within, whose range begins at `base`.
    Within { base: u32 },
    /// Root inside is the user that runs the platform.
    Own,
}

impl IdMap {
    /// The user that owns what root inside makes, where that is not the platform's own user.
    pub(crate) fn owner(self) -> Option<u32> {
        match self {
            Self::Range { base } | Self::Within { base } => Some(base),
            Self::Own => None,
        }
    }

    fn line(self) -> String {
        match self {
            Self::Range { base } => format!("0 {base} {IDS_PER_CELL}"),
            Self::Within { .. } => format!("0 0 {IDS_PER_CELL}"),
            // The spawner is root of a user namespace in which only this one user exists.
            Self::Own => "0 0 1".to_owned(),
        }
    }
}

/// Writes both maps of a process in a new user namespace.
pub(crate) fn write_maps(pid: i32, map: IdMap) -> io::Result<()> {
    let line = map.line();
    fs::write(format!("/proc/{pid}/uid_map"), &line)?;
    fs::write(format!("/proc/{pid}/gid_map"), &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_neighbours_do_not_touch() {
        assert_eq!(IdMap::Range { base: 1_000_000 }.line(), "0 1000000 65536");
        assert_eq!(IdMap::Within { base: 1_000_000 }.line(), "0 0 65536");
        assert_eq!(IdMap::Own.line(), "0 0 1");
        assert_eq!(IdMap::Own.owner(), None);
    }
}
