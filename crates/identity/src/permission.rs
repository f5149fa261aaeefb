//! Which verb on which resource each role has: one table, and nothing that is not in it is allowed to anybody.

use crate::role::{Role, Roles};

/// What is looked at or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Functions, their versions, aliases and code.
    Function,
    /// Calls that nobody waits for: where they stand, what they answered.
    Call,
    /// Calls that were given up.
    DeadLetter,
    /// Lanes of the queue and what is paused.
    Queue,
    /// Schedules, subscriptions, webhooks, folders, brokers.
    Trigger,
    /// Topics and their events.
    Topic,
    /// Buckets and their objects.
    Bucket,
    /// Names and versions of secrets; nobody reads values.
    Secret,
    /// What functions print.
    Log,
    /// What was called when, and how it went.
    Run,
    /// What was used, for bills.
    Usage,
    /// Alarms and their silences.
    Alarm,
    /// What was changed when, by whom.
    Audit,
    /// A namespace itself.
    Namespace,
    /// Who has which role in a namespace.
    Member,
    /// Keys of a namespace.
    Key,
    /// How many requests somebody may make.
    Limit,
    /// Who is blocked or throttled.
    Protection,
    /// Who may call functions of a namespace that do not say so themselves.
    Access,
    /// Users of the platform.
    User,
    /// Sessions of people: each has their own, and administrators all.
    Session,
    /// The node: its figures, runtimes, housekeeping.
    Platform,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Look.
    Read,
    /// Create or change.
    Write,
    /// Take away.
    Delete,
    /// Call, publish, put in.
    Use,
    /// Pause, resume, run again, cancel, drain.
    Operate,
}

const VIEWER: Roles = Roles::of(Role::Viewer);
const DEVELOPER: Roles = Roles::of(Role::Developer);
const OPERATOR: Roles = Roles::of(Role::Operator);
const OWNER: Roles = Roles::of(Role::Owner);

const OWNERS: Roles = OWNER;
const DEVELOPERS: Roles = DEVELOPER.and(OWNER);
const OPERATORS: Roles = OPERATOR.and(OWNER);
const WORKERS: Roles = DEVELOPER.and(OPERATORS);
const ALL: Roles = VIEWER.and(WORKERS);
/// Administrators of the platform, who may do whatever is in the table.
const ADMINISTRATORS: Roles = Roles::NONE;

/// The whole of it.
pub const TABLE: &[(Resource, Verb, Roles)] = &[
    (Resource::Function, Verb::Read, ALL),
    (Resource::Function, Verb::Write, DEVELOPERS),
    (Resource::Function, Verb::Delete, DEVELOPERS),
    (Resource::Function, Verb::Use, WORKERS),
    (Resource::Function, Verb::Operate, WORKERS),
    (Resource::Call, Verb::Read, ALL),
    (Resource::Call, Verb::Operate, WORKERS),
    (Resource::DeadLetter, Verb::Read, ALL),
    (Resource::DeadLetter, Verb::Operate, WORKERS),
    (Resource::DeadLetter, Verb::Delete, OPERATORS),
    (Resource::Queue, Verb::Read, ALL),
    (Resource::Queue, Verb::Operate, OPERATORS),
    (Resource::Trigger, Verb::Read, ALL),
    (Resource::Trigger, Verb::Operate, WORKERS),
    (Resource::Topic, Verb::Read, ALL),
    (Resource::Topic, Verb::Use, WORKERS),
    (Resource::Topic, Verb::Operate, WORKERS),
    (Resource::Bucket, Verb::Read, ALL),
    (Resource::Bucket, Verb::Write, DEVELOPERS),
    (Resource::Bucket, Verb::Delete, OWNERS),
    (Resource::Bucket, Verb::Use, DEVELOPERS),
    (Resource::Secret, Verb::Read, ALL),
    (Resource::Secret, Verb::Write, DEVELOPERS),
    (Resource::Secret, Verb::Delete, DEVELOPERS),
    (Resource::Log, Verb::Read, ALL),
    (Resource::Run, Verb::Read, ALL),
    (Resource::Usage, Verb::Read, ALL),
    (Resource::Alarm, Verb::Read, ALL),
    (Resource::Alarm, Verb::Operate, WORKERS),
    (Resource::Audit, Verb::Read, OPERATORS),
    (Resource::Namespace, Verb::Read, ALL),
    (Resource::Namespace, Verb::Write, ADMINISTRATORS),
    (Resource::Namespace, Verb::Delete, ADMINISTRATORS),
    (Resource::Member, Verb::Read, ALL),
    (Resource::Member, Verb::Write, OWNERS),
    (Resource::Member, Verb::Delete, OWNERS),
    (Resource::Key, Verb::Read, OWNERS),
    (Resource::Key, Verb::Write, OWNERS),
    (Resource::Key, Verb::Delete, OWNERS),
    (Resource::Limit, Verb::Read, ALL),
    (Resource::Limit, Verb::Write, ADMINISTRATORS),
    (Resource::Limit, Verb::Delete, ADMINISTRATORS),
    (Resource::Protection, Verb::Read, ALL),
    (Resource::Protection, Verb::Write, OPERATORS),
    (Resource::Access, Verb::Read, ALL),
    (Resource::Access, Verb::Write, OWNERS),
    (Resource::User, Verb::Read, ADMINISTRATORS),
    (Resource::User, Verb::Write, ADMINISTRATORS),
    (Resource::User, Verb::Delete, ADMINISTRATORS),
    (Resource::Session, Verb::Read, ADMINISTRATORS),
    (Resource::Session, Verb::Write, ADMINISTRATORS),
    (Resource::Session, Verb::Delete, ADMINISTRATORS),
    (Resource::Platform, Verb::Read, ADMINISTRATORS),
    (Resource::Platform, Verb::Operate, ADMINISTRATORS),
];

/// Which roles have a verb on a resource; `None` where nobody has, administrators included.
pub(crate) fn roles_with(verb: Verb, resource: Resource) -> Option<Roles> {
    TABLE.iter().find(|(of, has, _)| *of == resource && *has == verb).map(|(.., roles)| *roles)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_there_once() {
        let rows: BTreeSet<_> = TABLE.iter().map(|(resource, verb, _)| (resource, verb)).collect();
        assert_eq!(rows.len(), TABLE.len());
    }

    #[test]
    fn who_only_looks_changes_nothing() {
        for (resource, verb, roles) in TABLE {
            assert!(!roles.has(Role::Viewer) || *verb == Verb::Read, "{verb:?} {resource:?}");
        }
    }

    #[test]
    fn an_owner_has_what_any_role_has() {
        for (resource, verb, roles) in TABLE {
            assert!(*roles == Roles::NONE || roles.has(Role::Owner), "{verb:?} {resource:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_nobody_has() {
        assert_eq!(roles_with(Verb::Delete, Resource::Audit), None);
        assert_eq!(roles_with(Verb::Write, Resource::Platform), None);
    }
}
