//! The commands, one a module: what it takes, what it asks of the platform, how it prints the answer.

pub(crate) mod alias;
pub(crate) mod audit;
pub(crate) mod calls;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod deploy;
pub(crate) mod describe;
pub(crate) mod dev;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod instances;
pub(crate) mod invoke;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod queue;
pub(crate) mod remove;
pub(crate) mod rollback;
pub(crate) mod runs;
pub(crate) mod simulate;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod versions;
pub(crate) mod wasm_compile;
