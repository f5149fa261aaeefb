//! Hands what libFuzzer makes up to the target that `ALULA_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use alula_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("ALULA_FUZZ_TARGET").unwrap_or_default();
    alula_fuzz::target(&name).unwrap_or_else(|| panic!("no target is called {name:?}"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.take)(bytes));
