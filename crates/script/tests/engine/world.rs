//! A thread with an engine, a console that keeps its lines, and a network of one server.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use alula_script::{
    Artifact, CompileError, Console, Engine, EngineOptions, Fetch, FetchRequest, FetchResponse, Level,
    Limits, Module, ModuleOptions, Request, RequestBody, Response, ResponseBody, ScriptError, compile,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

/// Keeps what scripts log.
#[derive(Debug, Default)]
pub(crate) struct Lines(pub(crate) RefCell<Vec<(Option<u32>, Level, String)>>);

impl Console for Lines {
    fn log(&self, call: Option<u32>, level: Level, text: &str) {
        self.0.borrow_mut().push((call, level, text.to_owned()));
    }
}

/// Answers with the request's method, URL, header `x-test` and body; hangs for paths that say so.
#[derive(Debug)]
struct Mirror;

impl Fetch for Mirror {
    fn fetch(&self, request: FetchRequest) -> LocalBoxFuture<'static, Result<FetchResponse, String>> {
        async move {
            if request.url.ends_with("/hang") {
                std::future::pending::<()>().await;
            }
            if request.url.ends_with("/refused") {
                return Err("connection refused".to_owned());
            }
            let body = request.body.clone().unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            let text =
                format!("{} {} {}|{body}", request.method, request.url, request.headers.replace('\0', "="));
            let pieces = text.as_bytes().chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece)));
            let pieces: Vec<Result<Bytes, String>> = pieces.collect();
            let body = futures_util::stream::iter(pieces).boxed_local();
            let headers = "content-type\0text/plain\0x-mirror\0yes".to_owned();
            Ok(FetchResponse { status: 201, url: request.url, headers, body })
        }
        .boxed_local()
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) lines: Rc<Lines>,
    pub(crate) limits: Limits,
}

pub(crate) fn world() -> World {
    let engine = Engine::new(EngineOptions { memory_bytes_max: 256 * 1024 * 1024 });
    let turn = Duration::from_millis(300);
    World { engine, lines: Rc::default(), limits: Limits { turn, ..Limits::default() } }
}

pub(crate) fn artifact(source: &str) -> Artifact {
    try_files(&[("main.ts", source)]).unwrap()
}

pub(crate) fn try_files(files: &[(&str, &str)]) -> Result<Artifact, CompileError> {
    compile("main", &|path| {
        files.iter().find(|(name, _)| *name == path).map(|(_, content)| content.as_bytes().to_vec())
    })
}

impl World {
    /// Its first context is made of what was prepared, those after it from nothing: both must be the same.
    pub(crate) fn module(&self, artifact: Artifact) -> Module {
        self.engine.prepare().unwrap();
        self.engine.module(ModuleOptions {
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
            limits: self.limits,
            console: Rc::clone(&self.lines) as Rc<dyn Console>,
            fetch: Rc::new(Mirror),
            ..ModuleOptions::new(artifact, |bytes| {
                bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
            })
        })
    }

    /// The script with this source.
    pub(crate) fn script(&self, source: &str) -> Module {
        self.module(artifact(source))
    }

    /// A script whose handler is this body of an async function; its value is answered as JSON.
    pub(crate) async fn evaluate(&self, body: &str) -> String {
        let source = format!(
            "export default async (request, env, ctx) => Response.json(await (async () => {{ {body} }})() ?? null)"
        );
        let answered = self.script(&source).call(get("/")).await;
        match answered {
            Ok(response) => text(response).await.unwrap(),
            Err(error) => format!("{error}"),
        }
    }
}

pub(crate) fn get(path: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        url: format!("http://localhost{path}"),
        headers: "host\0localhost\0x-two\0a\0x-two\0b".to_owned(),
        body: RequestBody::Empty,
        deadline: Some(Instant::now() + Duration::from_secs(10)),
        log_id: 7,
        call: alula_script::CallInfo::default(),
    }
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request {
    Request { method: "POST".to_owned(), body: RequestBody::Whole(body.into()), ..get(path) }
}

pub(crate) async fn bytes(response: Response) -> Result<Bytes, ScriptError> {
    match response.body {
        ResponseBody::Whole(bytes) => Ok(bytes),
        ResponseBody::Stream(mut stream) => {
            let mut all = Vec::new();
            while let Some(piece) = stream.next().await {
                all.extend_from_slice(&piece?);
            }
            Ok(all.into())
        }
    }
}

pub(crate) async fn text(response: Response) -> Result<String, ScriptError> {
    Ok(String::from_utf8(bytes(response).await?.to_vec()).unwrap())
}

/// Runs a test on one thread with a place for local tasks.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
