//! HTTP requests as function-URL events (payload format 2.0), and handlers' results as HTTP answers.
//!
//! Written from the published format, so that handlers made for function URLs run as they are. Account, region
//! and domain have no meaning here and carry fixed or given values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use alula_model::{InvocationId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT};
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::process::one_hop;
use crate::{Answer, Body, CALLER_HEADER, CLAIMS_HEADER};

/// What the event is made of, besides the content.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) id: &'a InvocationId,
    pub(super) function: &'a str,
    pub(super) method: &'a Method,
    pub(super) target: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) remote: Option<IpAddr>,
    pub(super) parameters: &'a [(String, String)],
    pub(super) at: Timestamp,
}

/// The event of an HTTP request, as JSON.
pub(super) fn event(request: &Request<'_>, content: &[u8]) -> Bytes {
    let query = request.target.query().unwrap_or_default();
    let is_text = is_textual(request.headers.get(CONTENT_TYPE));
    let text = if is_text { std::str::from_utf8(content).ok() } else { None };
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.target.path(),
        "rawQueryString": query,
        "headers": joined_headers(request.headers),
        "requestContext": context(request),
        "isBase64Encoded": false,
    });
    if let Some(authorizer) = authorizer(request.headers) {
        event["requestContext"]["authorizer"] = authorizer;
    }
    if let Some(cookies) = cookies(request.headers) {
        event["cookies"] = cookies;
    }
    if !query.is_empty() {
        event["queryStringParameters"] = query_parameters(query);
    }
    if !request.parameters.is_empty() {
        event["pathParameters"] = request.parameters.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    }
    if !content.is_empty() {
        event["isBase64Encoded"] = json!(text.is_none());
        event["body"] = text.map_or_else(|| json!(BASE64.encode(content)), |text| json!(text));
    }
    Bytes::from(event.to_string())
}

fn context(request: &Request<'_>) -> Value {
    let header = |name| request.headers.get(name).map(latin1).unwrap_or_default();
    let domain = header(HOST);
    let time = jiff::Timestamp::from_millisecond(request.at.as_millis()).unwrap_or_default();
    json!({
        "accountId": "anonymous",
        "apiId": request.function,
        "domainName": domain,
        "domainPrefix": domain.split(['.', ':']).next(),
        "http": {
            "method": request.method.as_str(),
            "path": request.target.path(),
            "protocol": "HTTP/1.1",
            "sourceIp": request.remote.map(|address| address.to_string()).unwrap_or_default(),
            "userAgent": header(USER_AGENT),
        },
        "requestId": request.id.as_str(),
        "routeKey": "$default",
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
        "timeEpoch": request.at.as_millis(),
    })
}

/// Who calls, as the platform says, and what a token of another authority says about that.
fn authorizer(headers: &HeaderMap) -> Option<Value> {
    let mut told = json!({ "principalId": latin1(headers.get(CALLER_HEADER)?) });
    let claims = headers.get(CLAIMS_HEADER).and_then(|claims| URL_SAFE_NO_PAD.decode(claims.as_bytes()).ok());
    if let Some(claims) = claims.and_then(|json| serde_json::from_slice::<Value>(&json).ok()) {
        let scopes =
            claims.get("scope").and_then(Value::as_str).map(|scope| scope.split(' ').collect::<Vec<_>>());
        told["jwt"] = json!({ "scopes": scopes, "claims": claims });
    }
    Some(told)
}

/// Lower-case names; the values of a repeated header joined by commas.
fn joined_headers(headers: &HeaderMap) -> Value {
    let mut joined = Map::new();
    for name in headers.keys() {
        let separator = if name == COOKIE { "; " } else { "," };
        let values: Vec<String> = headers.get_all(name).iter().map(latin1).collect();
        joined.insert(name.as_str().to_owned(), json!(values.join(separator)));
    }
    Value::Object(joined)
}

fn cookies(headers: &HeaderMap) -> Option<Value> {
    let lines = headers.get_all(COOKIE).iter().map(latin1).collect::<Vec<_>>().join(";");
    let cookies: Vec<&str> = lines.split(';').map(str::trim).filter(|cookie| !cookie.is_empty()).collect();
    (!cookies.is_empty()).then(|| json!(cookies))
}

/// Decoded; the values of a repeated name joined by commas.
fn query_parameters(query: &str) -> Value {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        parameters
            .entry(decode(name))
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert(value);
    }
    json!(parameters)
}

/// Undoes the encoding of forms: `+` is a space, `%41` is `A`. What is not a valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = after;
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(*byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Which contents are passed as text where they are UTF-8. Forms are not, as function URLs have it.
fn is_textual(content_type: Option<&HeaderValue>) -> bool {
    let Some(kind) = content_type else { return true };
    let kind = latin1(kind).to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let whole = ["application/json", "application/xml", "application/javascript", "application/graphql"];
    kind.starts_with("text/") || kind.ends_with("+json") || kind.ends_with("+xml") || whole.contains(&kind)
}

/// Every byte of a header as the character of the same number, which is what HTTP makes of them.
fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// A result that says what to answer; any other is the content itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shaped {
    status_code: Value,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// The answer that a handler's result stands for. The error says what is wrong with the result.
pub(super) fn answer(result: Bytes, content_type: Option<HeaderValue>) -> Result<Answer, String> {
    let parsed: Result<Value, _> = serde_json::from_slice(&result);
    match parsed {
        Ok(Value::Object(object)) if object.contains_key("statusCode") => shaped(Value::Object(object)),
        // A JSON string is its text, as with function URLs.
        Ok(Value::String(text)) => plain(Bytes::from(text), None),
        Ok(_) => plain(result, None),
        // A program without a runtime client may answer any text.
        Err(_) => plain(result, content_type),
    }
}

fn plain(content: Bytes, content_type: Option<HeaderValue>) -> Result<Answer, String> {
    let kind = content_type.unwrap_or(HeaderValue::from_static("application/json"));
    Ok(Answer::new(StatusCode::OK, HeaderMap::from_iter([(CONTENT_TYPE, kind)]), Body::full(content)))
}

fn shaped(result: Value) -> Result<Answer, String> {
    let shaped: Shaped =
        serde_json::from_value(result).map_err(|error| format!("the result is not valid: {error}"))?;
    let content = match &shaped.body {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if shaped.is_base64_encoded == Some(true) => BASE64
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| format!("the result's body is not base64: {error}"))?,
        Some(Value::String(text)) => Bytes::from(text.clone()),
        Some(other) => Bytes::from(other.to_string()),
    };
    let (status, headers) = head(&shaped)?;
    Ok(Answer::new(status, headers, Body::full(content)))
}

/// Status and headers of a streamed response's prelude. The error says what is wrong with it.
pub(super) fn prelude(json: &[u8]) -> Result<(StatusCode, HeaderMap), String> {
    let mut value: Value =
        serde_json::from_slice(json).map_err(|error| format!("the prelude is not JSON: {error}"))?;
    if let Some(object) = value.as_object_mut() {
        object.entry("statusCode").or_insert(json!(200));
    }
    let shaped: Shaped =
        serde_json::from_value(value).map_err(|error| format!("the prelude is not valid: {error}"))?;
    head(&shaped)
}

fn head(shaped: &Shaped) -> Result<(StatusCode, HeaderMap), String> {
    let code = match &shaped.status_code {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    let status = code
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| {
            format!("the result's statusCode {} is not a final HTTP status", shaped.status_code)
        })?;
    let mut headers = HeaderMap::new();
    for (name, value) in shaped.headers.iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let valid = HeaderName::try_from(name).ok().zip(HeaderValue::from_bytes(text.as_bytes()).ok());
        let (name, value) = valid.ok_or_else(|| format!("the result's header {name:?} is not valid"))?;
        headers.insert(name, value);
    }
    for cookie in shaped.cookies.iter().flatten() {
        let value = HeaderValue::from_str(cookie)
            .map_err(|_| format!("the result's cookie {cookie:?} is not valid"))?;
        headers.append(SET_COOKIE, value);
    }
    one_hop::remove_made_up(&mut headers);
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    Ok((status, headers))
}

#[cfg(test)]
#[path = "function_url_tests.rs"]
mod tests;
