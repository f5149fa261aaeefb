//! Programs of the exec runtime on the bare launcher.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use alula_model::ErrorCode;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;

use super::*;
use crate::conformance::{self, Fixtures, Traits, call, pieces, plan};
use crate::process::testing::{Bench, fixture_plan, package};
use crate::{Backend, Body, BodyError, Instance, StopGrace};

fn fixture() -> Arc<VersionPlan> {
    fixture_plan("exec", "exec", |_| {})
}

async fn text(instance: &dyn Instance, target: &'static str, body: &'static str) -> String {
    let answer = instance.call(call(target, Body::full(body))).await.unwrap();
    String::from_utf8(answer.body.collect(1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn exec_conforms() {
    let bench = Bench::new();
    let fixtures = Fixtures {
        plan: fixture(),
        broken: None,
        never_ready: None,
        log: Arc::clone(&bench.log),
        has: Traits { processes: true, streams_both_ways: true, ..Traits::default() },
    };
    conformance::check(&bench.backend, &fixtures).await;
}

#[tokio::test]
async fn the_head_of_the_request_is_in_the_environment() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let mut asked = call("/cgi-env?a=1&b=%20", Body::full("12345"));
    let headers = [
        ("content-type", "text/plain"),
        ("host", "example.org:8080"),
        ("x-some-name", "one"),
        ("x_some_name", "underscore"),
        ("proxy", "http://attacker"),
        ("authorization", "Bearer t"),
    ];
    asked.headers.extend(
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    asked.headers.append("x-some-name", HeaderValue::from_static("two"));
    asked.remote = Some([203, 0, 113, 9].into());
    asked.parameters = vec![("user-id".to_owned(), "7".to_owned())];
    let answer = instance.call(asked).await.unwrap();
    let printed = String::from_utf8(answer.body.collect(1 << 20).await.unwrap().to_vec()).unwrap();
    let expected = "ALULA_PARAM_USER_ID=7\nCONTENT_LENGTH=5\nCONTENT_TYPE=text/plain\nGATEWAY_INTERFACE=CGI/1.1\n\
        HTTP_AUTHORIZATION=Bearer t\nHTTP_HOST=example.org:8080\nHTTP_X_SOME_NAME=one, two\nPATH_INFO=/cgi-env\n\
        QUERY_STRING=a=1&b=%20\nREMOTE_ADDR=203.0.113.9\nREQUEST_METHOD=POST\nREQUEST_URI=/cgi-env?a=1&b=%20\n\
        SERVER_NAME=example.org\nSERVER_PORT=8080\nSERVER_PROTOCOL=HTTP/1.1\nSERVER_SOFTWARE=alula\n";
    assert_eq!(printed, expected);
}

#[tokio::test]
async fn a_failure_before_the_output_is_a_fault_with_the_last_lines() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let fault = instance.call(call("/fail", Body::empty())).await.unwrap_err();
    assert_eq!(
        (fault.code, fault.message.as_str()),
        (ErrorCode::HandlerError, "the program failed with exit status 3")
    );
    assert_eq!(fault.log_tail, ["it failed"]);
    let fault = instance.call(call("/fail-after-a-little", Body::empty())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::HandlerError, "nothing had left the platform yet");
}

#[tokio::test]
async fn a_failure_after_the_output_began_breaks_the_answer_off() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let answer = instance.call(call("/fail-late", Body::empty())).await.unwrap();
    let error = answer.body.collect(1 << 20).await.unwrap_err();
    assert!(matches!(error, BodyError::Malformed { .. }), "{error:?}");
    bench.line("the program failed in the middle of its answer: exit status 3").await;
    assert_eq!(text(&*instance, "/echo", "next").await, "next");
}

#[tokio::test]
async fn a_program_that_does_not_read_its_input_is_answered_for() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let endless = pieces(Bytes::from(vec![0; 65536]), usize::MAX);
    let answer = instance.call(call("/deaf", endless)).await.unwrap();
    assert_eq!(answer.body.collect(100).await.unwrap(), "answered");
}

#[tokio::test]
async fn a_request_that_breaks_off_is_not_taken_for_a_whole_one() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let torn = || {
        let frames = [Ok(http_body::Frame::data(Bytes::from("half"))), Err(BodyError::Disconnected)];
        Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
    };
    let fault = instance.call(call("/close", torn())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::CallerGone);
    let answer = instance.call(call("/pace", torn())).await;
    // The answer may have begun before the request broke off; then it is the answer that breaks off.
    let code = match answer {
        Ok(answer) => answer.body.collect(100).await.map(|_| ()).map_err(|_| ErrorCode::CallerGone),
        Err(fault) => Err(fault.code),
    };
    assert_eq!(code, Err(ErrorCode::CallerGone));
}

#[tokio::test]
async fn nothing_that_a_call_started_outlives_it() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let pid = text(&*instance, "/background", "").await;
    assert_eq!(text(&*instance, "/echo", "after the sweep").await, "after the sweep");
    // A process that nobody waits for stays in the table as a zombie; it runs no code.
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.starts_with(" Z"))
    };
    let ended = async {
        while runs() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn the_memory_does_not_grow_with_the_body() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let piece = Bytes::from(vec![b'x'; 256 * 1024]);
    let total = 64 * 1024 * 1024_u64;
    let before = resident_bytes();
    let mut body =
        instance.call(call("/echo", pieces(piece, (total / (256 * 1024)) as usize))).await.unwrap().body;
    let (mut seen, mut peak) = (0, 0);
    while let Some(frame) = body.frame().await {
        seen += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
        peak = peak.max(resident_bytes());
    }
    assert_eq!(seen, total);
    assert!(peak - before < 24 * 1024 * 1024, "{} bytes more than before", peak - before);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn a_reader_that_waits_holds_the_program_back() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let mut late = call("/big?100000000", Body::empty());
    let deadline = Instant::now() + Duration::from_secs(2);
    late.deadline = deadline;
    let mut body = instance.call(late).await.unwrap().body;
    assert!(body.frame().await.unwrap().is_ok());
    tokio::time::sleep_until(deadline).await;
    let mut seen = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => seen += frame.into_data().map_or(0, |data| data.len()),
            Err(error) => break error,
        }
    };
    assert_eq!(error, BodyError::TimedOut);
    assert!(seen < 100_000_000, "it was not gathered somewhere");
}

#[tokio::test]
async fn a_header_block_is_taken_off_where_the_function_asks_for_it() {
    let bench = Bench::new();
    let instance = bench
        .start(&fixture_plan("exec", "exec", |spec| {
            drop(spec.env.insert("ALULA_OUTPUT".into(), "cgi".into()))
        }))
        .await;
    let block =
        "Status: 418 I'm a teapot\r\nContent-Type: text/html\nX-One: 1\nContent-Length: 999\n\n<p>body";
    let answer = instance.call(call("/raw", Body::full(block))).await.unwrap();
    assert_eq!(answer.status.as_u16(), 418);
    assert_eq!(answer.headers["content-type"], "text/html");
    assert_eq!(answer.headers["x-one"], "1");
    assert!(!answer.headers.contains_key("content-length"), "a made up length is not believed");
    assert_eq!(answer.body.collect(100).await.unwrap(), "<p>body");
    for bad in ["", "no header at all\n\n", "Status: abc\n\n", "Bad Name: 1\n\n", "X: 1"] {
        let fault = instance.call(call("/raw", Body::full(bad))).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::BadResponse, "{bad:?}");
    }
    let endless = pieces(Bytes::from("X: 1\n"), usize::MAX);
    let fault = instance.call(call("/raw", endless)).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::BadResponse, "a head without an end");
}

#[tokio::test]
async fn stopping_waits_for_the_call_that_runs() {
    let bench = Bench::new();
    let instance = bench.start(&fixture()).await;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let open = futures_util::stream::once(async move {
        let _ = ended.await;
        Ok(http_body::Frame::data(Bytes::from("x")))
    });
    let answer = instance.call(call("/pace", Body::stream(StreamBody::new(open)))).await.unwrap();
    let read = async {
        end.send(()).unwrap();
        answer.body.collect(100).await
    };
    let (read, ()) = tokio::join!(read, instance.stop(StopGrace(Duration::from_secs(10))));
    assert_eq!(read.unwrap(), "readydone");
}

#[tokio::test]
async fn programs_are_found() {
    let bench = Bench::new();
    let check = |files: &[(&str, &str)], command: &[&str]| {
        let folder = package(files);
        let command: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        let made = plan("exec", |spec| spec.command = command);
        let made = VersionPlan { code: folder.path().to_owned(), ..(*made).clone() };
        bench.backend.validate(&made).map_err(|error| error.field)
    };
    assert_eq!(check(&[("main.sh", "echo hi")], &[]), Ok(()));
    assert_eq!(check(&[("tool", "#!/bin/sh\necho hi")], &[]), Ok(()), "a script without its executable bit");
    assert_eq!(check(&[("tool", "#!/bin/sh"), ("data", "")], &["./tool"]), Ok(()));
    assert_eq!(check(&[("a.py", "")], &["python3", "a.py"]), Ok(()));
    assert_eq!(check(&[("data", "\x7fELF")], &[]), Err("command"), "neither executable nor a script");
    assert_eq!(check(&[("a", "#!/bin/sh"), ("b", "#!/bin/sh")], &[]), Err("command"), "which of the two");
    assert_eq!(check(&[], &[]), Err("command"));
    assert_eq!(check(&[], &["no-such-program"]), Err("command"));
    assert_eq!(check(&[], &["/no/such/program"]), Err("command"));
    assert_eq!(check(&[], &["../../bin/sh"]), Err("command"));
    assert_eq!(check(&[], &[""]), Err("command"));
}

#[tokio::test]
async fn what_only_the_platform_sets_is_refused() {
    let bench = Bench::new();
    let check = |name: &str, value: &str| {
        let made =
            fixture_plan("exec", "exec", |spec| drop(spec.env.insert(name.to_owned(), value.to_owned())));
        bench.backend.validate(&made).map_err(|error| error.field)
    };
    assert_eq!(check("MINE", "1"), Ok(()));
    assert_eq!(check("PATH", "/code/bin:/usr/bin"), Ok(()));
    assert_eq!(check("ALULA_OUTPUT", "cgi"), Ok(()));
    assert_eq!(check("ALULA_OUTPUT", "xml"), Err("env"));
    assert_eq!(check("ALULA_VERSION", "9"), Err("env"));
    assert_eq!(check("PORT", "9"), Err("env"));
    assert_eq!(check("_HANDLER", "x"), Err("env"));
    let many = fixture_plan("exec", "exec", |spec| spec.concurrency = 2);
    assert_eq!(bench.backend.validate(&many).map_err(|error| error.field), Err("concurrency"));
}

#[tokio::test]
async fn what_a_build_of_any_language_installed_is_found() {
    use std::os::unix::fs::PermissionsExt;
    let folder = package(&[]);
    for (place, text) in
        [(".packages/bin", "printf 'python %s' \"$PYTHONPATH\""), ("node_modules/.bin", "printf node")]
    {
        let place = folder.path().join(place);
        std::fs::create_dir_all(&place).unwrap();
        let program = place.join(if text.contains("node") { "from-npm" } else { "from-pip" });
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let bench = Bench::new();
    for (program, expected) in [("from-pip", "python "), ("from-npm", "node")] {
        let made = plan("exec", |spec| spec.command = vec![program.to_owned()]);
        let made = Arc::new(VersionPlan { code: folder.path().to_owned(), ..(*made).clone() });
        let instance = bench.start(&made).await;
        let said = text(&*instance, "/", "").await;
        assert!(said.starts_with(expected), "{said}");
        assert!(program != "from-pip" || said.ends_with("/.packages"), "{said}");
    }
    let by_path = plan("exec", |spec| {
        spec.command = vec!["/bin/sh".to_owned(), "-c".to_owned(), "echo $PATH".to_owned()];
    });
    let by_path = Arc::new(VersionPlan { code: folder.path().to_owned(), ..(*by_path).clone() });
    let path = text(&*bench.start(&by_path).await, "/", "").await;
    assert!(path.contains("node_modules/.bin:") && path.contains(".packages/bin:"), "{path}");
}
