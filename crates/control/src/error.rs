//! How what goes wrong in here reaches a caller: one function a kind of fault, so that each is worded once.

use std::io;

use alula_model::{ErrorCode, Fault, Function, Name, SpecError};
use alula_store::Error as StoreError;

use crate::catalog::Taken;

pub(crate) fn function_not_found(namespace: &Name, name: &Name) -> Fault {
    Fault::new(ErrorCode::FunctionNotFound, format!("no function {name} in namespace {namespace}"))
}

pub(crate) fn version_not_found(function: &Function, number: u64) -> Fault {
    let Function { name, newest, .. } = function;
    let message =
        format!("function {name} has no version {number}; the newest is {newest}, old ones are not kept");
    Fault::new(ErrorCode::VersionNotFound, message)
}

pub(crate) fn alias_not_found(function: &Function, alias: &Name) -> Fault {
    let known: Vec<_> = function.aliases.keys().map(Name::as_str).collect();
    let known =
        if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
    Fault::new(ErrorCode::AliasNotFound, format!("function {} has no alias {alias}; {known}", function.name))
}

pub(crate) fn route_taken(taken: &Taken) -> Fault {
    let Taken { route, namespace, name, owner_namespace, owner } = taken;
    let owner =
        if owner_namespace == namespace { owner.to_string() } else { format!("{owner}.{owner_namespace}") };
    let message = format!(
        "route {route} of function {name} belongs to function {owner}, which has a route for the same method, host and \
         path (names of parameters do not tell routes apart): change one of the two"
    );
    Fault::new(ErrorCode::RouteConflict, message)
}

pub(crate) fn spec(function: &Name, error: &SpecError) -> Fault {
    Fault::new(ErrorCode::InvalidSpec, format!("function {function}: {error}"))
}

pub(crate) fn conflict() -> Fault {
    Fault::new(ErrorCode::Conflict, "the function was changed by somebody else at the same time; try again")
}

/// A failure of the store. Its detail is for the log, not for the caller.
pub(crate) fn store(error: &StoreError) -> Fault {
    match error {
        StoreError::Conflict { .. } => conflict(),
        StoreError::Full => {
            Fault::new(ErrorCode::StoreUnavailable, "no space is left for the store; nothing was changed")
        }
        StoreError::Unavailable { detail } => {
            tracing::error!(detail, "the store does not answer");
            Fault::new(ErrorCode::StoreUnavailable, "the store does not answer")
        }
        other => {
            tracing::error!(error = %other, "the store failed");
            Fault::new(ErrorCode::Internal, "the store failed; the platform's log says how")
        }
    }
}

/// A failure of the platform's own files. `what` is a verb and an object: `unpack the package`.
pub(crate) fn file(what: &str, error: &io::Error) -> Fault {
    tracing::error!(%error, what, "a file operation failed");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let message = format!("cannot {what}: no space is left in the data directory");
            Fault::new(ErrorCode::StoreUnavailable, message)
        }
        _ => Fault::new(ErrorCode::Internal, format!("cannot {what}; the platform's log says why")),
    }
}

/// Something that cannot happen happened.
pub(crate) fn defect(what: &str) -> Fault {
    tracing::error!(what, "defect");
    Fault::new(ErrorCode::Internal, what)
}
