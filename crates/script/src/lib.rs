//! Light scripts: one JavaScript or TypeScript module in an isolated context, called like a web server.
//!
//! [`compile`] turns source files into an [`Artifact`], once, when a script is published. An [`Engine`] runs
//! artifacts on one thread: a [`Module`] gets a context of its own (heap, globals, limits) with its first call,
//! in a fraction of a millisecond, and loses it when it is idle and memory is short. [`Module::call`] passes a
//! [`Request`] to the script's `fetch` handler, or as an event to its `handler`, and gives its [`Response`].
//!
//! ```text
//! source --compile--> Artifact --Engine::module--> Module --call--> Response
//! ```
//!
//! The engine knows no server, no sandbox and no pool, and reads neither clock nor environment; what a script may
//! reach is what the embedder implements as [`Fetch`] and [`Console`]. It is **not** a security boundary against
//! hostile code: QuickJS is written in C, and some of its built-in functions cannot be interrupted. Who runs
//! code that he does not trust runs the engine in a sandboxed process that he can kill.

mod artifact;
mod blank;
mod calls;
mod compile;
mod engine;
mod error;
mod fetches;
mod hooks;
mod host;
mod imports;
mod isolate;
mod loader;
mod message;
mod natives;
mod prelude;
mod shared;

pub use artifact::{Artifact, ArtifactError, ENGINE_VERSION};
pub use compile::{CompileError, compile};
pub use engine::{Engine, EngineOptions, Limits, Module, ModuleOptions};
pub use error::ScriptError;
pub use host::{
    Console, Fetch, FetchRequest, FetchResponse, Level, Meter, NoFetch, NoMeter, Redirect, Silent,
};
pub use message::{BodyStream, CallInfo, Pieces, Request, RequestBody, Response, ResponseBody};
