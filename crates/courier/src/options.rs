//! What an operator may change.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Limits of what is sent out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Time for one delivery, from the connection to the answer's status, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        // A receiver that takes longer does its work before it answers, which it should not.
        Self { timeout_ms: 30_000 }
    }
}

/// How mail is sent. Without an address nobody is told by mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailOptions {
    /// The mail server, `smtp://HOST[:PORT]`, `smtp://HOST?tls=required` for STARTTLS, or `smtps://HOST` for TLS from the
    /// start; a user and a password may stand before the host, percent-encoded. Empty: no mail is sent.
    pub url: String,
    /// The sender, `Alula <alula@example.org>`.
    pub from: String,
    /// A file with the password of the user that `url` names, so that it need not stand in the configuration.
    pub password_file: PathBuf,
}

impl MailOptions {
    /// Whether mail is to be sent.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }
}
