//! A script over its limits ends alone.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use alula_script::{Engine, EngineOptions, Meter, ModuleOptions, ScriptError};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::world::{artifact, get, run, text, world};

const ECHO: &str = "export default () => new Response('fine')";

#[test]
fn each_way_to_break_a_limit_ends_the_context_and_no_other() {
    run(async {
        let hostile = [
            ("for (;;) {}", "computed for more than"),
            ("await null; for (;;) {}", "computed for more than"),
            (
                "const spin = () => Promise.resolve().then(spin); spin(); await new Promise(() => {})",
                "computed for more than",
            ),
            ("const all = []; for (;;) all.push(new Array(1000).fill(1))", "bytes of memory"),
            (
                "await null; let s = 'x'; for (;;) s += s + all(); function all() { return new Uint8Array(1e7) }",
                "bytes of memory",
            ),
            ("const all = []; for (;;) all.push(new Uint8Array(1e6))", "bytes of memory"),
        ];
        let mut world = world();
        let neighbour = world.script(ECHO);
        for (body, expected) in hostile {
            // Each breaks one limit long before the other.
            let is_long = expected == "bytes of memory";
            world.limits.turn = Duration::from_millis(if is_long { 20_000 } else { 100 });
            world.limits.memory_bytes = if is_long { 8 << 20 } else { 1 << 30 };
            let source = format!(
                "let n = 0; export default async (r) => {{ n++; if (r.url.endsWith('/ok')) return new Response(`${{n}}`); {body} }}"
            );
            let module = world.script(&source);
            let error = module.call(get("/bad")).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{body}: {error}");
            assert_eq!(
                text(module.call(get("/ok")).await.unwrap()).await.unwrap(),
                "1",
                "a new context: {body}"
            );
            assert_eq!(text(neighbour.call(get("/")).await.unwrap()).await.unwrap(), "fine");
        }
    });
}

#[test]
fn recursion_is_an_error_of_the_call() {
    run(async {
        let world = world();
        for body in
            ["const f = () => f() + 1; f()", "JSON.parse('['.repeat(1e5))", "/(a*)*b/.test('a'.repeat(28))"]
        {
            let source = format!("export default () => {{ {body}; return new Response('x') }}");
            let answered = world.script(&source).call(get("/")).await;
            assert!(answered.is_err(), "{body}");
        }
        assert!(world.script(ECHO).call(get("/")).await.is_ok());
    });
}

#[test]
fn a_call_has_a_deadline_whether_it_computes_or_waits() {
    run(async {
        let world = world();
        for body in ["for (;;) {}", "await new Promise(() => {})", "await fetch('http://x/hang')"] {
            let module = world.script(&format!("export default async () => {{ {body} }}"));
            let mut request = get("/");
            request.deadline = Some(Instant::now() + Duration::from_millis(50));
            assert_eq!(module.call(request).await.unwrap_err(), ScriptError::TimedOut, "{body}");
        }
    });
}

#[test]
fn a_cancelled_call_is_told() {
    run(async {
        let world = world();
        let module = world.script(
            "export default async (request) => {
                request.signal.addEventListener('abort', () => console.log(request.signal.reason.name));
                await new Promise(() => {});
            }",
        );
        let mut call = Box::pin(module.call(get("/")));
        assert!((&mut call).now_or_never().is_none());
        drop(call);
        assert_eq!(world.lines.0.borrow()[0].2, "AbortError");
        assert!(module.unload(), "no call is left in it");
    });
}

#[test]
fn calls_beside_one_that_breaks_a_limit_end_with_it() {
    run(async {
        let world = world();
        let module = world.script("export default async (r) => { if (r.url.endsWith('/bad')) for (;;) {} await new Promise(() => {}) }");
        let mut waiting = Box::pin(module.call(get("/wait")));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(matches!(module.call(get("/bad")).await, Err(ScriptError::TurnTooLong { .. })));
        assert_eq!(waiting.await.unwrap_err(), ScriptError::Ended);
    });
}

#[test]
fn idle_contexts_give_way_when_memory_is_short() {
    run(async {
        let mut world = world();
        world.engine = Engine::new(EngineOptions { memory_bytes_max: 1024 * 1024 });
        let modules: Vec<_> = (0..20).map(|_| world.script(ECHO)).collect();
        for module in &modules {
            module.call(get("/")).await.unwrap();
        }
        assert!(world.engine.memory_bytes() <= 1024 * 1024, "{}", world.engine.memory_bytes());
        assert!(modules[19].is_loaded() && !modules[0].is_loaded(), "those called last stay");
        assert!(modules[0].call(get("/")).await.is_ok(), "and the others come back");
    });
}

#[test]
fn there_is_no_eval() {
    run(async {
        let world = world();
        for body in [
            "return eval('1 + 1')",
            "return new Function('return 1')()",
            "return (async () => {}).constructor('return 1')()",
        ] {
            let answered = world.evaluate(body).await;
            assert!(answered.contains("Error"), "{body}: {answered}");
        }
    });
}

#[test]
fn what_nobody_catches_is_logged_and_what_is_caught_later_in_the_turn_is_not() {
    run(async {
        let world = world();
        let module = world.script(
            "export default async (request) => {
                Promise.reject(new TypeError('lost'));
                const late = Promise.reject(new Error('caught'));
                setTimeout(async () => { throw 'in a timer' }, 0);
                await null;
                late.catch(() => {});
                await new Promise((done) => setTimeout(done, 5));
                return new Response('fine');
            }",
        );
        assert_eq!(text(module.call(get("/")).await.unwrap()).await.unwrap(), "fine");
        let lines = world.lines.0.borrow();
        let said: Vec<&str> = lines.iter().map(|(_, _, line)| line.lines().next().unwrap()).collect();
        assert_eq!(said, ["uncaught in a promise: TypeError: lost", "uncaught in a promise: in a timer"]);
        assert_eq!(lines[0].0, Some(7), "it is known whose it is");
    });
}

#[test]
fn errors_that_throw_when_they_are_looked_at_end_no_context() {
    run(async {
        let world = world();
        let module = world.script(
            "let n = 0;
            class Mean extends Error { get message() { throw new Mean() } }
            export default (request) => {
                n++;
                if (request.url.endsWith('/error')) throw new Mean();
                if (request.url.endsWith('/object')) throw { get a() { throw 1 }, toString() { throw 2 } };
                console.log({ get a() { throw 3 } });
                return new Response(`${n}`);
            }",
        );
        for path in ["/error", "/object"] {
            assert!(matches!(module.call(get(path)).await, Err(ScriptError::Threw { .. })), "{path}");
        }
        assert_eq!(text(module.call(get("/")).await.unwrap()).await.unwrap(), "3", "the same context");
    });
}

#[test]
fn rejections_without_end_are_logged_within_bounds() {
    run(async {
        let world = world();
        let module = world.script(
            "export default () => {
                for (let n = 0; n < 100_000; n++) Promise.reject({ get message() { throw Promise.reject(n) } });
                return new Response('fine');
            }",
        );
        assert_eq!(text(module.call(get("/")).await.unwrap()).await.unwrap(), "fine");
        assert!(world.lines.0.borrow().len() < 50, "{}", world.lines.0.borrow().len());
        assert!(module.call(get("/")).await.is_ok(), "the context lives on");
    });
}

#[test]
fn the_meter_sees_every_turn_and_its_end() {
    #[derive(Debug, Default)]
    struct Turns(Cell<u32>, Cell<i32>);
    impl Meter for Turns {
        fn begins(&self) {
            self.0.set(self.0.get() + 1);
            self.1.set(self.1.get() + 1);
        }
        fn ends(&self) {
            self.1.set(self.1.get() - 1);
        }
    }
    run(async {
        let world = world();
        let turns = Rc::new(Turns::default());
        let meter = Rc::clone(&turns) as Rc<dyn Meter>;
        let source = artifact(
            "export default async (r) => { if (r.url.endsWith('/loop')) for (;;); await new Promise((d) => setTimeout(d, 1)); return new Response('x') }",
        );
        let limits = world.limits;
        let module =
            world.engine.module(ModuleOptions { meter, limits, ..ModuleOptions::new(source, |_| {}) });
        module.call(get("/")).await.unwrap();
        let seen = turns.0.get();
        assert!(seen >= 4, "the prelude, the top level, the call and the timer: {seen}");
        assert!(module.call(get("/loop")).await.is_err());
        assert_eq!((turns.0.get(), turns.1.get()), (seen + 1, 0));
    });
}
