//! What the instances of this node may take, from the configuration and from what is set at run time: the pool's options
//! and its ceilings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alula_guard::protect::{Book, Page, Target};
use alula_model::{Name, NameError, Timestamp};
use alula_pool::keep_alive::KeepAliveOptions;
use alula_pool::{Ceiling, Ceilings, Pool, PoolOptions, Scope};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::machine;
use crate::up::Error;

/// Starts in a second for every core where the configuration names none: each takes some milliseconds of CPU, so that this
/// is about half of what there is.
const STARTS_PER_CORE: u32 = 100;
const MEGABYTE: u64 = 1024 * 1024;

/// A ceiling is set for a name that cannot exist.
#[derive(Debug, thiserror::Error)]
enum CeilingError {
    #[error("pool.namespaces.{key}: the name is wrong")]
    Namespace { key: String, source: NameError },
    #[error("pool.apps.\"{key}\": the name is wrong")]
    App { key: String, source: NameError },
    #[error("pool.apps.\"{key}\": an app is named by its namespace and its name, \"default/shop\"")]
    NoNamespace { key: String },
}

/// The pool's options; `now` is the time of the start.
pub(crate) fn pool_options(config: &Config, now: Timestamp) -> Result<PoolOptions, Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = &config.pool;
    let per_second = u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(STARTS_PER_CORE);
    let starts_per_second = or(pool.starts_per_second, per_second);
    Ok(PoolOptions {
        starts_at_once: or(pool.starts_at_once, cores * 2),
        starts_per_second,
        starts_burst: or(pool.starts_burst, starts_per_second),
        ceilings: ceilings(pool).map_err(Error::component("a ceiling is wrong"))?,
        cores,
        keep_alive: KeepAliveOptions {
            min: Duration::from_millis(pool.keep_alive_min_ms),
            max: Duration::from_millis(pool.keep_alive_max_ms),
            ..KeepAliveOptions::default()
        },
        started_at: now,
        waiting_max: pool.waiting_max,
        rest_after: (pool.freeze_after_ms > 0).then(|| Duration::from_millis(pool.freeze_after_ms)),
        stop_grace: Duration::from_millis(pool.stop_grace_ms),
        ..PoolOptions::default()
    })
}

/// The ceilings that are in force: what is set at run time stands in for what the configuration says.
pub(crate) fn ceilings_with(mut stated: Ceilings, page: &Page) -> Ceilings {
    for (target, set) in &page.limits {
        let usual = match target {
            Target::Node => stated.node,
            Target::Namespace(_) => stated.namespace,
            _ => stated.app,
        };
        let scope = match target {
            Target::Node => Scope::Node,
            Target::Namespace(namespace) => Scope::Namespace(namespace.clone()),
            Target::App(namespace, app) => Scope::App(namespace.clone(), app.clone()),
            _ => continue,
        };
        let before = stated.named.get(&scope).copied().unwrap_or(usual);
        let ceiling = Ceiling {
            instances: set.instances_max.map_or(before.instances, |set| set as usize),
            memory_bytes: set.memory_mb_max.map_or(before.memory_bytes, |set| set.saturating_mul(MEGABYTE)),
        };
        match scope {
            Scope::Node => stated.node = ceiling,
            scope => drop(stated.named.insert(scope, ceiling)),
        }
    }
    stated
}

/// Keeps the pool to what is set at run time, until `stop`.
pub(crate) async fn follow(pool: Pool, stated: Ceilings, book: Book, stop: CancellationToken) {
    let mut changes = book.changes();
    changes.mark_changed();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let page = Arc::clone(&changes.borrow_and_update());
        pool.set_ceilings(ceilings_with(stated.clone(), &page));
    }
}

fn ceilings(pool: &config::Pool) -> Result<Ceilings, CeilingError> {
    let memory_bytes = match pool.memory_mb_max {
        0 => machine::memory_bytes() / 5 * 4,
        megabytes => megabytes.saturating_mul(MEGABYTE),
    };
    let of = |instances_max, memory_mb_max| ceiling(config::Ceiling { instances_max, memory_mb_max });
    let mut named = HashMap::new();
    for (key, stated) in &pool.namespaces {
        let wrong = |source| CeilingError::Namespace { key: key.clone(), source };
        named.insert(Scope::Namespace(Name::new(key).map_err(wrong)?), ceiling(*stated));
    }
    for (key, stated) in &pool.apps {
        let wrong = |source| CeilingError::App { key: key.clone(), source };
        let parts = key.split_once('/').ok_or_else(|| CeilingError::NoNamespace { key: key.clone() })?;
        let (namespace, app) = (Name::new(parts.0).map_err(wrong)?, Name::new(parts.1).map_err(wrong)?);
        named.insert(Scope::App(namespace, app), ceiling(*stated));
    }
    Ok(Ceilings {
        node: Ceiling { instances: pool.instances_max, memory_bytes },
        namespace: of(pool.namespace_instances_max, pool.namespace_memory_mb_max),
        app: of(pool.app_instances_max, pool.app_memory_mb_max),
        named,
    })
}

/// Zero is no ceiling.
fn ceiling(stated: config::Ceiling) -> Ceiling {
    Ceiling {
        instances: or(stated.instances_max, Ceiling::NONE.instances),
        memory_bytes: or(stated.memory_mb_max.saturating_mul(MEGABYTE), Ceiling::NONE.memory_bytes),
    }
}

/// What is set; zero stands for `otherwise`.
fn or<T: Default + PartialEq>(set: T, otherwise: T) -> T {
    if set == T::default() { otherwise } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<PoolOptions, String> {
        let config: Config = toml::from_str(text).unwrap();
        pool_options(&config, Timestamp(0)).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_default()
        })
    }

    #[test]
    fn ceilings_of_namespaces_and_apps_are_read_and_zero_is_none() {
        let text = "[pool]\napp_instances_max = 5\n[pool.namespaces.shop]\nmemory_mb_max = 2\n\
            [pool.apps.\"shop/cart\"]\ninstances_max = 3\n";
        let ceilings = options(text).unwrap().ceilings;
        let name = |text| Name::new(text).unwrap();
        let shop = ceilings.named[&Scope::Namespace(name("shop"))];
        assert_eq!(shop, Ceiling { memory_bytes: 2 * MEGABYTE, ..Ceiling::NONE });
        let cart = ceilings.named[&Scope::App(name("shop"), name("cart"))];
        assert_eq!(cart, Ceiling { instances: 3, ..Ceiling::NONE });
        assert_eq!((ceilings.namespace, ceilings.app.instances), (Ceiling::NONE, 5));
    }

    #[test]
    fn what_is_set_at_run_time_stands_in_for_what_is_configured() {
        let stated = options("[pool]\nnamespace_instances_max = 5\nmemory_mb_max = 8\n").unwrap().ceilings;
        let set = |instances_max, memory_mb_max| alula_guard::protect::Ceiling {
            instances_max,
            memory_mb_max,
            ..alula_guard::protect::Ceiling::default()
        };
        let mut page = Page::default();
        page.limits.insert("node".parse().unwrap(), set(Some(7), None));
        page.limits.insert("namespace/shop".parse().unwrap(), set(None, Some(3)));
        page.limits.insert("callers".parse().unwrap(), set(None, None));
        let ceilings = ceilings_with(stated, &page);
        assert_eq!(ceilings.node, Ceiling { instances: 7, memory_bytes: 8 * MEGABYTE });
        let shop = ceilings.named[&Scope::Namespace(Name::new("shop").unwrap())];
        assert_eq!(shop, Ceiling { instances: 5, memory_bytes: 3 * MEGABYTE });
        assert_eq!(ceilings.named.len(), 1);
    }

    #[test]
    fn names_that_cannot_exist_are_named() {
        for (text, expected) in [
            ("[pool.namespaces.\"a b\"]\n", "pool.namespaces.a b"),
            ("[pool.apps.cart]\n", "default/shop"),
            ("[pool.apps.\"shop/\"]\n", "pool.apps.\"shop/\""),
        ] {
            let error = options(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_rate_of_starts_follows_the_cores_and_the_burst_the_rate() {
        let usual = options("").unwrap();
        assert!(usual.starts_per_second >= STARTS_PER_CORE);
        assert_eq!(usual.starts_burst, usual.starts_per_second);
        let set = options("[pool]\nstarts_per_second = 7\n").unwrap();
        assert_eq!((set.starts_per_second, set.starts_burst), (7, 7));
    }
}
