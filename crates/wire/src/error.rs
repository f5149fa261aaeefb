//! What every error of the control API and of the public port looks like.

use alula_model::{Fault, LimitHit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror::mirror_enum;

mirror_enum! {
    /// Who has to act.
    Blame {
        /// The request is wrong or asks for too much.
        Caller,
        /// The function's code or its settings.
        Function,
        /// The platform.
        Platform,
    }
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorInfo,
}

/// What went wrong, whose fault it is, whether a retry is safe, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorInfo {
    /// The stable code, such as `function_not_found`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Who has to act.
    pub blame: Blame,
    /// Whether the same request may be sent again without running anything twice.
    pub retryable: bool,
    /// The limit, where one was exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitInfo>,
    /// The call that failed, where it was a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// The function's last log lines, where it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
    /// The handler's own error value (`errorType`, `errorMessage`, `stackTrace`), for event handlers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// The page of the documentation about this code.
    pub help: String,
}

/// Which limit was exceeded and how to change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitInfo {
    /// The limit's name: `request_bytes_max`.
    pub name: String,
    /// Its value now, in the unit of its name.
    pub value: u64,
    /// Where it is set.
    pub setting: String,
}

impl From<&LimitHit> for LimitInfo {
    fn from(hit: &LimitHit) -> Self {
        Self { name: hit.name.clone(), value: hit.value, setting: hit.setting.clone() }
    }
}

impl From<&Fault> for ErrorInfo {
    fn from(fault: &Fault) -> Self {
        Self {
            code: fault.code.as_str().to_owned(),
            message: fault.message.clone(),
            blame: fault.blame().into(),
            retryable: fault.is_retryable(),
            limit: fault.limit.as_ref().map(LimitInfo::from),
            invocation_id: None,
            log_tail: fault.log_tail.clone(),
            payload: fault.payload.as_deref().and_then(|json| serde_json::from_str(json).ok()),
            help: format!("docs/errors/{}.md", fault.code),
        }
    }
}

impl std::fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for ErrorInfo {}

#[cfg(test)]
mod tests {
    use alula_model::ErrorCode;

    use super::*;

    #[test]
    fn an_error_leaves_out_what_it_does_not_have() {
        let fault = Fault::new(ErrorCode::FunctionNotFound, "no function is named \"x\"");
        let json = serde_json::to_value(ErrorAnswer { error: ErrorInfo::from(&fault) }).unwrap();
        let expect = serde_json::json!({"error": {
            "code": "function_not_found", "message": "no function is named \"x\"", "blame": "caller",
            "retryable": false, "help": "docs/errors/function_not_found.md",
        }});
        assert_eq!(json, expect);
    }

    #[test]
    fn an_error_names_its_limit() {
        let fault =
            Fault::limit(ErrorCode::RequestTooLarge, "too large", "package_bytes_max", 7, "alula.toml");
        let json = serde_json::to_value(ErrorInfo::from(&fault)).unwrap();
        let expect = serde_json::json!({"name": "package_bytes_max", "value": 7, "setting": "alula.toml"});
        assert_eq!(json["limit"], expect);
    }
}
