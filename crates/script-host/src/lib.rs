//! Scripts as instances: a process that runs many of them in a sandbox, and the platform's side of it.
//!
//! All light scripts of one namespace with the same reach share one *script host*: the platform's own
//! binary in a hidden mode, started in a cell like any function. Inside it each instance is a context of its own
//! (see the crate `alula-script`), pinned to one thread.
//!
//! To everything above, an instance of a script is an instance like others: `platform` gives the process back end
//! a launcher whose cells are slots of a host and whose processes are contexts, so that the guest protocol with
//! its streaming, limits, cancelling and logs is the same code as for every language.
//!
//! ```text
//! platform (ScriptBackend)                         script host, in a cell
//!   control link  -- open, close, ping -->           standard input, first thread
//!                 <-- ended, usage, pong --
//!   one link each -- guest protocol ----->           a thread's engine, one context each
//! ```
//!
//! A script that cannot be interrupted makes its host fall silent; the host is killed and the calls in it fail as
//! crashed. Nothing is run again; the next call starts a new host.
//!
//! Not here: what a script can do (`alula-script`), how cells are made, how many instances there are.

mod control;
mod platform;
mod process;

pub use platform::{ScriptBackend, ScriptOptions};
pub use process::{COMPILE_MODE, HOST_MODE, main};
