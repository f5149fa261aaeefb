//! Who asks, and what they may.

use std::sync::Arc;

use alula_model::{By, Name};

use crate::grant::{Grant, Place};
use crate::permission::{Resource, Verb, roles_with};
use crate::role::Roles;

/// Somebody whose key or session is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What they are called in the audit record: `admin`, `user:anna`, `key:deploy`.
    pub name: Arc<str>,
    /// What they are called among all callers of the platform: as above, but for a key, `key:NAMESPACE/NAME`.
    pub caller: Arc<str>,
    /// Whether they administer the platform, or what they are elsewhere.
    pub kind: PrincipalKind,
    /// The address that they ask from, where it is known.
    pub from: Option<Arc<str>>,
}

/// What somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// They administer the platform, and have every verb that anybody has.
    Administrator,
    /// They have roles in places.
    Member(Arc<[Grant]>),
}

impl Principal {
    /// An administrator of the platform.
    #[must_use]
    pub fn administrator(name: &str) -> Self {
        let name: Arc<str> = name.into();
        Self { caller: Arc::clone(&name), name, kind: PrincipalKind::Administrator, from: None }
    }

    /// Somebody with roles in places.
    #[must_use]
    pub fn member(name: &str, grants: Arc<[Grant]>) -> Self {
        let name: Arc<str> = name.into();
        Self { caller: Arc::clone(&name), name, kind: PrincipalKind::Member(grants), from: None }
    }

    /// The key of a namespace.
    pub(crate) fn key(namespace: &Name, name: &Name, grants: Arc<[Grant]>) -> Self {
        let caller = format!("key:{namespace}/{name}").into();
        Self { caller, ..Self::member(&format!("key:{name}"), grants) }
    }

    /// The same, asking from an address.
    #[must_use]
    pub fn asking_from(self, address: &str) -> Self {
        Self { from: Some(address.into()), ..self }
    }

    /// As the audit record names them.
    #[must_use]
    pub fn as_by(&self) -> By {
        By { name: self.name.to_string(), from: self.from.as_deref().map(str::to_owned) }
    }

    /// Whether they have a verb on a resource that is in `place`.
    #[must_use]
    pub fn may(&self, verb: Verb, resource: Resource, place: &Place) -> bool {
        match (roles_with(verb, resource), &self.kind) {
            (None, _) => false,
            (Some(_), PrincipalKind::Administrator) => true,
            (Some(roles), PrincipalKind::Member(_)) => roles.meets(self.roles(place)),
        }
    }

    /// The same anywhere in a namespace: in all of it or in one of its apps. What is listed is then judged one by one.
    #[must_use]
    pub fn may_somewhere(&self, verb: Verb, resource: Resource, namespace: &Name) -> bool {
        self.may(verb, resource, &Place::Namespace(namespace.clone()))
            || self
                .grants()
                .iter()
                .filter(|grant| grant.namespace == *namespace)
                .any(|grant| self.may(verb, resource, &grant.place()))
    }

    /// Whether they may hand on `grant`: nobody gives what they have not, and only who decides about members gives anything.
    #[must_use]
    pub fn may_give(&self, grant: &Grant) -> bool {
        self.may(Verb::Write, Resource::Member, &grant.place())
    }

    /// Their roles in places; none for an administrator, who needs none.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        match &self.kind {
            PrincipalKind::Administrator => &[],
            PrincipalKind::Member(grants) => grants,
        }
    }

    fn roles(&self, place: &Place) -> Roles {
        let here = self.grants().iter().filter(|grant| grant.covers(place));
        here.fold(Roles::NONE, |roles, grant| roles.and(Roles::of(grant.role)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn grant(namespace: &str, app: Option<&str>, role: Role) -> Grant {
        Grant { namespace: name(namespace), app: app.map(name), role }
    }

    #[test]
    fn roles_hold_where_they_were_given_and_nowhere_else() {
        let grants = [grant("shop", None, Role::Viewer), grant("shop", Some("cart"), Role::Developer)];
        let anna = Principal::member("user:anna", Arc::new(grants));
        let may = |verb, place: &Place| anna.may(verb, Resource::Function, place);
        let (shop, cart) = (Place::Namespace(name("shop")), Place::App(name("shop"), name("cart")));
        assert!(may(Verb::Read, &shop) && may(Verb::Read, &cart) && may(Verb::Write, &cart));
        assert!(!may(Verb::Write, &shop) && !may(Verb::Write, &Place::App(name("shop"), name("search"))));
        assert!(!may(Verb::Read, &Place::Namespace(name("bank"))) && !may(Verb::Read, &Place::Platform));
        assert!(!may(Verb::Read, &Place::App(name("bank"), name("cart"))));
    }

    #[test]
    fn a_role_in_an_app_opens_the_namespace_only_to_be_looked_through() {
        let bob = Principal::member("user:bob", Arc::new([grant("shop", Some("cart"), Role::Viewer)]));
        assert!(bob.may_somewhere(Verb::Read, Resource::Function, &name("shop")));
        assert!(!bob.may_somewhere(Verb::Write, Resource::Function, &name("shop")));
        assert!(!bob.may_somewhere(Verb::Read, Resource::Function, &name("bank")));
        assert!(!bob.may(Verb::Read, Resource::Queue, &Place::Namespace(name("shop"))));
    }

    #[test]
    fn only_owners_give_roles_and_only_where_they_are_owners() {
        let owner = Principal::member("user:o", Arc::new([grant("shop", Some("cart"), Role::Owner)]));
        assert!(owner.may_give(&grant("shop", Some("cart"), Role::Owner)));
        assert!(!owner.may_give(&grant("shop", None, Role::Viewer)));
        assert!(!owner.may_give(&grant("shop", Some("search"), Role::Viewer)));
        let operator = Principal::member("user:p", Arc::new([grant("shop", None, Role::Operator)]));
        assert!(!operator.may_give(&grant("shop", None, Role::Viewer)));
        assert!(Principal::administrator("admin").may_give(&grant("bank", None, Role::Owner)));
    }

    #[test]
    fn administrators_may_what_is_in_the_table_and_no_more() {
        let admin = Principal::administrator("admin");
        assert!(admin.may(Verb::Operate, Resource::Platform, &Place::Platform));
        assert!(!admin.may(Verb::Delete, Resource::Audit, &Place::Platform));
    }
}
