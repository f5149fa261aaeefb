//! What the functions of a namespace may reach at the most.

use std::fmt;

use alula_model::{By, ErrorCode, Fault, Name, Network};
use alula_runtime::BoxFuture;
use alula_wire as wire;
use alula_wire::{CeilingRequest, NetworkInfo, query};
use axum::Json;
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, Query};
use crate::respond::Answer;
use crate::state::Api;

/// Keeps ceilings, and knows what is open.
pub trait Ceilings: Send + Sync + fmt::Debug {
    /// The ceiling in force of a namespace, and where it is from.
    fn ceiling(&self, namespace: &Name) -> (Network, &'static str);

    /// Sets it, or lets that of the configuration hold again. It is in force when this returns.
    fn set<'a>(
        &'a self,
        by: &'a By,
        namespace: &'a Name,
        ceiling: Option<Network>,
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Connections of a namespace that are open on this node.
    fn connections(&self, namespace: &Name) -> usize;
}

/// Keeps none, where nothing is reached anyway.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCeilings;

impl Ceilings for NoCeilings {
    fn ceiling(&self, _namespace: &Name) -> (Network, &'static str) {
        (Network::None, "usual")
    }

    fn set<'a>(
        &'a self,
        _by: &'a By,
        _namespace: &'a Name,
        _ceiling: Option<Network>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn connections(&self, _namespace: &Name) -> usize {
        0
    }
}

/// Tells what the functions of a namespace may reach at the most
#[utoipa::path(
    get,
    path = "/v1/network",
    tag = "network",
    operation_id = "network",
    params(query::InNamespace),
    responses((status = 200, description = "The ceiling, and the connections that are open", body = NetworkInfo))
)]
pub(crate) async fn show(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<NetworkInfo>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    Ok(Json(api.network_info(&namespace)))
}

/// Sets what the functions of a namespace may reach at the most
///
/// It is in force at once: connections that it does not permit any more are ended, in running instances too.
#[utoipa::path(
    put,
    path = "/v1/network",
    tag = "network",
    operation_id = "set_network_ceiling",
    params(query::InNamespace),
    request_body = CeilingRequest,
    responses((status = 200, description = "What holds now", body = NetworkInfo))
)]
pub(crate) async fn set(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<CeilingRequest>,
) -> Answer<Json<NetworkInfo>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let ceiling = request.ceiling.map(network).transpose()?;
    api.parts.ceilings.set(&actor.by(), &namespace, ceiling).await?;
    Ok(Json(api.network_info(&namespace)))
}

fn network(stated: wire::Network) -> Result<Network, Fault> {
    let read = serde_json::to_value(&stated).and_then(serde_json::from_value);
    read.map_err(|error| Fault::new(ErrorCode::InvalidRequest, format!("ceiling: {error}")))
}

impl Api {
    fn network_info(&self, namespace: &Name) -> NetworkInfo {
        let (ceiling, source) = self.parts.ceilings.ceiling(namespace);
        NetworkInfo {
            namespace: namespace.to_string(),
            ceiling: (&ceiling).into(),
            source: source.to_owned(),
            connections: self.parts.ceilings.connections(namespace) as u64,
        }
    }
}
