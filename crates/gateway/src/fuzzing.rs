//! Entrances for fuzzers: what a caller writes into a request line. Not part of any build that serves.

use std::sync::Arc;

use alula_control::RouteMatch;
use alula_model::{FunctionRef, Name};
use alula_runtime::VersionPlan;
use http::{HeaderMap, Method, Uri};

use crate::ports::Routes;
use crate::target::{self, Target};

struct NoRoutes;

impl Routes for NoRoutes {
    fn route(&self, _method: &str, _host: Option<&str>, _path: &str) -> Option<RouteMatch> {
        None
    }

    fn versions(&self, _target: &FunctionRef) -> [Option<Arc<VersionPlan>>; 2] {
        [None, None]
    }
}

/// A request's target: where it names a function, the function gets a path of its own, never another function's. Panics
/// where that is not so.
pub fn target(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else { return };
    let outside = target::find(&NoRoutes, &Method::GET, &uri, &HeaderMap::new());
    let inside = Name::new("home").map(|home| target::find_within(&home, &uri));
    for found in [Some(outside), inside.ok()].into_iter().flatten().flatten() {
        if let Target::Function { uri, .. } = found {
            assert!(uri.path().starts_with('/') && uri.authority().is_none(), "{uri}");
        }
    }
}
