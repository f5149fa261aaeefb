//! Asking a person before something cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Exit, Failure, Result};

/// Asks `question`; everything but a yes is a failure that says what was not done, and so is that nobody can be asked.
pub(crate) fn confirm(question: &str, not_done: &str) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("this needs a yes: {question}")).remedy("add --yes"));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "declined", not_done)),
    }
}
