//! A Lambda function as AWS documents it: the crate `lambda_runtime`, no line for Alula.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(greet)).await
}

/// Greets whoever the event names: `{"name": "Ada"}`, or `?name=Ada` of an HTTP call.
async fn greet(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    let name = event["name"].as_str().or_else(|| event["queryStringParameters"]["name"].as_str()).unwrap_or("world");
    Ok(json!({ "message": format!("hello, {name}"), "request": context.request_id }))
}
