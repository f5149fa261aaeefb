//! A process on the other end that does not keep to the protocol.

use std::time::Duration;

use alula_model::ErrorCode;

use super::*;

/// A language whose shim is `code`, written in Python: it has `take()` for the next frame and `put(...)`.
pub(super) fn language(code: &str) -> (tempfile::TempDir, Bench) {
    let extra = tempfile::tempdir().unwrap();
    let folder = extra.path().join("hostile");
    std::fs::create_dir(&folder).unwrap();
    let manifest = r#"
        id = "hostile"
        description = "breaks the protocol"
        protocol = "frames"
        shim = "shim.py"
        command = ["/usr/bin/python3", "-I", "-S", "-B", "{shim}"]
        extensions = ["py"]
        arena = true
        default_handler = "{file}"
        entry_files = ["main.py"]
        runtime = { name = "hostile" }
    "#;
    let prelude = r"
import os, struct, time
def exactly(n):
    data = b''
    while len(data) < n: data += os.read(3, n - len(data)) or os._exit(0)
    return data
def take():
    size, kind, flags, aux, call, meta = struct.unpack('<IBBHII', exactly(16))
    return kind, call, exactly(size)
def put(kind, call=0, aux=0, flags=0, meta=b'', body=b''):
    os.write(3, struct.pack('<IBBHII', len(meta) + len(body), kind, flags, aux, call, len(meta)) + meta + body)
def ready(mode=b'whole'):
    take()
    put(0x81, aux=1, meta=b'request\0' + mode + b'\0response\0' + mode)
";
    std::fs::write(folder.join("manifest.toml"), manifest).unwrap();
    std::fs::write(folder.join("shim.py"), format!("{prelude}{code}")).unwrap();
    let bench = Bench::with_languages(&[extra.path().to_owned()]);
    (extra, bench)
}

pub(super) async fn start(bench: &Bench) -> Result<Arc<dyn Instance>, alula_model::Fault> {
    let (_folder, plan) = package("hostile", None, &[("main.py", "")]);
    bench.backend.start(plan, InstanceId::new("i")).await.map(|started| started.instance)
}

#[tokio::test]
async fn garbage_instead_of_ready_fails_the_start() {
    for code in [
        "os.write(3, b'HTTP/1.1 200 OK\\r\\n\\r\\n' * 10)\ntime.sleep(60)",
        "put(0x81, aux=2)\ntime.sleep(60)",
        "put(0x82, call=1, aux=200)\ntime.sleep(60)",
        "os.close(3)\ntime.sleep(60)",
        "os._exit(5)",
    ] {
        let (_extra, bench) = language(code);
        let fault = start(&bench).await.map(|_| ()).unwrap_err();
        assert_eq!(fault.code, ErrorCode::InitFailed, "{code}: {fault}");
    }
}

#[tokio::test]
async fn a_broken_protocol_ends_the_call_and_the_instance() {
    for (code, expected) in [
        ("os.write(3, os.urandom(70000))", ErrorCode::BadResponse),
        ("os.write(3, b'\\0' * 4096)", ErrorCode::BadResponse),
        ("put(0x82, call=99, aux=200)", ErrorCode::BadResponse),
        ("put(0x03, call=1, body=b'early')", ErrorCode::BadResponse),
        ("put(0x02, call=1)", ErrorCode::BadResponse),
        ("put(0x81, aux=1)", ErrorCode::BadResponse),
        ("put(0x04, call=1)", ErrorCode::BadResponse),
        ("os.write(3, struct.pack('<IBBHII', 2**32 - 1, 0x82, 0, 200, 1, 0))", ErrorCode::BadResponse),
        (
            "os.write(3, struct.pack('<IBBHII', 100, 0x82, 0, 200, 1, 0) + b'half'); os._exit(0)",
            ErrorCode::FunctionCrashed,
        ),
        ("os.close(3)", ErrorCode::FunctionCrashed),
    ] {
        let (_extra, bench) = language(&format!("ready()\ntake()\n{code}\ntime.sleep(60)"));
        let instance = start(&bench).await.unwrap();
        let fault = instance.call(call("/", Body::empty())).await.map(|answer| answer.status).unwrap_err();
        assert_eq!(fault.code, expected, "{code}: {fault}");
        assert!(instance.is_gone(), "{code}");
        tokio::time::timeout(Duration::from_secs(30), instance.gone()).await.expect("it is killed");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_leaves_the_instance() {
    for code in [
        "put(0x82, call=1, aux=99)",
        "put(0x82, call=1, aux=101)",
        "put(0x82, call=1, aux=200, meta=b'a')",
        "put(0x82, call=1, aux=200, meta=b'a b\\0c')",
        "put(0x82, call=1, aux=200, meta=b'a\\0b\\r\\nc')",
        "put(0x84, call=1, aux=1, body=b'not json')",
    ] {
        let (_extra, bench) =
            language(&format!("ready()\ntake()\n{code}\ntake()\nput(0x82, call=2, aux=200)\ntime.sleep(60)"));
        let instance = start(&bench).await.unwrap();
        let fault = instance.call(call("/", Body::empty())).await.map(|answer| answer.status).unwrap_err();
        assert_eq!(fault.code, ErrorCode::BadResponse, "{code}: {fault}");
        assert_eq!(instance.call(call("/", Body::empty())).await.unwrap().status.as_u16(), 200, "{code}");
    }
}

#[tokio::test]
async fn a_guest_cannot_send_more_than_a_window_nor_grant_more() {
    for (what, code) in [
        (
            "more body than credit",
            "put(0x82, call=1, aux=200, flags=1)\nfor _ in range(40): put(3, call=1, body=b'x' * 65536)",
        ),
        ("credit from nothing", "put(4, call=1, body=b'\\xff\\xff\\xff\\x7f')"),
    ] {
        let (_extra, bench) = language(&format!("ready(b'stream')\ntake()\n{code}\ntime.sleep(60)"));
        let instance = start(&bench).await.unwrap();
        let open = http_body_util::StreamBody::new(futures_util::stream::pending());
        let answer = instance.call(call("/", Body::stream(open))).await;
        match answer {
            // Nothing of the answer is read until it has been broken off.
            Ok(answer) => {
                instance.gone().await;
                assert!(answer.body.collect(64 * MIB).await.is_err(), "{what}");
            }
            Err(fault) => assert_eq!(fault.code, ErrorCode::BadResponse, "{what}"),
        }
        assert!(instance.is_gone(), "{what}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_its_limit() {
    let code = "ready()\ntake()\nput(0x83, call=1, flags=1)\nwhile True: put(3, call=1, body=b'x' * 65536)";
    let (_extra, bench) = language(code);
    let instance = start(&bench).await.unwrap();
    let fault = instance.call(call("/", Body::empty())).await.map(|answer| answer.status).unwrap_err();
    assert_eq!(fault.code, ErrorCode::ResponseTooLarge);
    tokio::time::timeout(Duration::from_secs(30), instance.gone()).await.expect("it does not stop by itself");
}

#[tokio::test]
async fn a_guest_that_does_not_read_cannot_fill_the_platform() {
    let (_extra, bench) = language("ready(b'stream')\ntime.sleep(60)");
    let instance = start(&bench).await.unwrap();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = futures_util::stream::repeat_with(move || {
        counted.fetch_add(65_536, std::sync::atomic::Ordering::Relaxed);
        Ok(http_body::Frame::data(Bytes::from(vec![0; 65_536])))
    });
    let mut late = call("/", Body::stream(http_body_util::StreamBody::new(endless)));
    late.deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    assert_eq!(instance.call(late).await.unwrap_err().code, ErrorCode::FunctionTimeout);
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) <= 5 * 65_536, "{sent:?}");
}

/// Functions that throw, with half of a surrogate pair in what they throw, and again with a long text that is cut
/// in the middle of a pair.
#[tokio::test]
async fn an_error_with_half_a_character_is_still_the_handlers_error() {
    let python = "def handler(event, context):\n    raise ValueError('b\\udc80d')\n";
    let node =
        "exports.handler = async () => { throw new Error('b\\udc80d ' + 'x' + '\u{1f4a5}'.repeat(9000)); };";
    for (runtime, file, source) in [("python3", "main.py", python), ("node", "index.js", node)] {
        let bench = Bench::new();
        let (_folder, plan) = package(runtime, None, &[(file, source)]);
        let instance = bench.start(&plan).await;
        let fault = fault(&*instance, "/", ErrorCode::HandlerError).await;
        assert!(fault.message.contains("Error: b"), "{runtime}: {fault}");
        let payload: Value = serde_json::from_str(&fault.payload.unwrap()).unwrap();
        assert!(payload["errorMessage"].as_str().unwrap().starts_with('b'), "{runtime}: {payload}");
    }
}

#[tokio::test]
async fn what_json_cannot_hold_is_no_answer() {
    let bench = Bench::new();
    let source = "def handler(event, context):\n    return {'nan': float('nan'), 'half': '\\udc80'}[context and event['rawPath'][1:]]\n";
    let (_folder, plan) = package("python3", None, &[("main.py", source)]);
    let instance = bench.start(&plan).await;
    let refused = fault(&*instance, "/nan", ErrorCode::BadResponse).await;
    assert!(refused.message.contains("JSON"), "{refused}");
    let half = instance.call(call("/half", Body::empty())).await.unwrap();
    assert_eq!(text(half).await, r#""\udc80""#, "half a character is escaped");
}

#[tokio::test]
async fn a_fault_holds_no_lines_of_another_call() {
    let source = "
import os
def handler(event, context):
    print('line of', event['rawPath'])
    if event['rawPath'] == '/crash': os._exit(3)
    raise ValueError(event['rawPath'])
";
    let bench = Bench::new();
    let (_folder, plan) = package("python3", None, &[("main.py", source)]);
    let instance = bench.start(&plan).await;
    let first = fault(&*instance, "/first", ErrorCode::HandlerError).await;
    assert!(first.log_tail.contains(&"line of /first".to_owned()), "{:?}", first.log_tail);
    let second = fault(&*instance, "/crash", ErrorCode::FunctionCrashed).await;
    assert_eq!(second.log_tail, ["line of /crash"]);
}

/// What is written is far over the budget of log lines, so the writer is held back; without that a function that
/// logs in a loop keeps a thread of the platform busy.
#[tokio::test]
async fn a_flood_of_lines_slows_down_who_writes_it_and_is_told() {
    let source = "
def handler(event, context):
    for _ in range(24): print(('x' * 1000 + '\\n') * 1000, end='')
    print('the last line')
    raise ValueError('after the flood')
";
    let bench = Bench::new();
    let (_folder, plan) = package("python3", None, &[("main.py", source)]);
    let instance = bench.start(&plan).await;
    let began = tokio::time::Instant::now();
    let failed = fault(&*instance, "/", ErrorCode::HandlerError).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(800), "24 MB of log lines took {took:?}");
    assert!(failed.log_tail.contains(&"the last line".to_owned()), "{:?}", failed.log_tail);
    assert!(instance.call(call("/", Body::empty())).await.is_err());
    let stop = instance.stop(crate::StopGrace(Duration::from_secs(1)));
    stop.await;
    bench.line("log lines").await;
}
