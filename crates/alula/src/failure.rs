//! Failures of a command as the user sees them: what happened, what to do, a code, and the exit status.
//!
//! Everything a command can fail with becomes one [`Failure`]; `main` prints it once.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The exit statuses, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The function or the operation failed.
    Failed = 1,
    /// The command line or a local file is wrong. The same number as clap's.
    Usage = 2,
    /// The platform was not reached.
    Unreachable = 3,
    /// No token, or not the right one.
    Unauthorised = 4,
    /// What was named does not exist.
    NotFound = 5,
}

/// The exit statuses as `alula --help` explains them.
pub(crate) const EXIT_HELP: &str = "\
Exit status:
  0  it worked
  1  the function or the operation failed
  2  the command line, or a file it names, is wrong
  3  the platform cannot be reached
  4  the token is missing or not accepted
  5  what was named does not exist";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The status the process ends with.
    pub(crate) exit: Exit,
    /// A short stable code.
    pub(crate) code: String,
    /// What happened, in one line.
    pub(crate) message: String,
    /// What to do, in one line.
    pub(crate) remedy: Option<String>,
    /// What the function logged last, where it is the function that failed.
    pub(crate) log_tail: Vec<String>,
}

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without a remedy.
    pub(crate) fn new(exit: Exit, code: &str, message: impl fmt::Display) -> Self {
        Self { exit, code: code.to_owned(), message: message.to_string(), remedy: None, log_tail: Vec::new() }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The operation was refused or failed.
    pub(crate) fn failed(code: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, code, message)
    }

    /// A local file could not be read or written.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let failure =
            Self::new(Exit::Usage, "local_file", format!("cannot {doing} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => failure.remedy("check the path"),
            io::ErrorKind::PermissionDenied => failure.remedy("check the permissions of the file"),
            _ => failure,
        }
    }

    /// The same failure with what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl From<alula_sdk::ClientError> for Failure {
    fn from(error: alula_sdk::ClientError) -> Self {
        let status = error.refusal().and_then(|refusal| refusal.status);
        let exit = match status.map(|status| status.as_u16()) {
            Some(401 | 403) => Exit::Unauthorised,
            Some(404) => Exit::NotFound,
            None if error.is_connection() => Exit::Unreachable,
            None if matches!(
                error,
                alula_sdk::ClientError::BadUrl { .. } | alula_sdk::ClientError::BadToken
            ) =>
            {
                Exit::Usage
            }
            _ => Exit::Failed,
        };
        let message = chain(&error);
        let log_tail = error.refusal().map(|refusal| refusal.info.log_tail.clone()).unwrap_or_default();
        Self { exit, code: error.code().to_owned(), message, remedy: error.remedy(), log_tail }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A write to standard output failed; `main` ends quietly where the reader went away (`alula list | head`).
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { BROKEN_PIPE } else { "output" };
        Self::failed(code, format!("cannot write the output: {error}"))
    }
}

/// The code of a failure that is nobody's concern: the reader of the output has seen enough.
pub(crate) const BROKEN_PIPE: &str = "broken_pipe";
