//! The command line: which commands and global options there are. What each takes is in its own module.

use clap::{Parser, Subcommand};

use crate::command::{
    access, alarm, alias, audit, bucket, calls, completions, config, dead, deploy, describe, dev, diff,
    doctor, explain, instances, invoke, key, limit, list, login, logout, logs, member, namespace, network,
    new, passwd, protect, publish, queue, remove, rollback, runs, secret, session, sign_url, simulate, slo,
    stats, top, topics, triggers, up, usage, user, versions, whoami,
};
use crate::failure::{EXIT_HELP, Result};
use crate::session::{Global, Session};

/// Functions on your own machines: deploy from source, call over HTTP.
#[derive(Debug, Parser)]
#[command(name = "alula", version, after_help = EXIT_HELP, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Every command.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made, when the program starts")]
pub(crate) enum Command {
    /// Start the platform on this machine
    Up(up::Arguments),
    /// Look whether this machine has what functions need
    Doctor(doctor::Arguments),
    /// Compile a WebAssembly component from the standard input to the standard output: what the platform starts in a
    /// sandbox when a component is deployed
    #[command(name = alula_wasm::COMPILE_COMMAND, hide = true)]
    WasmCompile,
    /// The commands that run inside the command line's own runtime.
    #[command(flatten)]
    Task(Task),
}

/// The commands besides `up` and `doctor`, which make sandboxes and must begin before any thread exists.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Make a new function from a template
    New(new::Arguments),
    /// Deploy functions from files, folders or archives
    Deploy(deploy::Arguments),
    /// Deploy on every saved change and follow the logs
    Dev(dev::Arguments),
    /// Call a function
    Invoke(invoke::Arguments),
    /// Follow calls that nobody waits for: where they stand, their results
    Calls(calls::Arguments),
    /// Look after calls that were given up: run them again, or forget them
    Dead(dead::Arguments),
    /// Show the queue of asynchronous calls; pause, resume, drain it
    Queue(queue::Arguments),
    /// List the functions
    #[command(visible_alias = "ls")]
    List(list::Arguments),
    /// Tell everything about a function, and whether it can be called
    Describe(describe::Arguments),
    /// List the instances that run now
    Instances(instances::Arguments),
    /// Watch functions with their instances, memory, CPU and running calls
    Top(top::Arguments),
    /// Tell what was decided about a function's instances, when and why
    Explain(explain::Arguments),
    /// Show what makes functions run besides callers, what comes next, and pause it
    Triggers(triggers::Arguments),
    /// Publish an event to a topic
    Publish(publish::Arguments),
    /// Show who listens to which topic, and replay events
    Topics(topics::Arguments),
    /// Make buckets, and the keys that S3 clients reach them with
    Bucket(bucket::Arguments),
    /// Show what functions logged
    Logs(logs::Arguments),
    /// Show what became of calls
    Runs(runs::Arguments),
    /// Show how many calls succeed and how long they take
    Stats(stats::Arguments),
    /// Show objectives and what is left of their error budgets
    Slo(slo::Arguments),
    /// Show alarms, acknowledge and silence them, test who is told
    Alarm(alarm::Arguments),
    /// Export what functions used, by day
    Usage(usage::Arguments),
    /// List the versions of a function
    Versions(versions::Arguments),
    /// Show what changed between two versions
    Diff(diff::Arguments),
    /// Go back to an earlier version
    Rollback(rollback::Arguments),
    /// Name versions
    Alias(alias::Arguments),
    /// Remove a function
    #[command(visible_alias = "rm")]
    Remove(remove::Arguments),
    /// Show the configuration, and keep profiles of platforms
    Config(config::Arguments),
    /// Log in, and keep the session in a profile
    Login(login::Arguments),
    /// End the session that is kept
    Logout(logout::Arguments),
    /// Change your password
    Passwd(passwd::Arguments),
    /// List sessions, and end them
    Session(session::Arguments),
    /// Tell whose token is used, and what it may
    Whoami(whoami::Arguments),
    /// Make keys for programs and people, replace them, take them back
    Key(key::Arguments),
    /// Set secrets of functions, list, roll back and remove them
    Secret(secret::Arguments),
    /// Show and set what functions of a namespace may reach
    Network(network::Arguments),
    /// Give roles in a namespace, and take them
    Member(member::Arguments),
    /// Make people known
    User(user::Arguments),
    /// Make namespaces known
    Namespace(namespace::Arguments),
    /// Set how many requests the node, tenants, functions and callers may make
    Limit(limit::Arguments),
    /// Block and throttle whoever does harm; show and hold breakers, switch degraded answers
    Protect(protect::Arguments),
    /// Say who may call functions from outside
    Access(access::Arguments),
    /// Sign an address, for somebody who has no token
    SignUrl(sign_url::Arguments),
    /// Show who changed what
    Audit(audit::Arguments),
    /// Try the policy of keeping instances on a trace of calls
    Simulate(simulate::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

impl Task {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::New(arguments) => new::run(arguments, session),
            Self::Deploy(arguments) => deploy::run(arguments, session).await,
            Self::Dev(arguments) => dev::run(arguments, session).await,
            Self::Invoke(arguments) => invoke::run(arguments, session).await,
            Self::Calls(arguments) => calls::run(arguments, session).await,
            Self::Dead(arguments) => dead::run(arguments, session).await,
            Self::Queue(arguments) => queue::run(arguments, session).await,
            Self::List(arguments) => list::run(arguments, session).await,
            Self::Describe(arguments) => describe::run(arguments, session).await,
            Self::Instances(arguments) => instances::run(arguments, session).await,
            Self::Top(arguments) => top::run(arguments, session).await,
            Self::Explain(arguments) => explain::run(arguments, session).await,
            Self::Triggers(arguments) => triggers::run(arguments, session).await,
            Self::Publish(arguments) => publish::run(arguments, session).await,
            Self::Topics(arguments) => topics::run(arguments, session).await,
            Self::Bucket(arguments) => bucket::run(arguments, session).await,
            Self::Logs(arguments) => logs::run(arguments, session).await,
            Self::Runs(arguments) => runs::run(arguments, session).await,
            Self::Stats(arguments) => stats::run(arguments, session).await,
            Self::Slo(arguments) => slo::run(arguments, session).await,
            Self::Alarm(arguments) => alarm::run(arguments, session).await,
            Self::Usage(arguments) => usage::run(arguments, session).await,
            Self::Versions(arguments) => versions::run(arguments, session).await,
            Self::Diff(arguments) => diff::run(arguments, session).await,
            Self::Rollback(arguments) => rollback::run(arguments, session).await,
            Self::Alias(arguments) => alias::run(arguments, session).await,
            Self::Remove(arguments) => remove::run(arguments, session).await,
            Self::Config(arguments) => config::run(arguments, session),
            Self::Login(arguments) => login::run(arguments, session).await,
            Self::Logout(arguments) => logout::run(arguments, session).await,
            Self::Passwd(arguments) => passwd::run(arguments, session).await,
            Self::Session(arguments) => session::run(arguments, session).await,
            Self::Whoami(arguments) => whoami::run(arguments, session).await,
            Self::Key(arguments) => key::run(arguments, session).await,
            Self::Secret(arguments) => secret::run(arguments, session).await,
            Self::Network(arguments) => network::run(arguments, session).await,
            Self::Member(arguments) => member::run(arguments, session).await,
            Self::User(arguments) => user::run(arguments, session).await,
            Self::Namespace(arguments) => namespace::run(arguments, session).await,
            Self::Limit(arguments) => limit::run(arguments, session).await,
            Self::Protect(arguments) => protect::run(arguments, session).await,
            Self::Access(arguments) => access::run(arguments, session).await,
            Self::SignUrl(arguments) => sign_url::run(arguments, session).await,
            Self::Audit(arguments) => audit::run(arguments, session).await,
            Self::Simulate(arguments) => simulate::run(arguments, session),
            Self::Completions(arguments) => completions::run(arguments),
        }
    }
}
