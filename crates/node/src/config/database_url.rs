//! The URL of a database, whose password is never shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Where a database is and who we are. Printing it leaves the password out; what was printed is therefore no longer the
/// configuration.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Whether none is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URL with its password, for the one who connects.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last `@`, so that one that somebody forgot to encode in the password hides more and not less.
        let (user, place) = match self.0.rsplit_once('@') {
            Some((before, place)) => (before, place),
            None => ("", self.0.as_str()),
        };
        if let Some((scheme, user)) = user.split_once("://") {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            write!(f, "{scheme}://{user}{}@", if password.is_empty() { "" } else { ":***" })?;
        } else if !user.is_empty() {
            f.write_str("***@")?;
        }
        let (place, parameters) = place.split_once('?').unwrap_or((place, ""));
        f.write_str(place)?;
        for (number, parameter) in parameters.split('&').filter(|parameter| !parameter.is_empty()).enumerate()
        {
            let shown = if parameter.starts_with("password") { "password=***" } else { parameter };
            write!(f, "{}{shown}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("", ""),
            ("postgres://alula:s3cret@db:5432/alula", "postgres://alula:***@db:5432/alula"),
            ("postgres://alula:s3@cret@db/alula", "postgres://alula:***@db/alula"),
            ("postgres://alula@db/alula?sslmode=require", "postgres://alula@db/alula?sslmode=require"),
            ("postgres://db/alula?user=a&password=s3cret&x=y", "postgres://db/alula?user=a&password=***&x=y"),
            ("alula:s3cret@db", "***@db"),
        ] {
            let url = DatabaseUrl(url.to_owned());
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }
}
