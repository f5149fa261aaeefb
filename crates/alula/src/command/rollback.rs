//! `alula rollback`: lets `latest` name an earlier version; calls that run finish where they began.

use alula_model::Qualifier;
use clap::Args;

use crate::failure::{Failure, Result};
use crate::session::{Session, Target};

/// What `alula rollback` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula rollback hello           to the version before the present one
  alula rollback hello --to 3    to version 3, earlier or later
  alula rollback hello:3         the same")]
pub(crate) struct Arguments {
    /// The function, and a version after a colon
    name: Target,
    /// The version to go to [default: the one before the present one]
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
}

/// Moves the pointer and prints where it is now.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client_for(&arguments.name)?;
    let to = destination(&arguments)?;
    let function = client.rollback(arguments.name.name.as_str(), to).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&function)?);
    }
    Ok(session.output.line(&format!("{} version {}  {}", function.name, function.latest, function.url))?)
}

/// The version to go to, from the option or from behind the colon.
fn destination(arguments: &Arguments) -> Result<Option<u64>> {
    match (&arguments.name.qualifier, arguments.to) {
        (Qualifier::Latest, to) => Ok(to),
        (Qualifier::Version(number), None) => Ok(Some(*number)),
        (Qualifier::Version(number), Some(to)) if *number == to => Ok(Some(to)),
        (qualifier, _) => Err(Failure::usage(format!("{qualifier} does not name the version to go to"))
            .remedy(format!("`alula rollback {} --to NUMBER`", arguments.name.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_never_ignored() {
        let of = |name: &str, to| destination(&Arguments { name: name.parse().unwrap(), to });
        assert_eq!(of("hello", None).unwrap(), None);
        assert_eq!(of("hello", Some(2)).unwrap(), Some(2));
        assert_eq!(of("hello:3", None).unwrap(), Some(3));
        assert!(of("hello:3", Some(2)).is_err());
        assert!(of("hello:live", None).is_err());
    }
}
