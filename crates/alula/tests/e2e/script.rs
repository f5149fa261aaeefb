//! Light scripts and the world outside: `fetch` through the egress proxy, to a server of the test's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::platform::{Platform, client, folder_function};

/// What each path of the server answers.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut length = 0;
    let mut special = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(("x-special", value)) => value.clone_into(&mut special),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    // Through the proxy the line has the whole URL.
    let path = line.split(' ').nth(1).and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    match path {
        "mirror" => {
            let method = line.split(' ').next().unwrap_or_default();
            let text = format!("{method} {special} {}", String::from_utf8_lossy(&body));
            write!(stream, "{head}X-Mirror: yes\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        }
        "elsewhere" => write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: mirror\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ),
        "binary" => {
            let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            write!(stream, "{head}Content-Length: {}\r\n\r\n", bytes.len())?;
            stream.write_all(&bytes)
        }
        "broken" => write!(stream, "{head}Content-Length: 1000\r\n\r\nonly this"),
        // Until the other side gives up.
        "hang" => reader.read_to_end(&mut body).map(drop),
        _ => write!(stream, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    }
}

fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that gives up early is part of the test.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    port
}

const SCRIPT: &str = r#"
const outcome = async (act) => {
  try { return await act(); } catch (error) { return `${error.name}`; }
};

export default async (request, env) => {
  const base = new URL(request.url).searchParams.get("base");
  const get = (path, init) => fetch(`${base}/${path}`, init);
  if (request.url.includes("/binary")) return get("binary");
  const mirror = await get("mirror", { method: "POST", body: "text", headers: { "X-Special": "one" } });
  const manual = await get("elsewhere", { redirect: "manual" });
  const followed = await get("elsewhere");
  const refused = await fetch("http://10.255.255.1/");
  return Response.json({
    mirror: [mirror.status, mirror.headers.get("x-mirror"), await mirror.text()],
    manual: [manual.status, manual.headers.get("location")],
    followed: [followed.status, followed.redirected, await followed.text()],
    forbidden: await outcome(() => get("elsewhere", { redirect: "error" })),
    missing: (await get("nothing")).status,
    broken: await outcome(async () => (await get("broken")).text()),
    aborted: await outcome(() => get("hang", { signal: AbortSignal.timeout(50) })),
    scheme: await outcome(() => fetch("file:///etc/passwd")),
    refused: [refused.status, (await refused.json()).rule],
  });
};
"#;

const EXPECTED: &str = concat!(
    r#"{"mirror":[200,"yes","POST one text"],"manual":[302,"mirror"],"followed":[200,true,"GET  "],"#,
    r#""forbidden":"TypeError","missing":404,"broken":"TypeError","aborted":"TimeoutError","scheme":"TypeError","#,
    r#""refused":[403,"private"]}"#
);

#[tokio::test]
async fn a_script_fetches_what_its_network_policy_allows() {
    let platform = Platform::start_with(&[("ALULA_SANDBOX_EGRESS_ALLOW", "['127.0.0.1/32']")]);
    let settings =
        |network: &str| format!("name = 'out-{network}'\nruntime = 'script'\nnetwork = '{network}'\n");
    for network in ["internet", "none"] {
        let files = [("alula.toml", &*settings(network)), ("main.js", SCRIPT)];
        folder_function(&platform, &format!("out-{network}"), &files);
    }
    let base = format!("base=http://127.0.0.1:{}", serve());
    let get = async |path: &str| client().get(platform.url(&format!("{path}?{base}"))).send().await.unwrap();

    assert_eq!(get("/function/out-internet").await.text().await.unwrap(), EXPECTED);
    let binary = get("/function/out-internet/binary").await.bytes().await.unwrap();
    assert_eq!(binary.len(), 1_000_000);
    assert!(binary.iter().enumerate().all(|(n, byte)| n.to_le_bytes()[0] == *byte));
    let without = get("/function/out-none").await;
    assert_eq!(without.status(), 502);
    assert!(without.text().await.unwrap().contains("this script has no network"));
}
