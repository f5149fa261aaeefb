//! Which cell an instance gets: one that was prepared ahead or a new one, with what mounts and ports.

use std::sync::Arc;

use alula_model::{Calls, Fault, FunctionSpec, Tier};

use super::stems::Waiting;
use super::{ProcessBackend, lambda};
use crate::language::{Language, Protocol, SHIM_DIR};
use crate::{Behalf, Cell, CellSpec, DOOR_PORT, Door, GATEWAY_PORT, Mount, VersionPlan};

/// Where the function's code is inside a cell.
pub(super) const CODE_DIR: &str = "/code";
const MIB: u64 = 1024 * 1024;

/// A cell for one version.
pub(super) struct Found {
    pub(super) cell: Arc<dyn Cell>,
    /// The process that waits in it.
    pub(super) waiting: Option<Waiting>,
    pub(super) tier: Tier,
}

/// Takes a cell that was prepared ahead, or makes one.
pub(super) async fn find_cell(
    backend: &ProcessBackend,
    plan: &VersionPlan,
    language: &Arc<Language>,
) -> Result<Found, Fault> {
    let spec = cell_spec(&backend.door, plan, language);
    if let Some(stem) = backend.stems.take(language, plan) {
        match stem.cell.specialise(spec.clone()).await {
            Ok(()) => return Ok(Found { cell: stem.cell, waiting: stem.waiting, tier: Tier::Stem }),
            // Limits below what the waiting process uses already, for one. What is wrong with the version itself
            // shows again.
            Err(fault) => tracing::debug!(%fault, version = %plan.key, "a stem cell was of no use"),
        }
    }
    let cell: Arc<dyn Cell> = Arc::from(backend.launcher.prepare(spec).await?);
    let waiting = backend.stems.fork_into(&*cell, language, plan).await;
    Ok(Found { cell, waiting, tier: Tier::Cold })
}

/// A cell for an instance of the version.
pub(super) fn cell_spec(door: &Door, plan: &VersionPlan, language: &Language) -> CellSpec {
    let spec = &plan.spec;
    let mut mounts = vec![read_only(&plan.code, CODE_DIR)];
    mounts.extend(shim_mount(language));
    let mut ports = listeners(language);
    if calls_in(door, plan) {
        ports.extend(door_ports(spec, language));
    }
    CellSpec { behalf: Behalf::of(plan), ..limited(spec, ports, mounts) }
}

/// Whether instances of the version can call the platform.
pub(super) fn calls_in(door: &Door, plan: &VersionPlan) -> bool {
    door.is_open() && plan.spec.calls == Calls::Namespace
}

/// Whether a server would have to listen where its function calls the platform.
pub(super) fn takes_door(spec: &FunctionSpec) -> bool {
    spec.calls == Calls::Namespace && spec.port == DOOR_PORT
}

/// Where instances of the version call the platform. The port of OpenFaaS's gateway is left to programs that listen
/// there themselves, as servers do.
pub(super) fn door_ports(spec: &FunctionSpec, language: &Language) -> Vec<u16> {
    let has_gateway = match language.protocol() {
        Protocol::Frames | Protocol::Exec => true,
        Protocol::Http => spec.port != GATEWAY_PORT,
        Protocol::Provided | Protocol::Component => false,
    };
    [DOOR_PORT].into_iter().chain(has_gateway.then_some(GATEWAY_PORT)).collect()
}

/// A cell with the limits of `spec`, without a network.
pub(super) fn limited(spec: &FunctionSpec, listeners: Vec<u16>, mounts: Vec<Mount>) -> CellSpec {
    CellSpec {
        memory_bytes: u64::from(spec.memory_mb) * MIB,
        processes_max: spec.processes_max(),
        tmp_bytes: u64::from(spec.tmp_mb()) * MIB,
        cpu_weight: spec.cpu_weight(),
        behalf: Behalf::default(),
        listeners,
        mounts,
    }
}

/// The ports that the platform listens on in every cell of the language.
pub(super) fn listeners(language: &Language) -> Vec<u16> {
    match language.protocol() {
        Protocol::Provided => vec![lambda::API_PORT],
        Protocol::Frames | Protocol::Exec | Protocol::Http | Protocol::Component => Vec::new(),
    }
}

/// The shim as every cell of the language has it.
pub(super) fn shim_mount(language: &Language) -> Option<Mount> {
    language.shim_dir().map(|shim| read_only(shim, SHIM_DIR))
}

fn read_only(source: &std::path::Path, target: &str) -> Mount {
    Mount { source: source.to_owned(), target: target.into(), writable: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_listen_where_its_function_calls_the_platform() {
        let spec = |port, calls| FunctionSpec { port, calls, ..FunctionSpec::new("http") };
        assert!(takes_door(&spec(DOOR_PORT, Calls::Namespace)));
        assert!(!takes_door(&spec(DOOR_PORT, Calls::None)));
        assert!(!takes_door(&spec(GATEWAY_PORT, Calls::Namespace)));
    }
}
