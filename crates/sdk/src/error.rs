//! What can go wrong with a call of the control API: the platform refused it, or it was not reached.
//!
//! A refusal keeps everything the server said. Whatever went wrong on the way says what was tried and what to do
//! about it in [`ClientError::remedy`]. What a program does with that (exit codes, colours) is not decided here.

use alula_wire::ErrorInfo;
use http::StatusCode;

/// The result of every operation of the client.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not an `http` or `https` URL.
    #[error("{url:?} is not the address of a control API")]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// The token cannot stand in a header.
    #[error("the token holds characters that no token has")]
    BadToken,
    /// The HTTP client could not be made, for example because the machine has no root certificates.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    /// No connection: nobody listens there, the name is unknown, TLS failed.
    #[error("cannot reach the platform at {url}: {reason}")]
    Unreachable {
        /// The control API's address.
        url: String,
        /// The innermost reason (`connection refused`).
        reason: String,
    },
    /// The platform was reached but did not answer in time.
    #[error("the platform at {url} did not answer in time")]
    TimedOut {
        /// The control API's address.
        url: String,
    },
    /// The connection broke off in the middle of an answer.
    #[error("the connection to the platform broke off: {reason}")]
    Interrupted {
        /// The innermost reason.
        reason: String,
    },
    /// The platform refused, and said why.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Something answered that is not the control API, or not of a version this client understands.
    #[error("the answer of {url} is not one of the control API: {reason}")]
    NotAlula {
        /// The control API's address.
        url: String,
        /// What does not fit.
        reason: String,
    },
    /// A local file that was to be sent could not be read.
    #[error("cannot read the body to send")]
    Body(#[source] std::io::Error),
}

/// What the server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", info.message)]
pub struct Refusal {
    /// The HTTP status; absent where a stream that had begun well told of a failure.
    pub status: Option<StatusCode>,
    /// Code, message, blame, whether a retry is safe, the limit, the help page.
    pub info: ErrorInfo,
}

impl ClientError {
    /// The refusal, where the server refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the platform was not reached, or was lost on the way.
    #[must_use]
    pub const fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::TimedOut { .. }
                | Self::Interrupted { .. }
                | Self::NotAlula { .. }
        )
    }

    /// A short stable code: the server's own, or one of this client's.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::BadUrl { .. } => "bad_url",
            Self::BadToken => "bad_token",
            Self::Setup(_) => "client_setup",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Interrupted { .. } => "interrupted",
            Self::Refused(refusal) => &refusal.info.code,
            Self::NotAlula { .. } => "not_alula",
            Self::Body(_) => "unreadable_body",
        }
    }

    /// What to do about it, in one sentence, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::BadUrl { .. } => Some("give it as http://HOST:PORT or https://HOST[:PORT]".to_owned()),
            Self::BadToken => Some("copy the token again, without line ends or quotes".to_owned()),
            Self::Setup(_) => {
                Some("install the root certificates (Debian: apt-get install ca-certificates)".to_owned())
            }
            Self::Unreachable { url, .. } => Some(format!(
                "is `alula up` running at {url}? Another address is chosen with --url or ALULA_URL"
            )),
            Self::TimedOut { .. } => {
                Some("try again; `alula doctor` shows whether the platform is well".to_owned())
            }
            Self::Interrupted { .. } => {
                Some("look whether the platform still runs, then try again".to_owned())
            }
            Self::NotAlula { url, .. } => Some(format!(
                "{url} must be the control address that `alula up` prints, not the one of functions"
            )),
            Self::Body(_) => None,
            Self::Refused(refusal) => refusal.remedy(),
        }
    }
}

impl Refusal {
    fn remedy(&self) -> Option<String> {
        if let Some(limit) = &self.info.limit {
            return Some(format!("the limit {} is {}: change {}", limit.name, limit.value, limit.setting));
        }
        match self.info.code.as_str() {
            "unauthenticated" => {
                Some("give the token of this platform with --token, ALULA_TOKEN or a profile".to_owned())
            }
            "function_not_found" => Some("`alula list` shows the functions there are".to_owned()),
            "version_not_found" => Some("`alula versions NAME` shows the versions there are".to_owned()),
            _ if self.info.retryable => Some("it is safe to try again".to_owned()),
            _ => None,
        }
    }
}
