//! Giving back the pages of the program that only its start needed.
//!
//! A start runs through most of a large binary once: parsers, schemas, set-up of libraries. The kernel maps what lies
//! around each touched page as well, and keeps all of it mapped for as long as nobody is short of memory. Pages that
//! are dropped here stay in the page cache; what is used again is mapped again within a microsecond.
//!
//! Only what came from a file and was never written is dropped: code and constants. Memory of the allocator, and
//! constants that the loader has relocated, are this process's own and are left alone.

use std::io;

use crate::sys;

/// Drops the mapped pages of the program's code and constants. Call it when the start is over.
pub fn forget_start() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    unchanged(&maps).try_for_each(|(start, end)| sys::forget_file_pages(start, end - start))
}

/// First and end address of each mapping that a program cannot write and has never written, read from the text of
/// `/proc/self/smaps`: a line with addresses, rights, offset, device, inode and file, and then lines of figures.
fn unchanged(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut mapping = None;
    maps.lines().filter_map(move |line| {
        if let Some(own_pages) = line.strip_prefix("Anonymous:") {
            return mapping.take().filter(|_| own_pages.trim() == "0 kB");
        }
        if !line.split(' ').next().is_some_and(|first| first.ends_with(':')) {
            mapping = read_only_file(line);
        }
        None
    })
}

/// The addresses of a mapping, where it is a private one of a file without the right to write.
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, rights, file) = (fields.next()?, fields.next()?, fields.nth(3)?);
    if !matches!(rights, "r-xp" | "r--p") || !file.starts_with('/') {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{forget_start, unchanged};

    fn of(mapping: &str, own_pages: &str) -> Vec<(usize, usize)> {
        let figures =
            format!("Size:       8 kB\nRss:        8 kB\nAnonymous:  {own_pages}\nVmFlags: rd ex mr mw me\n");
        // A mapping that is not looked at before, and one behind.
        unchanged(&format!("10-20 rw-p 0 0:0 0\n{figures}{mapping}\n{figures}30-40 rw-p 0 0:0 0\n{figures}"))
            .collect()
    }

    #[test]
    fn only_what_a_file_has_just_as_well_is_dropped() {
        let alula = |rights| format!("1000-3000 {rights} 00002000 fe:00 12                  /usr/bin/alula");
        assert_eq!(of(&alula("r-xp"), "0 kB"), [(0x1000, 0x3000)]);
        assert_eq!(of(&alula("r--p"), "0 kB"), [(0x1000, 0x3000)]);
        // Relocated, or patched by a debugger.
        assert_eq!(of(&alula("r--p"), "4 kB"), []);
        assert_eq!(of(&alula("r-xp"), "4 kB"), []);
        for rights in ["rw-p", "rwxp", "r--s", "---p"] {
            assert_eq!(of(&alula(rights), "0 kB"), [], "{rights}");
        }
        assert_eq!(of("1000-3000 r-xp 00000000 00:00 0 [vdso]", "0 kB"), []);
        assert_eq!(of("1000-3000 r-xp 00000000 00:00 0", "0 kB"), []);
        assert_eq!(of("", "0 kB"), []);
    }

    #[test]
    fn the_program_goes_on_with_the_same_constants() {
        let resident_kb = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident_kb();
        forget_start().unwrap();
        assert!(resident_kb() < before);
        assert_eq!(format!("{:?}", std::hint::black_box("constants")), "\"constants\"");
    }
}
