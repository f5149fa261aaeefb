//! `alula deploy`: source code in, running versions out.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use alula_model::Name;
use alula_sdk::wire::{BuildOverride, DeployedFunction, Overrides};
use clap::Args;

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::Tone;
use crate::package::{self, Package};
use crate::progress::Progress;
use crate::publish::{Wishes, publish};
use crate::session::Session;
use crate::templates;

/// Largest code that is taken from standard input; larger code comes as a file.
const INLINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What `alula deploy` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula deploy hello.py                        one file; its name becomes the function's
  alula deploy shop/                           a folder, with alula.toml for one or several functions
  alula deploy api.tar.gz jobs/ hello.js       several at once
  alula deploy hello.py --env LEVEL=debug --memory-mb 128 -m 'more talk'
  alula deploy --name hi --runtime python --code 'def handler(event, context): return \"hi\"'
  generate | alula deploy --name hi --runtime node --code -

Files that .gitignore or .alulaignore name are not uploaded. Printed is one line a function:
NAME version N  URL")]
pub(crate) struct Arguments {
    /// Files, folders or archives [default: the current folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Code instead of a path; - reads it from standard input
    #[arg(long, value_name = "TEXT", conflicts_with = "paths", requires = "name", requires = "runtime")]
    code: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// What may be said about the code besides the code.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// The function's name
    #[arg(long)]
    name: Option<Name>,
    /// The runtime, such as python, node, exec, http
    #[arg(long)]
    runtime: Option<String>,
    /// The object that is called, as FILE.OBJECT
    #[arg(long)]
    handler: Option<String>,
    /// The program and its arguments, split at spaces
    #[arg(long)]
    command: Option<String>,
    /// What the function is for
    #[arg(long)]
    description: Option<String>,
    /// An environment variable; may be given often
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// Memory of one instance in megabytes
    #[arg(long)]
    memory_mb: Option<u32>,
    /// Time one call may take, in milliseconds
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// Calls that one instance takes at once
    #[arg(long)]
    concurrency: Option<u32>,
    /// Instances that are held ready whether they are called or not
    #[arg(long)]
    min_instances: Option<u32>,
    /// Most instances
    #[arg(long)]
    max_instances: Option<u32>,
    /// What the function may reach: none, internet, or rules such as api.example.com:443,10.1.2.0/24:5432
    #[arg(long, value_name = "RULES")]
    network: Option<String>,
    /// A method and path on the public port, such as 'GET /users/{id}'; may be given often
    #[arg(long, value_name = "ROUTE")]
    route: Vec<String>,
    /// A shell command that builds the code before it runs
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
    /// What changed and why, for the list of versions
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Check everything, publish nothing
    #[arg(long)]
    dry_run: bool,
}

/// Deploys one path after the other; the first failure ends it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let packages = match &arguments.code {
        Some(code) => vec![inline(code, &arguments.options)?],
        None => open(package::or_here(arguments.paths), &arguments.options)?,
    };
    let wishes = arguments.options.wishes();
    for (what, package) in packages {
        let progress = Progress::new(session.output, what);
        for function in publish(&client, &package, &wishes, &progress).await? {
            print(&function, session)?;
        }
    }
    Ok(())
}

/// Prints what came of one function: data on standard output, the rest beside it.
pub(super) fn print(function: &DeployedFunction, session: &Session) -> Result<()> {
    let output = session.output;
    if output.is_json() {
        return Ok(output.json(function)?);
    }
    let how = match (function.dry_run, function.is_new, function.build_cached) {
        (true, ..) => "would be deployed; nothing was published",
        (_, false, _) => "unchanged: the same code and settings are this version already",
        (_, true, true) => "deployed, with an earlier build",
        (_, true, false) => "deployed",
    };
    let took = human::millis(function.took_ms);
    output.line(&format!("{} version {}  {}", function.name, function.version, function.url))?;
    output.tell(Tone::Dim, &format!("{} {how} ({}, {took})", function.name, function.runtime));
    Ok(())
}

/// Opens everything before anything is deployed, so that a slip in the last path changes nothing.
fn open(paths: Vec<PathBuf>, options: &Options) -> Result<Vec<(String, Package)>> {
    if paths.len() > 1 && options.name.is_some() {
        return Err(Failure::usage("--name fits one path")
            .remedy("deploy them one by one, or name them in alula.toml"));
    }
    let open = |path: PathBuf| Ok((path.display().to_string(), Package::open(&path)?));
    paths.into_iter().map(open).collect()
}

fn inline(code: &str, options: &Options) -> Result<(String, Package)> {
    let code = if code == "-" { read_stdin()? } else { code.as_bytes().to_vec() };
    let name = options.name.as_ref().map_or("function", Name::as_str);
    let extension = templates::extension(options.runtime.as_deref().unwrap_or_default());
    let file_name = extension.map_or_else(|| name.to_owned(), |extension| format!("{name}.{extension}"));
    Ok((file_name.clone(), Package::of_text(&code, file_name)?))
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut code = Vec::new();
    std::io::stdin().lock().take(INLINE_BYTES_MAX + 1).read_to_end(&mut code)?;
    if code.len() as u64 > INLINE_BYTES_MAX {
        return Err(Failure::usage(format!("the code is larger than {}", human::bytes(INLINE_BYTES_MAX)))
            .remedy("write it to a file and deploy that"));
    }
    Ok(code)
}

impl Options {
    /// As the platform wants them.
    pub(super) fn wishes(&self) -> Wishes {
        let network = self.network.as_deref().map(crate::command::network::rules);
        let words = |text: &String| text.split_whitespace().map(str::to_owned).collect();
        let env: BTreeMap<String, String> = self.env.iter().cloned().collect();
        let overrides = Overrides {
            runtime: self.runtime.clone(),
            handler: self.handler.clone(),
            command: self.command.as_ref().map(words),
            description: self.description.clone(),
            memory_mb: self.memory_mb,
            timeout_ms: self.timeout_ms,
            concurrency: self.concurrency,
            min_instances: self.min_instances,
            max_instances: self.max_instances,
            network,
            env: (!env.is_empty()).then_some(env),
            routes: (!self.route.is_empty()).then(|| self.route.clone()),
            build: self.build.clone().map(|command| BuildOverride { command, ..BuildOverride::default() }),
            ..Overrides::default()
        };
        Wishes {
            name: self.name.as_ref().map(Name::to_string),
            overrides,
            message: self.message.clone(),
            dry_run: self.dry_run,
        }
    }
}

fn parse_variable(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}
