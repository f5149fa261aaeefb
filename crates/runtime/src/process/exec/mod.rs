//! One process a call: the request's body on its standard input, the answer on its standard output.
//!
//! The request's head is in the environment, as CGI (RFC 3875) names it. The output is the answer's body as it
//! is, with status 200; a function that wants to say more sets `ALULA_OUTPUT=cgi` in its spec and begins its
//! output with a header block. Lines on standard error are its log.
//!
//! The exit status decides: a program that fails before any output has left the platform is answered for with a
//! fault, one that fails later has its answer broken off, so that no client takes a torn answer for a whole one.
//! An instance runs one call at a time, because after each call everything in the cell is killed.

mod cgi;
mod run;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alula_model::{ErrorCode, Fault, LogStream, SpecError};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::cells::CODE_DIR;
use super::{Guest, Room, command, pipes};
use crate::language::Language;
use crate::{Answer, BoxFuture, Call, Process, ProcessSpec, RunningCall, VersionPlan};
use run::{Pipes, Run, Turn};

/// File names that are the program where the spec has no command.
pub(super) const DEFAULT_PROGRAMS: &[&str] = &["handler", "main", "run.sh", "handler.sh", "main.sh"];

/// Refuses what cannot be run this way.
pub(super) fn validate(plan: &VersionPlan, language: &Language) -> Result<(), SpecError> {
    if plan.spec.concurrency != 1 {
        let reason = "an exec function runs one call in an instance; raise max_instances instead".to_owned();
        return Err(SpecError { field: "concurrency", reason });
    }
    cgi::output_form(&plan.spec.env)?;
    command::resolve(plan, language, DEFAULT_PROGRAMS).map(drop)
}

/// Makes the room ready for calls. No process runs between calls.
pub(super) fn start(room: &Arc<Room>) -> Result<Box<dyn Guest>, Fault> {
    let refused = |error: SpecError| Fault::new(ErrorCode::InitFailed, error.to_string());
    let argv = command::resolve(&room.plan, &room.language, DEFAULT_PROGRAMS).map_err(refused)?;
    let form = cgi::output_form(&room.plan.spec.env).map_err(refused)?;
    Ok(Box::new(ExecGuest { room: Arc::clone(room), argv, form, turn: Arc::default() }))
}

/// Starts a process for each call.
#[derive(Debug)]
struct ExecGuest {
    room: Arc<Room>,
    argv: Vec<String>,
    form: cgi::OutputForm,
    /// Held by a call from its start until everything that it started is gone.
    turn: Arc<Mutex<()>>,
}

impl Guest for ExecGuest {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(self.run(call))
    }

    fn finish(&self, _grace: std::time::Duration) -> BoxFuture<'_, ()> {
        // Whoever has the turn runs the last call.
        Box::pin(async move { drop(self.turn.lock().await) })
    }
}

impl ExecGuest {
    async fn run(&self, call: Call) -> Result<Answer, Fault> {
        let waited = tokio::time::timeout_at(call.deadline, Arc::clone(&self.turn).lock_owned()).await;
        let turn = waited.map_err(|_| self.room.timed_out())?;
        let turn = Turn::new(&self.room, self.room.begin(RunningCall::of(&call)), turn);
        self.launch(call, turn).await?.answer(self.form).await
    }

    /// Starts the program with the call's head in its environment and its body on the way to its input.
    async fn launch(&self, call: Call, mut turn: Turn) -> Result<Run, Fault> {
        let room = &self.room;
        let mut env = room.env.clone();
        cgi::describe_call(&call, &mut env);
        let (stdin, stdin_inside) = pipes::feed_pipe()?;
        let (stdout, stdout_inside) = pipes::log_pipe()?;
        let (stderr, stderr_inside) = pipes::log_pipe()?;
        let fds = vec![stdin_inside, stdout_inside, stderr_inside];
        let spec = ProcessSpec { argv: self.argv.clone(), env, cwd: CODE_DIR.to_owned(), fds };
        let process: Arc<dyn Process> = Arc::from(room.cell.start(spec).await?);
        turn.kills_on_drop(Arc::clone(&process));
        if let Some(started) = &call.events.started {
            started.store(true, Ordering::Relaxed);
        }
        let log = room.output.capture(stderr, LogStream::Stderr, Some(call.id.clone()));
        let feed = AbortOnDropHandle::new(tokio::spawn(run::feed(call.body, stdin)));
        Ok(Run::new(turn, process, Pipes { stdout, log, feed }, call.deadline))
    }
}

#[cfg(test)]
mod tests;
