//! What is typed and must not be seen: passwords.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::{Failure, Result};

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 4_096;

/// Asks for `what` on the terminal, without showing what is typed; from a pipe, reads a line.
pub(crate) fn ask(what: &str) -> Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line();
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{what}: ")?;
    stderr.flush()?;
    let unseen = Unseen::begin()?;
    let typed = line();
    drop(unseen);
    writeln!(stderr)?;
    typed
}

fn line() -> Result<String> {
    let mut text = String::new();
    let mut limited = io::Read::take(io::stdin().lock(), LINE_BYTES_MAX);
    limited.read_line(&mut text)?;
    let typed = text.trim_end_matches(['\r', '\n']);
    if typed.is_empty() {
        return Err(Failure::usage("nothing was typed"));
    }
    Ok(typed.to_owned())
}

/// The terminal shows nothing until this is dropped.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> Result<Self> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &unseen).map_err(io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // There is nothing to do about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
