//! Calls and their answers.

use alula_script::{Level, RequestBody, ResponseBody, ScriptError};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::world::{bytes, get, post, run, text, try_files, world};

#[test]
fn every_form_of_a_handler_is_called() {
    run(async {
        for source in [
            "export default { fetch(request) { return new Response('ok') } }",
            "export default { async fetch(request) { return new Response('ok') } }",
            "export function fetch(request) { return new Response('ok') }",
            "export default () => new Response('ok')",
            "const app = { fetch: async () => new Response('ok') }; export { app as default }",
            "class App { #text = 'ok'; fetch() { return new Response(this.#text) } }\nexport default new App()",
        ] {
            let response = world().script(source).call(get("/")).await.unwrap();
            assert_eq!(
                (response.status, &*response.headers),
                (200, "content-type\0text/plain;charset=UTF-8")
            );
            assert_eq!(text(response).await.unwrap(), "ok", "{source}");
        }
    });
}

#[test]
fn a_request_reaches_the_handler_whole() {
    run(async {
        let source = "export default { async fetch(request, env) {
            const { method, url, headers } = request;
            return Response.json({ method, url, two: headers.get('X-Two'), body: await request.text(), env });
        } }";
        let response = world().script(source).call(post("/a?b=c", "päck")).await.unwrap();
        assert_eq!(
            text(response).await.unwrap(),
            r#"{"method":"POST","url":"http://localhost/a?b=c","two":"a, b","body":"päck","env":{"GREETING":"hello"}}"#
        );
    });
}

#[test]
fn bodies_of_bytes_are_not_changed() {
    run(async {
        let module = world().script("export default async (r) => new Response(await r.arrayBuffer())");
        let all: Vec<u8> = (0..=255).collect();
        let back = module.call(post("/", all.clone())).await.unwrap();
        assert_eq!(bytes(back).await.unwrap(), all);
        let large = Bytes::from(vec![b'x'; 3_000_000]);
        let back = module.call(post("/", large.clone())).await.unwrap();
        assert_eq!(bytes(back).await.unwrap(), large);
    });
}

#[test]
fn state_stays_between_calls_of_one_version_and_is_apart_from_another() {
    run(async {
        let world = world();
        let source = "let n = 0; globalThis.shared = (globalThis.shared ?? 0) + 1;
            export default () => new Response(`${++n} ${shared}`)";
        let (one, other) = (world.script(source), world.script(source));
        for expected in ["1 1", "2 1"] {
            assert_eq!(text(one.call(get("/")).await.unwrap()).await.unwrap(), expected);
        }
        assert_eq!(text(other.call(get("/")).await.unwrap()).await.unwrap(), "1 1");
        assert!(one.unload() && !one.is_loaded());
        assert_eq!(
            text(one.call(get("/")).await.unwrap()).await.unwrap(),
            "1 1",
            "a new context knows nothing"
        );
    });
}

#[test]
fn what_is_thrown_names_the_line_of_the_source() {
    run(async {
        let source = "interface Wide {\n  a: string;\n  b: number;\n}\n\nfunction fail(wide: Wide): never {\n  throw new RangeError(wide.a);\n}\nexport default () => fail({ a: 'too far', b: 1 })";
        for script in
            [source.to_owned(), source.replace("export default () =>", "export default async () =>")]
        {
            let error = world().script(&script).call(get("/")).await.unwrap_err();
            let ScriptError::Threw { name, message, stack } = error else { panic!("{error:?}") };
            assert_eq!((&*name, &*message), ("RangeError", "too far"));
            assert!(stack.starts_with("    at fail (main.ts:7)"), "{stack}");
            assert!(!stack.contains("prelude"), "{stack}");
        }
    });
}

#[test]
fn anything_that_is_thrown_is_reported() {
    run(async {
        for (thrown, expected) in [
            ("'text'", "string: text"),
            ("undefined", "undefined: undefined"),
            ("{ a: 1 }", "object: { a: 1 }"),
        ] {
            let source = format!("export default () => {{ throw {thrown} }}");
            let error = world().script(&source).call(get("/")).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    });
}

#[test]
fn what_is_no_response_is_refused() {
    run(async {
        for value in
            ["undefined", "null", "'text'", "{ status: 200 }", "Response.error()", "Promise.resolve(3)"]
        {
            let source = format!("export default () => ({value})");
            let error = world().script(&source).call(get("/")).await.unwrap_err();
            assert!(matches!(error, ScriptError::BadResponse { .. }), "{value}: {error:?}");
        }
        let used = "export default async () => { const r = new Response('x'); await r.text(); return r }";
        let error = world().script(used).call(get("/")).await.unwrap_err();
        assert!(matches!(error, ScriptError::BadResponse { .. }), "{error:?}");
    });
}

#[test]
fn a_script_that_does_not_load_says_why() {
    run(async {
        let cases = [
            (
                "export default 1",
                "TypeError: the module exports no handler(event, context) and no fetch handler",
            ),
            ("throw new Error('cannot start')", "Error: cannot start"),
            ("await Promise.reject(new Error('later'))", "Error: later"),
            ("await import(`./${'x'}`)", "ReferenceError"),
        ];
        for (source, expected) in cases {
            let source = format!("{source}; export const other = 1, handler = 2");
            let error = world().script(&source).call(get("/")).await.unwrap_err();
            assert!(error.to_string().starts_with(expected), "{source}: {error}");
        }
    });
}

#[test]
fn the_top_level_may_wait() {
    run(async {
        let source = "const answer = await fetch('http://service/a');
            const text = await answer.text();
            export default () => new Response(text)";
        let response = world().script(source).call(get("/")).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "GET http://service/a |");
    });
}

#[test]
fn responses_stream_at_the_pace_of_the_reader() {
    run(async {
        let world = world();
        let source = "export default () => new Response((async function* () {
            try { for (let i = 0; i < 100; i++) { console.log(`made ${i}`); yield new Uint8Array(64 * 1024) } }
            finally { console.log('closed') }
        })())";
        let module = world.script(source);
        let made = || world.lines.0.borrow().iter().filter(|(_, _, text)| text.starts_with("made")).count();
        let response = module.call(get("/")).await.unwrap();
        let ResponseBody::Stream(mut stream) = response.body else { panic!("a stream") };
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 64 * 1024);
        assert!(made() < 10, "{} pieces were made for one that was read", made());
        drop(stream);
        tokio::task::yield_now().await;
        assert!(world.lines.0.borrow().iter().any(|(_, _, text)| text == "closed"), "the generator is told");
        let whole = bytes(module.call(get("/")).await.unwrap()).await.unwrap();
        assert_eq!(whole.len(), 100 * 64 * 1024);
    });
}

#[test]
fn a_stream_that_fails_breaks_off() {
    run(async {
        let source = "export default () => new Response(new ReadableStream({
            pull(c) { c.enqueue('some'); c.error(new Error('no more')) } }))";
        let world = world();
        let error = text(world.script(source).call(get("/")).await.unwrap()).await.unwrap_err();
        assert!(matches!(error, ScriptError::BadResponse { .. }), "{error:?}");
        let told = &world.lines.0.borrow()[0];
        assert!(told.1 == Level::Error && told.2.contains("no more"), "{told:?}");
    });
}

#[test]
fn requests_stream_as_they_are_read() {
    run(async {
        let module = world().script(
            "export default (request) => new Response((async function* () {
                yield 'ready ';
                for await (const piece of request.body) yield piece;
                yield ' done';
            })())",
        );
        let (sender, receiver) = futures_util_channel();
        let request = alula_script::Request {
            method: "POST".to_owned(),
            body: RequestBody::Stream(receiver.boxed_local()),
            ..get("/")
        };
        let response = module.call(request).await.unwrap();
        let ResponseBody::Stream(mut stream) = response.body else { panic!("a stream") };
        assert_eq!(stream.next().await.unwrap().unwrap(), "ready ");
        sender.send(Ok(Bytes::from("one"))).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "one");
        drop(sender);
        assert_eq!(stream.next().await.unwrap().unwrap(), " done");
        assert!(stream.next().await.is_none());
    });
}

type Piece = Result<Bytes, String>;

fn futures_util_channel()
-> (tokio::sync::mpsc::Sender<Piece>, impl futures_util::Stream<Item = Piece> + 'static) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (sender, stream)
}

#[test]
fn messages_are_given_to_the_call_that_wrote_them() {
    run(async {
        let world = world();
        let module = world.script("export default () => { console.warn('%s is %d', 'x', 1, { a: [1, 'b'] }); return new Response() }");
        module.call(get("/")).await.unwrap();
        assert_eq!(
            *world.lines.0.borrow(),
            [(Some(7), Level::Warn, "x is 1 { a: [ 1, \"b\" ] }".to_owned())]
        );
    });
}

#[test]
fn a_script_is_made_of_several_files() {
    run(async {
        let artifact = try_files(&[
            (
                "main.ts",
                "import { a } from './lib/a';\nimport type { T } from './types';\nimport data from './data.json';\nexport default async (): Promise<Response> => new Response(a() + data.n + (await import('./lazy.js')).late as T)",
            ),
            (
                "lib/a.ts",
                "import { b } from '../b.js';\nexport enum Kind { One = 1 }\nexport const a = () => `a${b}${Kind.One}`",
            ),
            ("b.js", "export const b = 'b'"),
            ("data.json", r#"{ "n": 5 }"#),
            ("lazy.js", "export const late = 'z'"),
        ]);
        let response = world().module(artifact.unwrap()).call(get("/")).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ab15z");
    });
}
