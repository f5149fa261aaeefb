//! The second stage: what could only fail later is refused now, for every function of the archive.

use std::path::PathBuf;
use std::sync::Arc;

use alula_model::{Contact, ErrorCode, Fault, FunctionSpec, Name, VersionKey};
use alula_runtime::VersionPlan;
use alula_runtime::language::{Language, Languages};

use super::intake::Source;
use super::{Checked, Reporter, Scratch};
use crate::build::Recipe;
use crate::catalog::{RouteTable, Snapshot};
use crate::code::blocking;
use crate::control::Control;
use crate::error;
use crate::options::Mail;
use crate::upload::Stage;

impl Control {
    /// Checks all functions of an archive.
    pub(super) async fn check_all(
        &self,
        namespace: &Name,
        sources: Vec<Source>,
        work: &Scratch,
        reporter: &Reporter,
    ) -> Result<Vec<Checked>, Fault> {
        let mut checked = Vec::with_capacity(sources.len());
        for source in sources {
            reporter.stage(Some(&source.name), Stage::Validate, "checking the spec and the source");
            let function = self.check(namespace, source, work).await?;
            self.warn(&function, reporter);
            checked.push(function);
        }
        check_routes(&self.shared.catalog.load(), namespace, &checked)?;
        Ok(checked)
    }

    /// Tells what will not work although the spec may say it.
    fn warn(&self, checked: &Checked, reporter: &Reporter) {
        let contacts = checked.spec.asynchronous.notify.iter().chain(&checked.spec.alarm.notify);
        let wants_mail = contacts.into_iter().any(|contact| matches!(contact, Contact::Mail(_)));
        if wants_mail && self.shared.options.mail == Mail::NotSent {
            let text = "nobody will be told by mail: this platform sends none until its operator sets mail.url; \
                        a web address or slack: works";
            reporter.warning(&checked.name, text);
        }
    }

    async fn check(&self, namespace: &Name, source: Source, work: &Scratch) -> Result<Checked, Fault> {
        let Source { name, draft, folder } = source;
        let mut spec = draft.spec().map_err(|error| error.fault())?;
        let triggers = self.shared.parts.triggers.check(&spec.triggers, &spec.env);
        triggers.map_err(|error| error::spec(&name, &error))?;
        let access =
            spec.access.as_ref().map_or(Ok(()), |access| self.shared.parts.triggers.check_access(access));
        access.map_err(|error| error::spec(&name, &error))?;
        let language = language(&self.shared.parts.languages, &name, &spec)?;
        spec.runtime.clone_from(&language.name);
        let (packed, source_file) = self.pack(&folder, work).await?;
        let same_as = {
            let snapshot = self.shared.catalog.load();
            let entry = snapshot.function(namespace, &name);
            let latest = entry.and_then(|entry| entry.version(entry.function.latest));
            latest.filter(|latest| latest.source == packed.digest && latest.spec == spec)
        };
        let recipe = Recipe::find(&spec, &language, &self.shared.parts.languages, &folder, &packed.digest)?;
        if recipe.is_none() && same_as.is_none() {
            self.check_runs(namespace, &name, &spec, folder).await?;
        }
        Ok(Checked { name, spec, source: packed, source_file, recipe, same_as })
    }

    /// Asks the back end whether it could run this. A function that is built is asked for after its build, which
    /// may well make the program that it runs.
    pub(super) async fn check_runs(
        &self,
        namespace: &Name,
        name: &Name,
        spec: &FunctionSpec,
        folder: PathBuf,
    ) -> Result<(), Fault> {
        let version = self.shared.catalog.load().newest(namespace, name) + 1;
        let key = VersionKey { namespace: namespace.clone(), function: name.clone(), version };
        let plan = Arc::new(VersionPlan::new(key, spec.clone(), folder));
        let (backend, to_check) = (Arc::clone(&self.shared.parts.backend), Arc::clone(&plan));
        let validated = blocking("check the source", move || Ok(backend.validate(&to_check))).await?;
        validated.map_err(|error| error::spec(name, &error))?;
        self.check_syntax(name, &plan).await?;
        let prepared = self.shared.parts.backend.prepare(&plan).await;
        prepared.map_err(|fault| Fault { message: format!("function {name}: {}", fault.message), ..fault })
    }
}

fn language(languages: &Languages, name: &Name, spec: &FunctionSpec) -> Result<Arc<Language>, Fault> {
    let Some(language) = languages.get(&spec.runtime) else {
        let known: Vec<_> = languages.iter().map(|language| language.name.as_str()).collect();
        let message = format!("function {name}: no runtime {}; known are {}", spec.runtime, known.join(", "));
        return Err(Fault::new(ErrorCode::RuntimeUnknown, message));
    };
    match language.unavailable() {
        None => Ok(language),
        Some(reason) => Err(Fault::new(ErrorCode::RuntimeUnavailable, format!("function {name}: {reason}"))),
    }
}

/// Refuses routes that clash, before anything is built. The commit checks again, since a build takes time.
fn check_routes(snapshot: &Snapshot, namespace: &Name, checked: &[Checked]) -> Result<(), Fault> {
    let is_replaced = |ns: &Name, name: &Name| ns == namespace && checked.iter().any(|c| c.name == *name);
    let mut table = RouteTable::default();
    for entry in snapshot.entries() {
        let (ns, name) = (&entry.function.namespace, &entry.function.name);
        if !is_replaced(ns, name) {
            // What clashed before is no concern of this deploy.
            entry.routes().iter().for_each(|route| drop(table.insert(route, ns, name)));
        }
    }
    for function in checked {
        for route in &function.spec.routes {
            table.insert(route, namespace, &function.name).map_err(|taken| error::route_taken(&taken))?;
        }
    }
    Ok(())
}
