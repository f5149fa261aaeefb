//! A program of one's own with scripts in it: compile once, call like a function, see what was logged.
//!
//! `cargo run -p alula-script --example script_embed`
#![expect(clippy::print_stdout, reason = "an example that prints")]

use std::rc::Rc;

use alula_script::{
    Console, Engine, EngineOptions, Level, ModuleOptions, Request, RequestBody, ResponseBody, ScriptError,
    compile,
};

const SOURCE: &str = r#"
interface Order { item: string; count: number }

export default {
  async fetch(request: Request, env: Record<string, string>): Promise<Response> {
    const { item, count } = await request.json() as Order;
    console.log(`${count} of ${item}`);
    return Response.json({ item, price: count * Number(env.PRICE) });
  },
};
"#;

/// Prints what scripts log.
#[derive(Debug)]
struct Printed;

impl Console for Printed {
    fn log(&self, _call: Option<u32>, level: Level, text: &str) {
        println!("{level:?}: {text}");
    }
}

/// An embedder uses the operating system's randomness; this script asks for none.
fn no_random(bytes: &mut [u8]) {
    bytes.fill(0);
}

async fn run() -> Result<String, Box<dyn std::error::Error>> {
    let artifact = compile("shop", &|path| (path == "shop.ts").then(|| SOURCE.as_bytes().to_vec()))?;
    let engine = Engine::new(EngineOptions { memory_bytes_max: 64 << 20 });
    let script = engine.module(ModuleOptions {
        env: vec![("PRICE".to_owned(), "4".to_owned())],
        console: Rc::new(Printed),
        ..ModuleOptions::new(artifact, no_random)
    });
    let order = RequestBody::Whole(r#"{"item":"tea","count":3}"#.into());
    let answer = script.call(Request::new("POST", "http://localhost/", order)).await?;
    match answer.body {
        ResponseBody::Whole(bytes) => Ok(String::from_utf8(bytes.to_vec())?),
        ResponseBody::Stream(_) => Err(ScriptError::BadResponse { reason: "a stream".to_owned() }.into()),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", tokio::task::LocalSet::new().block_on(&runtime, run())?);
    Ok(())
}
