//! `alula bucket`: buckets and the keys that S3 clients sign with. Objects are left to S3 clients.

use alula_model::Timestamp;
use alula_sdk::wire::NewBucketKey;
use clap::{Args, Subcommand};

use crate::confirm::confirm;
use crate::failure::Result;
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// What `alula bucket` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula bucket create photos
  alula bucket key create
  aws --endpoint-url http://127.0.0.1:8082 s3 cp cat.jpg s3://photos/")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a bucket
    Create {
        /// Its name
        name: String,
    },
    /// List the buckets
    #[command(visible_alias = "ls")]
    List,
    /// Remove an empty bucket
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: String,
    },
    /// Make, list and remove the access keys of S3 clients
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Make an access key for all buckets of the namespace; its secret is shown once
    Create,
    /// List the access keys
    #[command(visible_alias = "ls")]
    List,
    /// Remove an access key
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::Create { name } => {
            let bucket = client.create_bucket(&name).await?;
            session.output.say(&format!("bucket {} is made", bucket.name));
            Ok(())
        }
        Action::List => list(&client, session).await,
        Action::Delete { name } => {
            client.delete_bucket(&name).await?;
            session.output.say(&format!("bucket {name} is removed"));
            Ok(())
        }
        Action::Key { action: KeyAction::Create } => created(&client.create_bucket_key().await?, session),
        Action::Key { action: KeyAction::List } => list_keys(&client, session).await,
        Action::Key { action: KeyAction::Delete { id, yes } } => {
            if !yes {
                confirm(&format!("remove the access key {id}?"), "nothing was removed")?;
            }
            client.delete_bucket_key(&id).await?;
            session.output.say(&format!("access key {id} is removed"));
            Ok(())
        }
    }
}

async fn list(client: &alula_sdk::Client, session: &Session) -> Result<()> {
    let buckets = client.buckets().await?.buckets;
    if session.output.is_json() {
        return Ok(buckets.iter().try_for_each(|bucket| session.output.json(bucket))?);
    }
    if buckets.is_empty() {
        session.output.say("no buckets; `alula bucket create NAME` makes one");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "MADE"]);
    for bucket in &buckets {
        let made = human::age(session.now(), Timestamp(bucket.created_at_ms));
        table.row([bucket.name.as_str().into(), made.into()]);
    }
    Ok(table.print(session.output)?)
}

async fn list_keys(client: &alula_sdk::Client, session: &Session) -> Result<()> {
    let keys = client.bucket_keys().await?.keys;
    if session.output.is_json() {
        return Ok(keys.iter().try_for_each(|key| session.output.json(key))?);
    }
    if keys.is_empty() {
        session.output.say("no access keys; `alula bucket key create` makes one");
        return Ok(());
    }
    let mut table = Table::new(&["ID", "MADE", "BY"]);
    for key in &keys {
        let made = human::age(session.now(), Timestamp(key.created_at_ms));
        table.row([key.id.as_str().into(), made.into(), key.created_by.as_str().into()]);
    }
    Ok(table.print(session.output)?)
}

/// The variables that S3 clients read, so that the output can be evaluated by a shell.
fn created(key: &NewBucketKey, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(key)?);
    }
    session.output.line(&format!("AWS_ACCESS_KEY_ID={}", key.id))?;
    session.output.line(&format!("AWS_SECRET_ACCESS_KEY={}", key.secret))?;
    match &key.endpoint {
        Some(endpoint) => session.output.line(&format!("AWS_ENDPOINT_URL={endpoint}"))?,
        None => session.output.say(
            "the platform does not listen for S3 clients: set s3 = \"127.0.0.1:8082\" in [listen] of its configuration",
        ),
    }
    session.output.say("the secret is not shown again");
    Ok(())
}
