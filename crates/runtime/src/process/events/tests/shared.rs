//! Long bodies through shared memory: what goes in comes out, and a guest that lies about it hurts only itself.

use super::*;

const LONG: usize = 5_000_000;

fn echo(runtime: &str) -> (tempfile::TempDir, Arc<VersionPlan>) {
    match runtime {
        "node" => package(
            "node",
            None,
            &[("index.js", "exports.handler = (event) => ({ statusCode: 200, body: event.body ?? event });")],
        ),
        _ => package(
            "python",
            None,
            &[(
                "main.py",
                "def handler(event, _):\n return {'statusCode': 200, 'body': event.get('body', event)}\n",
            )],
        ),
    }
}

fn text_call(body: Bytes) -> crate::Call {
    let mut call = call("/echo", Body::full(body));
    call.headers
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    call
}

/// Text of `length` bytes in which no part is like another.
fn long_text(length: usize) -> Bytes {
    let numbers: String = (0..).map(|number: u32| number.to_string()).take(length / 5).collect();
    let mut bytes = numbers.into_bytes();
    bytes.resize(length, b'.');
    bytes.into()
}

#[tokio::test]
async fn long_bodies_go_through_shared_memory_and_back() {
    for runtime in ["python", "node"] {
        let (bench, (_code, plan)) = (Bench::new(), echo(runtime));
        let instance = bench.start(&plan).await;
        for length in [65_536, 65_537, 100_000, LONG, 6 * 1024 * 1024, 70_000, 10] {
            let body = long_text(length);
            let answer = instance.call(text_call(body.clone())).await.unwrap();
            let back = answer.body.collect(64 * MIB).await.unwrap();
            assert!(back == body, "{runtime}: {length} bytes");
        }
        let held = bench.backend.buffers.used_bytes();
        assert_eq!(held, 6 * MIB, "{runtime}: the memory is there for the next call");
        instance.rest();
        let given_back = async {
            while bench.backend.buffers.used_bytes() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let soon = tokio::time::timeout(std::time::Duration::from_secs(10), given_back).await;
        assert!(soon.is_ok(), "{runtime}: an instance at rest holds none");
        let again = instance.call(text_call(long_text(LONG))).await.unwrap();
        assert!(again.body.collect(64 * MIB).await.unwrap() == long_text(LONG), "{runtime}: after a rest");
    }
}

#[tokio::test]
async fn long_events_and_bodies_that_are_no_text_arrive_whole() {
    for runtime in ["python", "node"] {
        let (bench, (_code, plan)) = (Bench::new(), echo(runtime));
        let instance = bench.start(&plan).await;
        let text = String::from_utf8(long_text(200_000).to_vec()).unwrap();
        let event = serde_json::json!({ "text": text, "umlaut": "ä€😀" });
        let mut event_call = call("/", Body::full(serde_json::to_vec(&event).unwrap()));
        event_call.is_event = true;
        let value = json(instance.call(event_call).await.unwrap()).await;
        assert!(value["body"] == event, "{runtime}");
        let binary = Bytes::from(vec![0xff_u8; 300_000]);
        let answer = instance.call(text_call(binary.clone())).await.unwrap();
        assert_eq!(answer.body.collect(64 * MIB).await.unwrap().len(), 400_000, "{runtime}: in base64");
    }
}

#[tokio::test]
async fn without_room_in_shared_memory_long_bodies_take_the_socket() {
    for runtime in ["python", "node"] {
        let mut bench = Bench::new();
        bench.backend.socket_body_bytes_max = u64::MAX;
        let (_code, plan) = echo(runtime);
        let instance = bench.start(&plan).await;
        let body = long_text(LONG);
        let answer = instance.call(text_call(body.clone())).await.unwrap();
        assert!(answer.body.collect(64 * MIB).await.unwrap() == body, "{runtime}: turned off");
        assert_eq!(bench.backend.buffers.used_bytes(), 0, "{runtime}");

        let bench = Bench::new();
        let made = Arc::new(VersionPlan {
            spec: FunctionSpec {
                request_bytes_max: 64 * MIB,
                response_bytes_max: 64 * MIB,
                ..plan.spec.clone()
            },
            ..(*plan).clone()
        });
        let instance = bench.start(&made).await;
        let body = long_text(9 * 1024 * 1024);
        let answer = instance.call(text_call(body.clone())).await.unwrap();
        assert!(answer.body.collect(64 * MIB).await.unwrap() == body, "{runtime}: longer than the memory");
    }
}

/// What a guest that takes shared memory says when it is ready.
const READY: &str = "take()\nput(0x81, aux=1, meta=b'request\\0whole\\0response\\0whole\\0arena\\0yes')\n";

#[tokio::test]
async fn a_place_that_cannot_be_ends_the_instance() {
    for place in [
        "struct.pack('<II', 0, 10)",
        "struct.pack('<II', (8 << 20) - 1, 1)",
        "struct.pack('<II', 16 << 20, 1)",
        "struct.pack('<II', 2**32 - 1, 2**32 - 1)",
        "b'short'",
        "b''",
    ] {
        let code =
            format!("{READY}take()\nput(0x82, call=1, aux=200, flags=4, body={place})\ntime.sleep(60)");
        let (_extra, bench) = hostile::language(&code);
        let instance = hostile::start(&bench).await.unwrap();
        let fault = instance.call(call("/", Body::empty())).await.map(|answer| answer.status).unwrap_err();
        assert_eq!(fault.code, ErrorCode::BadResponse, "{place}");
        assert!(instance.is_gone(), "{place}");
    }
}

#[tokio::test]
async fn a_guest_that_does_what_it_likes_with_the_memory_hurts_only_itself() {
    let code = r"
import threading
for size in (0, 1 << 40):
    try: os.ftruncate(4, size)
    except PermissionError: pass
    else: os._exit(9)
import fcntl
fcntl.fcntl(4, fcntl.F_SETFL, os.O_APPEND)
fcntl.fcntl(4, fcntl.F_SETFL, 0)
def scribble():
    while True: os.pwrite(4, os.urandom(1 << 20), 0); os.pwrite(4, os.urandom(1 << 20), 8 << 20)
threading.Thread(target=scribble, daemon=True).start()
for number in (1, 2, 3):
    take()
    put(0x82, call=number, aux=200, flags=4, body=struct.pack('<II', 8 << 20, 1 << 20))
time.sleep(60)";
    let (_extra, bench) = hostile::language(&format!("{READY}{code}"));
    let instance = hostile::start(&bench).await.unwrap();
    for _ in 0..3 {
        let answer = instance.call(text_call(long_text(1_000_000))).await.unwrap();
        assert_eq!(answer.body.collect(64 * MIB).await.unwrap().len(), 1 << 20);
    }
}

#[tokio::test]
async fn a_guest_that_knows_no_shared_memory_gets_bodies_in_pieces() {
    let code = r"
ready()
kind, call, payload = take()
length = 0
while length < 1000000: length += len(take()[2])
put(0x82, call=call, aux=200, body=str(length).encode())
time.sleep(60)";
    let (_extra, bench) = hostile::language(code);
    let instance = hostile::start(&bench).await.unwrap();
    assert_eq!(text(instance.call(text_call(long_text(1_000_000))).await.unwrap()).await, "1000000");
}
