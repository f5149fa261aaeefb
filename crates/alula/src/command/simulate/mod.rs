//! `alula simulate`: what the pool's policy of keeping instances would have done with a trace of calls.
//!
//! Needs no platform. The trace is read from files or made from a seed; the report is made by `alula_pool`.

mod report;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alula_pool::keep_alive::KeepAliveOptions;
use alula_pool::simulate::{self, Inputs, Mix, Recipe, Step, Trace};
use clap::{ArgGroup, Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::{Failure, Result, chain};
use crate::session::Session;

/// What `alula simulate` takes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["trace", "generate"])))]
#[command(after_help = "\
The trace files have the shape of the public Azure Functions traces of 2019: a row for each function with its
calls in every minute of a day. Several --trace files are several days in a row.

Every other policy is compared with ours at the price of memory at which ours wastes no more than it.

Examples:
  alula simulate --trace invocations_per_function_md.anon.d01.csv
  alula simulate --trace day1.csv --trace day2.csv --memory app_memory.csv --durations durations.csv
  alula simulate --generate --functions 50000 --mix timers --seed 7
  alula simulate --generate --functions 1000 --write ./trace
  alula simulate --generate --budget-gb 4 --json")]
pub(crate) struct Arguments {
    /// CSV file of calls; may be given several times
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,
    /// CSV file of how long calls take
    #[arg(long, value_name = "FILE", requires = "trace")]
    durations: Option<PathBuf>,
    /// CSV file of how much memory apps take
    #[arg(long, value_name = "FILE", requires = "trace")]
    memory: Option<PathBuf>,
    /// Make a trace instead of reading one
    #[arg(long)]
    generate: bool,
    /// Functions of a generated trace
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "generate",
        value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    functions: u32,
    /// Days of a generated trace
    #[arg(long, value_name = "N", default_value_t = 1, requires = "generate",
        value_parser = clap::value_parser!(u32).range(1..=30))]
    days: u32,
    /// What a generated trace is made from: the same seed, the same trace
    #[arg(long, value_name = "N", default_value_t = 1, requires = "generate")]
    seed: u64,
    /// Which functions a generated trace has
    #[arg(long, value_enum, default_value_t = MixName::Cloud, requires = "generate")]
    mix: MixName,
    /// Write the generated trace into this folder instead of replaying it
    #[arg(long, value_name = "FOLDER", requires = "generate", conflicts_with = "budget_gb")]
    write: Option<PathBuf>,
    /// Replay under our policy alone, with at most so much memory held on average
    #[arg(long, value_name = "GB")]
    budget_gb: Option<f64>,
}

/// The mixes by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MixName {
    /// All kinds, in the proportions of a large cloud
    Cloud,
    /// Mostly functions called a few times a day
    Rare,
    /// Mostly timers
    Timers,
    /// Mostly long pauses and then bursts
    Bursty,
    /// Mostly random calls at very different rates
    HeavyTailed,
}

impl From<MixName> for Mix {
    fn from(name: MixName) -> Self {
        match name {
            MixName::Cloud => Self::Cloud,
            MixName::Rare => Self::Rare,
            MixName::Timers => Self::Timers,
            MixName::Bursty => Self::Bursty,
            MixName::HeavyTailed => Self::HeavyTailed,
        }
    }
}

/// Replays a trace and prints what came out.
pub(crate) fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let trace = trace(&arguments, session)?;
    if let Some(folder) = &arguments.write {
        return write(&trace, folder, session);
    }
    let output = session.output;
    let bar = bar(session, trace.minutes() as u64, "{msg}  {bar:30} {percent}%");
    let mut tell = |step: Step| {
        bar.set_message(format!("replay {}", step.replays + 1));
        bar.set_position(step.minute as u64);
    };
    let options = KeepAliveOptions::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = match arguments.budget_gb {
        None => report::rows(&simulate::simulate(&trace, options, threads, &mut tell)),
        Some(budget_gb) => {
            let line = simulate::within_budget(&trace, options, budget_gb, threads, &mut tell);
            vec![report::Row::new(&line.ok_or_else(|| too_little(budget_gb))?, None)]
        }
    };
    bar.finish_and_clear();
    if output.is_json() {
        for row in &rows {
            output.json(row)?;
        }
        return Ok(());
    }
    let (functions, calls, minutes) = (trace.functions(), trace.calls(), trace.minutes() as u64);
    let length = crate::human::seconds(minutes * 60);
    output.say(&format!("{functions} functions, {calls} calls in {length}"));
    for line in report::table(&rows).lines(output.colour) {
        output.line(&line)?;
    }
    Ok(())
}

fn trace(arguments: &Arguments, session: &Session) -> Result<Trace> {
    if arguments.generate {
        return Ok(simulate::generate(Recipe {
            functions: arguments.functions as usize,
            minutes: arguments.days as usize * 24 * 60,
            seed: arguments.seed,
            mix: arguments.mix.into(),
        }));
    }
    let inputs = Inputs {
        invocations: arguments.trace.clone(),
        durations: arguments.durations.clone(),
        memory: arguments.memory.clone(),
    };
    let files = inputs.invocations.iter().chain(&inputs.durations).chain(&inputs.memory);
    let bytes = files.filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
    let bar = bar(session, bytes, "reading  {bar:30} {bytes}/{total_bytes}");
    let trace = simulate::read(&inputs, &mut |count| bar.inc(count));
    bar.finish_and_clear();
    trace.map_err(|error| Failure::usage(chain(&error)).remedy("see `alula simulate --help` for the shape"))
}

fn write(trace: &Trace, folder: &Path, session: &Session) -> Result<()> {
    let failed = |error| Failure::file("write into", folder, &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let create = |name: &str| File::create(folder.join(name)).map(BufWriter::new).map_err(failed);
    let (mut calls, mut durations, mut memory) =
        (create("invocations.csv")?, create("durations.csv")?, create("memory.csv")?);
    simulate::write(trace, [&mut calls, &mut durations, &mut memory]).map_err(failed)?;
    for mut file in [calls, durations, memory] {
        file.flush().map_err(failed)?;
    }
    let shown = folder.display();
    session.output.say(&format!("wrote {shown}/invocations.csv, durations.csv and memory.csv"));
    Ok(())
}

fn too_little(budget_gb: f64) -> Failure {
    let message = format!("the calls of this trace alone hold more than {budget_gb} GB on average");
    Failure::usage(message).remedy("give a larger --budget-gb")
}

/// A bar for people who watch; nothing elsewhere.
fn bar(session: &Session, length: u64, template: &str) -> ProgressBar {
    let target = if session.output.is_animated() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
