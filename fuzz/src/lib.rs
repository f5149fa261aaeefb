//! What fuzzers throw bytes at: every reader of the platform that takes what strangers wrote.
//!
//! Each target has seeds, well-formed inputs that a fuzzer begins with. The tests throw mutations of the seeds at every target
//! for a moment, in every run; `libfuzzer/` has a driver for each target that looks for new ways through the code, for as long
//! as one likes (`./fuzz/run TARGET SECONDS`). Knows nothing of what the targets promise: that is said, and checked, beside
//! what they read.

use std::time::Duration;

/// Something that takes bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, as `./fuzz/run` takes it.
    pub name: &'static str,
    /// Takes bytes, whatever they are, and panics only where a promise is broken.
    pub take: fn(&[u8]),
    /// Well-formed inputs.
    pub seeds: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "archive", take: archive, seeds: ARCHIVES },
    Target { name: "manifest", take: alula_control::fuzzing::manifest, seeds: MANIFESTS },
    Target { name: "router", take: alula_control::fuzzing::router, seeds: ROUTES },
    Target { name: "target_uri", take: alula_gateway::fuzzing::target, seeds: TARGET_URIS },
    Target { name: "cron", take: alula_trigger::fuzzing::cron, seeds: SCHEDULES },
    Target { name: "frames", take: alula_runtime::fuzzing::frames, seeds: FRAMES },
    Target { name: "lambda_api", take: lambda_api, seeds: LAMBDA_REQUESTS },
];

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

const ARCHIVES: &[&[u8]] =
    &[b"print('hello')\n", include_bytes!("../seeds/two.tar.gz"), include_bytes!("../seeds/two.zip")];
const MANIFESTS: &[&[u8]] = &[
    include_bytes!("../../examples/orders/alula.toml"),
    b"name = \"a\"\nruntime = \"python\"\nmemory_mb = 64\nroutes = [\"GET /a/{id}\"]\n[env]\nA = \"b\"\n",
    b"[defaults]\nruntime = \"exec\"\n[functions.a]\nsource = \"x\"\ncommand = [\"./a\"]\n[[functions.a.triggers]]\nname = \"t\"\nkind = \"schedule\"\ncron = \"0 * * * *\"\n",
];
const ROUTES: &[&[u8]] = &[
    b"GET /users/{id}\nPOST /users\n/files/{path...}\nGET api.example.com/v1/{a}/{b}\nGET /users/7\nGET /files/a/b",
    b"GET *.example.com/{x}\nHEAD /\nGET www.example.com/1",
];
const TARGET_URIS: &[&[u8]] = &[
    b"/function/hello.shop:live/a/b?c=d",
    b"/async-function/hello",
    b"/topic/orders.shop",
    b"/webhook/shop/pay/stripe?x",
    b"http://host:80/function/he%6Clo/..%2f",
];
const SCHEDULES: &[&[u8]] = &[
    b"*/5 * * * *",
    b"0 30 2 * * *\nEurope/Berlin",
    b"0 0 L * *\nAmerica/New_York",
    b"0 9 * * MON#2",
    b"0 12 15W * *",
    b"@daily",
    b"1h 30m",
    b"2027-01-01T00:00:00Z",
];
const FRAMES: &[&[u8]] = &[
    &[3, 9, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, b'a', 0, b'b', b'b', b'o', b'd', b'y', b'!'],
    &[255, 0, 0, 0, 0, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];
const LAMBDA_REQUESTS: &[&[u8]] = &[
    b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: a\r\n\r\nPOST /2018-06-01/runtime/invocation/e/response HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}",
    b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: a\r\n\r\nPOST /2018-06-01/runtime/invocation/e/response HTTP/1.1\r\nhost: a\r\nlambda-runtime-function-response-mode: streaming\r\ntransfer-encoding: chunked\r\ncontent-type: application/vnd.awslambda.http-integration-response\r\n\r\n1d\r\n{\"statusCode\":200}\0\0\0\0\0\0\0\0abc\r\n0\r\n\r\n",
    b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nhost: a\r\nlambda-runtime-function-error-type: X\r\ncontent-length: 17\r\n\r\n{\"errorType\":\"Y\"}",
];

fn archive(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { return };
    // A disk that fails says nothing of the archive.
    drop(alula_control::fuzzing::archive(folder.path(), bytes));
}

fn lambda_api(bytes: &[u8]) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_time().start_paused(true).build() else { return };
    // A program that asks for another event waits for it for ever; the clock jumps as soon as nothing else happens.
    drop(runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(1), alula_runtime::fuzzing::lambda_api(bytes)).await
    }));
}
