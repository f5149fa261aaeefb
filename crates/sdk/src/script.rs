//! Light scripts inside of the program that uses this crate, by the engine that the runtime `script` has: the same
//! modules, the same limits, no server.
//!
//! The program decides what a script reaches: its log, its requests and its variables are traits and values that it
//! passes in. The engine is no security boundary against hostile code; that needs the platform and its sandbox.
//!
//! ```
//! use alula_sdk::script::{Engine, EngineOptions, ModuleOptions, Request, RequestBody, ResponseBody, compile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = "export default (request: Request) => new Response(`hello ${new URL(request.url).pathname}`)";
//! let artifact = compile("main", &|path| (path == "main.ts").then(|| source.into()))?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let answer = tokio::task::LocalSet::new().block_on(&runtime, async {
//!     let engine = Engine::new(EngineOptions { memory_bytes_max: 64 << 20 });
//!     let script = engine.module(ModuleOptions::new(artifact, |bytes| bytes.fill(0)));
//!     script.call(Request::new("GET", "http://localhost/you", RequestBody::Empty)).await
//! })?;
//! assert!(matches!(answer.body, ResponseBody::Whole(text) if text == "hello /you"));
//! # Ok(())
//! # }
//! ```

pub use alula_script::*;
