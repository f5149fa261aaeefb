//! A script in a program of one's own, through this crate: its rules can be changed without building the program anew.
//!
//! `cargo run -p alula-sdk --features script --example sdk_script`
#![expect(clippy::print_stdout, reason = "an example that prints")]

use alula_sdk::script::{Engine, EngineOptions, ModuleOptions, Request, RequestBody, ResponseBody, compile};

const RULES: &str = "
export default async (request: Request): Promise<Response> => {
  const { total } = await request.json() as { total: number };
  return Response.json({ discount: total > 100 ? 0.1 : 0 });
};
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let artifact = compile("rules", &|path| (path == "rules.ts").then(|| RULES.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let engine = Engine::new(EngineOptions { memory_bytes_max: 64 << 20 });
        // These rules ask for no random values; a program that has others passes the operating system's.
        let rules = engine.module(ModuleOptions::new(artifact, |bytes| bytes.fill(0)));
        for total in [50, 500] {
            let order = RequestBody::Whole(format!(r#"{{"total":{total}}}"#).into());
            let answer = rules.call(Request::new("POST", "http://localhost/", order)).await?;
            if let ResponseBody::Whole(text) = answer.body {
                println!("{total}: {}", String::from_utf8_lossy(&text));
            }
        }
        Ok(())
    })
}
