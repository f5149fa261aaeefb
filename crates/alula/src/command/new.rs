//! `alula new`: a folder with a function to begin with.

use std::io::Write;
use std::path::{Path, PathBuf};

use alula_model::Name;
use clap::Args;

use crate::failure::{Failure, Result};
use crate::output::Tone;
use crate::session::Session;
use crate::table::Table;
use crate::templates::{self, Template};

/// The file that describes the functions of a folder.
const MANIFEST: &str = "alula.toml";

/// What `alula new` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula new hello --runtime python
  alula new api --runtime http --folder services/api
  alula new --list")]
pub(crate) struct Arguments {
    /// The function's name
    #[arg(required_unless_present = "list")]
    name: Option<Name>,
    /// The language
    #[arg(long, short, default_value = "python")]
    runtime: String,
    /// Which of the language's templates; its first where none is named
    #[arg(long, short)]
    template: Option<String>,
    /// Where to make it [default: a new folder with the function's name]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// List the templates
    #[arg(long)]
    list: bool,
}

/// Makes the folder, or lists what could be made.
pub(crate) fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let templates = templates::all()?;
    let Some(name) = arguments.name.filter(|_| !arguments.list) else { return list(&templates, session) };
    let template = choose(&templates, &arguments.runtime, arguments.template.as_deref())?;
    let folder = arguments.folder.unwrap_or_else(|| PathBuf::from(name.as_str()));
    let mut files = template.files.clone();
    if !files.iter().any(|(path, _)| path == Path::new(MANIFEST)) {
        files.push((MANIFEST.into(), manifest(&name, template).into_bytes()));
    }
    refuse_overwriting(&folder, &files)?;
    for (path, content) in &files {
        write(&folder.join(path), content)?;
        session.output.tell(Tone::Dim, &format!("made {}", folder.join(path).display()));
    }
    session.output.say(&format!("next: alula deploy {0}   or: alula dev {0}", folder.display()));
    Ok(session.output.line(&folder.display().to_string())?)
}

fn list(templates: &[Template], session: &Session) -> Result<()> {
    if session.output.is_json() {
        for template in templates {
            let Template { runtime, name, description, .. } = template;
            let entry =
                serde_json::json!({ "runtime": runtime, "template": name, "description": description });
            session.output.json(&entry)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["RUNTIME", "TEMPLATE", "WHAT IT IS"]);
    for template in templates {
        table.row([
            template.runtime.as_str().into(),
            template.name.as_str().into(),
            template.description.as_str().into(),
        ]);
    }
    for line in table.lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

fn choose<'a>(templates: &'a [Template], runtime: &str, name: Option<&str>) -> Result<&'a Template> {
    let of_runtime: Vec<&Template> = templates.iter().filter(|template| template.is_for(runtime)).collect();
    if of_runtime.is_empty() {
        return Err(Failure::usage(format!("there is no template for the runtime {runtime:?}"))
            .remedy("`alula new --list` shows what there is"));
    }
    let chosen = of_runtime.iter().find(|template| name.is_none_or(|name| template.name == name));
    chosen.copied().ok_or_else(|| {
        let names: Vec<&str> = of_runtime.iter().map(|template| template.name.as_str()).collect();
        let message = format!("{runtime} has no template {:?}", name.unwrap_or_default());
        Failure::usage(message).remedy(format!("there are: {}", names.join(", ")))
    })
}

fn manifest(name: &Name, template: &Template) -> String {
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), name.as_str().into());
    table.insert("runtime".to_owned(), template.runtime.as_str().into());
    if let Some(handler) = &template.handler {
        table.insert("handler".to_owned(), handler.as_str().into());
    }
    if !template.command.is_empty() {
        table.insert("command".to_owned(), template.command.clone().into());
    }
    table.to_string()
}

fn refuse_overwriting(folder: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    match files.iter().map(|(path, _)| folder.join(path)).find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => {
            Err(Failure::usage(format!("{} is there already; nothing was changed", path.display()))
                .remedy("choose another name, or another --folder"))
        }
        None => Ok(()),
    }
}

/// Writes a new file; one that appeared meanwhile is not overwritten either.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        if content.starts_with(b"#!") {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
        }
        options.open(path)?.write_all(content)
    };
    write().map_err(|error| Failure::file("write", path, &error))
}
