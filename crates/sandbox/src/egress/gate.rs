//! The one place that decides whether a connection to the outside is made, and that makes it.
//!
//! A place is reached when four agree: the address is none that nobody reaches (`policy`), a rule of the function permits
//! it, a rule of its namespace's ceiling does, and the namespace has not as many connections as it may have. A name is
//! resolved once, here, and one of the addresses that were checked is connected to, so a name that changes its address
//! between check and use (DNS rebinding) gains nothing. Connections that a lowered ceiling does not permit any more end.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alula_model::{AddressKind, HostName, Name, Network, NetworkCeilings, NetworkPlace, Subnet};
use alula_runtime::{Behalf, EgressError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::EgressPolicy;
use super::account::{Accounts, EgressLimits, Observe};
use super::journal::Journal;
use super::metered::{Metered, Ticket};
use crate::sys;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Time for one connection attempt, name lookup included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Ports on which a name is reached without a proxy where its rule names none: those of the web.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// What the operator sets.
#[derive(Debug, Clone, Default)]
pub struct EgressOptions {
    /// Which addresses nobody reaches.
    pub policy: EgressPolicy,
    /// What namespaces may reach at the most.
    pub ceilings: NetworkCeilings,
    /// Names that the operator gives addresses to.
    pub extra_hosts: BTreeMap<HostName, IpAddr>,
    /// What every function reaches besides its own rules and whatever the ceiling, such as a name service.
    pub services: Network,
    /// Limits.
    pub limits: EgressLimits,
}

/// Decides and connects. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct EgressGate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: EgressPolicy,
    extra_hosts: BTreeMap<HostName, IpAddr>,
    services: Network,
    limits: EgressLimits,
    ceilings: watch::Sender<Arc<NetworkCeilings>>,
    accounts: Accounts,
    journal: Journal,
}

/// A place whose addresses are known.
struct Found {
    host: Option<HostName>,
    /// Each with what kind of address it is.
    addresses: Vec<(IpAddr, AddressKind)>,
}

impl Default for EgressGate {
    /// Whoever has rules reaches public addresses by them; nobody is told.
    fn default() -> Self {
        let ceilings = NetworkCeilings { usual: Network::Internet, ..NetworkCeilings::default() };
        Self::new(EgressOptions { ceilings, ..EgressOptions::default() }, Arc::new(super::Unobserved))
    }
}

impl EgressGate {
    /// A gate that tells `observe` what it does.
    #[must_use]
    pub fn new(options: EgressOptions, observe: Arc<dyn Observe>) -> Self {
        let EgressOptions { policy, ceilings, extra_hosts, services, limits } = options;
        let shared = Shared {
            policy,
            extra_hosts,
            services,
            limits,
            ceilings: watch::Sender::new(Arc::new(ceilings)),
            accounts: Accounts::new(limits, Arc::clone(&observe)),
            journal: Journal::new(observe),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same with further blocks that count as public, and with books of its own: for what the operator allows to others
    /// than functions.
    #[must_use]
    pub fn also_allowing(&self, blocks: Vec<Subnet>, observe: Arc<dyn Observe>) -> Self {
        let policy = EgressPolicy { allow: [self.shared.policy.allow.clone(), blocks].concat() };
        let shared = Shared {
            policy,
            extra_hosts: self.shared.extra_hosts.clone(),
            services: self.shared.services.clone(),
            limits: self.shared.limits,
            ceilings: self.shared.ceilings.clone(),
            accounts: Accounts::new(self.shared.limits, Arc::clone(&observe)),
            journal: Journal::new(observe),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts other ceilings into force, at once.
    pub fn set_ceilings(&self, ceilings: NetworkCeilings) {
        self.shared.ceilings.send_replace(Arc::new(ceilings));
    }

    /// The ceilings in force.
    #[must_use]
    pub fn ceilings(&self) -> Arc<NetworkCeilings> {
        Arc::clone(&self.shared.ceilings.borrow())
    }

    /// Told when the ceilings change.
    pub(super) fn ceilings_changed(&self) -> watch::Receiver<Arc<NetworkCeilings>> {
        self.shared.ceilings.subscribe()
    }

    /// Whether somebody reaches anything at all.
    pub(crate) fn leads_somewhere(&self, by: &Behalf) -> bool {
        let has_rules = by.network.as_ref().is_some_and(|network| !network.is_none());
        has_rules || (by.namespace.is_some() && !self.shared.services.is_none())
    }

    pub(super) fn limits(&self) -> &EgressLimits {
        &self.shared.limits
    }

    /// Connections of a namespace that are open now.
    #[must_use]
    pub fn open_connections(&self, namespace: &Name) -> usize {
        self.shared.accounts.of(Some(namespace)).open()
    }

    /// The addresses of a place, each checked. At least one.
    pub(super) async fn addresses(
        &self,
        by: &Behalf,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let found = self.find(by, host).await;
        let checked = found.and_then(|found| {
            // One bad address refuses the name: an honest name has none, and which one is used must not be luck.
            found.addresses.iter().try_for_each(|address| self.check(by, &found, *address, port))?;
            Ok(found.addresses.iter().map(|(address, _)| SocketAddr::new(*address, port)).collect())
        });
        if let Err(EgressError::Refused(rule)) = &checked {
            self.shared.journal.refused(by, host, port, rule);
        }
        checked
    }

    /// Connects to a place.
    pub(super) async fn reach(&self, by: &Behalf, host: &str, port: u16) -> Result<Metered, EgressError> {
        let addresses = self.addresses(by, host, port).await?;
        let account = self.shared.accounts.of(by.namespace.as_ref());
        let place = account.enter().inspect_err(|_| {
            self.shared.journal.refused(by, host, port, "namespace_connections_max");
        })?;
        let mut last = no_address();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    self.shared.journal.opened(by, host, address);
                    let ticket =
                        Ticket { gate: self.clone(), by: by.clone(), host: host.to_owned(), address, place };
                    return Ok(Metered::new(stream, ticket));
                }
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = elapsed.into(),
            }
        }
        Err(EgressError::Unreachable(last))
    }

    /// The ports on which a name is reached from inside a cell by programs that know no proxy; none where it is not reached.
    pub(super) async fn ports_of(&self, by: &Behalf, host: &HostName) -> Vec<u16> {
        let Ok(found) = self.find(by, host.as_str()).await else { return Vec::new() };
        let rules = by.network.as_ref().unwrap_or(&Network::None);
        let (stated, any) = rules.ports_of(host);
        let (of_services, _) = self.shared.services.ports_of(host);
        let usual = any.then_some(USUAL_PORTS).into_iter().flatten();
        let mut ports: Vec<u16> = stated.into_iter().chain(of_services).chain(usual).collect();
        ports.sort_unstable();
        ports.dedup();
        let is_reached = |port: &u16| {
            !found.addresses.is_empty()
                && found.addresses.iter().all(|address| self.check(by, &found, *address, *port).is_ok())
        };
        ports.retain(is_reached);
        if ports.is_empty() {
            self.shared.journal.refused(by, host.as_str(), 0, "not_in_the_rules");
        }
        ports
    }

    /// Whether a connection that was permitted still is.
    pub(super) fn still_permits(&self, by: &Behalf, host: &str, address: SocketAddr) -> bool {
        let host = HostName::new(host).ok();
        let Ok(own) = sys::interface_addresses() else { return false };
        let kind = match host.as_ref().and_then(|host| self.shared.extra_hosts.get(host)) {
            Some(named) if *named == address.ip() => Ok(AddressKind::Named),
            _ => self.shared.policy.kind(address.ip(), &own),
        };
        let Ok(kind) = kind else { return false };
        let found = Found { host, addresses: Vec::new() };
        self.check(by, &found, (address.ip(), kind), address.port()).is_ok()
    }

    /// Looks a place up, unless no rule could permit it: what a function may not reach it may not ask name servers about.
    async fn find(&self, by: &Behalf, host: &str) -> Result<Found, EgressError> {
        let own = sys::interface_addresses().map_err(EgressError::Unreachable)?;
        let kind = |address: IpAddr| {
            let kind = self.shared.policy.kind(address, &own).map_err(EgressError::Refused)?;
            Ok((address, kind))
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Found { host: None, addresses: vec![kind(address)?] });
        }
        let name = HostName::new(host).map_err(|_| EgressError::Refused("malformed_address"))?;
        self.could_reach(by, &name)?;
        if let Some(address) = self.shared.extra_hosts.get(&name) {
            return Ok(Found { addresses: vec![(*address, AddressKind::Named)], host: Some(name) });
        }
        let lookup = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await;
        let found =
            lookup.map_err(io::Error::from).and_then(|found| found).map_err(EgressError::Unreachable)?;
        let addresses: Vec<_> = found.map(|address| kind(address.ip())).collect::<Result<_, _>>()?;
        match addresses.is_empty() {
            true => Err(EgressError::Unreachable(no_address())),
            false => Ok(Found { host: Some(name), addresses }),
        }
    }

    fn could_reach(&self, by: &Behalf, name: &HostName) -> Result<(), EgressError> {
        let has_blocks = |network: &Network| {
            network.rules().iter().any(|rule| matches!(rule.to, alula_model::Target::Subnet(_)))
        };
        let could = |network: &Network| network.names(name) || has_blocks(network);
        if by.namespace.is_some() && could(&self.shared.services) {
            return Ok(());
        }
        if by.network.as_ref().is_some_and(|rules| !could(rules)) {
            return Err(EgressError::Refused("not_in_the_rules"));
        }
        let ceilings = self.ceilings();
        if by.namespace.as_ref().is_some_and(|namespace| !could(ceilings.of(namespace))) {
            return Err(EgressError::Refused("above_the_ceiling"));
        }
        Ok(())
    }

    fn check(
        &self,
        by: &Behalf,
        found: &Found,
        (address, kind): (IpAddr, AddressKind),
        port: u16,
    ) -> Result<(), EgressError> {
        let to = NetworkPlace { host: found.host.as_ref(), address, port, kind };
        if by.namespace.is_some() && self.shared.services.permits_as_ceiling(&to) {
            return Ok(());
        }
        if by.network.as_ref().is_some_and(|rules| !rules.permits(&to)) {
            // The reason that helps: an address that rules must name is told from a name that they do not.
            let is_private = kind == AddressKind::Private;
            return Err(EgressError::Refused(if is_private { "private" } else { "not_in_the_rules" }));
        }
        let ceilings = self.ceilings();
        match &by.namespace {
            Some(namespace) if !ceilings.of(namespace).permits_as_ceiling(&to) => {
                Err(EgressError::Refused("above_the_ceiling"))
            }
            // Who has no namespace acts for the platform, and reaches what is everybody's.
            None if kind == AddressKind::Private => Err(EgressError::Refused("private")),
            _ => Ok(()),
        }
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}
