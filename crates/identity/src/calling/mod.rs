//! Who may call functions from outside: whether a request is let in, and by what.
//!
//! [`Gate`] judges. What it is judged by lies in memory: what functions and namespaces state, keys and sessions (the
//! directory), keys of other authorities (`issuers`). Deliberately absent: HTTP, and which function is called (the
//! gateway's); who may use the control API (`permission`).

mod gate;
mod issuers;
mod jwt;
mod key_set;
mod setting;
mod url;

use alula_model::AccessSpec;

pub use gate::{Admitted, Asked, By, Credentials, Denied, Gate};
pub use issuers::{FetchKeys, KEY_SET_BYTES_MAX, NoFetch};
pub(crate) use setting::CallingRecord;
pub use setting::NewAddress;
pub use url::SignedUrl;

/// Checks the keys that stand in a spec, so that a deploy is refused rather than every call. The error is one line.
pub fn check(access: &AccessSpec) -> Result<(), String> {
    let with_keys = access.jwt.iter().filter(|spec| spec.jwks_url.is_none());
    with_keys
        .into_iter()
        .try_for_each(|spec| key_set::KeySet::stated(spec).map(drop))
        .map_err(|error| format!("jwt: {error}"))
}
