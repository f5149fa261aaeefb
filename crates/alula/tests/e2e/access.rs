//! Who may call functions, over the real binary: keys, signed addresses, tokens of others, other namespaces.

use serde_json::Value;

use crate::platform::{Platform, client, folder_function, text};

const TELLS: &str = "def handler(event, context):\n    \
    told = event['requestContext'].get('authorizer')\n    \
    return {'told': told, 'query': event['rawQueryString'], 'path': event['rawPath']}\n";

/// What the function answered to a request with this token, or the status that it was refused with.
async fn call(platform: &Platform, url: &str, token: Option<&str>) -> Result<Value, u16> {
    let url = if url.starts_with("http") { url.to_owned() } else { platform.url(url) };
    let request = client().get(url);
    let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
    let answer = request.send().await.unwrap();
    match answer.status().as_u16() {
        200 => Ok(answer.json().await.unwrap()),
        status => Err(status),
    }
}

fn key(platform: &Platform, name: &str, namespace: &str, role: &str) -> String {
    let arguments = ["key", "create", name, "--role", role, "--namespace", namespace, "--quiet"];
    platform.alula_ok(&arguments).trim().to_owned()
}

fn deploy(platform: &Platform, namespace: &str, name: &str, access: &str) {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("name = \"{name}\"\nruntime = \"python3\"\naccess = {access}\n");
    std::fs::write(folder.path().join("alula.toml"), toml).unwrap();
    std::fs::write(folder.path().join("main.py"), TELLS).unwrap();
    let folder = folder.path().display().to_string();
    platform.alula_ok(&["deploy", &folder, "--namespace", namespace]);
}

#[tokio::test]
async fn keys_are_let_in_by_name_and_by_role_until_they_are_taken_back() {
    let platform = Platform::start();
    let (caller, viewer) =
        (key(&platform, "ci", "shop", "developer"), key(&platform, "look", "shop", "viewer"));
    let foreign = key(&platform, "ci", "bank", "owner");
    deploy(&platform, "shop", "tells", r#""namespace""#);
    deploy(&platform, "shop", "named", r#"["key:look", "key:bank/ci"]"#);
    let told = call(&platform, "/function/tells.shop", Some(&caller)).await.unwrap();
    assert_eq!(told["told"]["principalId"], "key:shop/ci");
    assert_eq!(call(&platform, "/function/tells.shop", Some(&viewer)).await, Err(403));
    assert_eq!(call(&platform, "/function/tells.shop", Some(&foreign)).await, Err(403));
    assert_eq!(call(&platform, "/function/named.shop", Some(&caller)).await, Err(403));
    let told = call(&platform, "/function/named.shop", Some(&viewer)).await.unwrap();
    assert_eq!(told["told"]["principalId"], "key:shop/look");
    let told = call(&platform, "/function/named.shop", Some(&foreign)).await.unwrap();
    assert_eq!(told["told"]["principalId"], "key:bank/ci");
    let id = caller.split('_').nth(1).unwrap();
    platform.alula_ok(&["key", "revoke", id, "--yes"]);
    assert_eq!(call(&platform, "/function/tells.shop", Some(&caller)).await, Err(401));
}

#[tokio::test]
async fn a_namespace_is_closed_by_its_owner_and_a_version_cannot_be_got_round() {
    let platform = Platform::start();
    folder_function(&platform, "tells", &[("main.py", TELLS)]);
    assert!(call(&platform, "/function/tells", None).await.is_ok(), "public at first");
    let shown = platform.alula_ok(&["access", "set", "namespace"]);
    assert!(shown.contains("the namespace says so"), "{shown}");
    for path in ["/function/tells", "/function/tells:1", "/function/nothing-there"] {
        assert_eq!(call(&platform, path, None).await, Err(401), "{path}");
    }
    assert_eq!(call(&platform, "/function/nothing-there", Some(&platform.token())).await, Err(404));
    let published = client().post(platform.url("/topic/orders")).body("{}").send().await.unwrap();
    assert_eq!(published.status(), 401);
    platform.alula_ok(&["access", "reset"]);
    deploy(&platform, "default", "tells", r#""namespace""#);
    for path in ["/function/tells", "/function/tells:1", "/function/tells:2"] {
        assert_eq!(call(&platform, path, None).await, Err(401), "{path}: what was public is not any more");
        assert!(call(&platform, path, Some(&platform.token())).await.is_ok(), "{path}");
    }
    let audit = platform.alula_ok(&["audit"]);
    assert!(audit.contains("access.default"), "{audit}");
}

#[tokio::test]
async fn a_signed_address_lets_in_without_a_token_until_its_key_is_replaced() {
    let platform = Platform::start();
    deploy(&platform, "shop", "report", r#"["signed-url", "namespace"]"#);
    let sign = |arguments: &[&str]| {
        let arguments = [&["sign-url", "report.shop", "--expires", "1h"], arguments].concat();
        platform.alula_ok(&arguments).trim().to_owned()
    };
    let url = sign(&["--path", "/today?format=pdf"]);
    let told = call(&platform, &url, None).await.unwrap();
    assert_eq!((&told["path"], &told["query"]), (&"/today".into(), &"format=pdf".into()));
    assert!(told["told"]["principalId"].as_str().unwrap().starts_with("url:shop/"), "{told}");
    assert_eq!(call(&platform, &url.replace("pdf", "csv"), None).await, Err(401));
    assert_eq!(client().post(&url).send().await.unwrap().status(), 401, "it is for GET");
    let by_number = sign(&["--path", "/"]).replace("report.shop/", "report.shop:1/");
    assert_eq!(call(&platform, &by_number, None).await, Err(401));
    platform.alula_ok(&["access", "rotate-url-key", "--yes", "--namespace", "shop"]);
    assert_eq!(call(&platform, &url, None).await, Err(401));
    assert!(call(&platform, &sign(&[]), None).await.is_ok());
}

#[tokio::test]
async fn a_function_calls_one_of_another_namespace_that_names_it() {
    let platform = Platform::start();
    let asks = "import os, urllib.request\n\ndef handler(event, context):\n    \
        url = os.environ['ALULA_FUNCTIONS_URL'] + '/function/' + event['body'].strip()\n    \
        try:\n        return urllib.request.urlopen(url, timeout=10).read().decode()\n    \
        except urllib.error.HTTPError as error:\n        return str(error.code)\n";
    folder_function(&platform, "asks", &[("main.py", asks)]);
    deploy(&platform, "bank", "named", r#""function:default/asks""#);
    deploy(&platform, "bank", "other", r#""function:default/another""#);
    let ask = async |target: &'static str| {
        let request = client().post(platform.url("/function/asks")).header("content-type", "text/plain");
        request.body(target).send().await.unwrap().text().await.unwrap()
    };
    let told = ask("named.bank").await;
    assert!(told.contains("function:default/asks"), "{told}");
    assert!(ask("other.bank").await.contains("404"));
    assert_eq!(call(&platform, "/function/named.bank", Some(&platform.token())).await, Err(403));
    let shown = platform.alula(&["runs", "named.bank", "--json"]);
    assert!(text(&shown.stdout).contains("function:default/asks"), "{}", text(&shown.stdout));
}
