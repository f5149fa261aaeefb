//! How a deploy is told while it runs: a bar and a spinner on a terminal, plain lines elsewhere.
//!
//! All of it is talk for standard error. On a terminal, lines that stay are printed above the moving one.

use std::time::Duration;

use alula_sdk::wire::DeployStage;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::human;
use crate::output::{Output, Tone, printable};

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(100);

/// Uploads smaller than this are over before a bar could be read.
const BAR_BYTES_MIN: u64 = 256 * 1024;

/// The teller of one deploy. Clones tell the same one.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
    what: String,
}

impl Progress {
    /// Tells about deploying `what` (a path, as it was typed).
    pub(crate) fn new(output: Output, what: String) -> Self {
        let bar =
            output.is_animated().then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Self { output, bar, what }
    }

    /// The upload begins.
    pub(crate) fn upload(&self, length: u64, files: Option<usize>) {
        let files = files.map(|files| format!(", {files} files")).unwrap_or_default();
        let text = format!("uploading {} ({}{files})", self.what, human::bytes(length));
        let Some(bar) = &self.bar else { return self.output.say(&text) };
        bar.set_message(text);
        if length >= BAR_BYTES_MIN {
            bar.set_length(length);
            bar.set_style(style("{msg}  {bar:30} {bytes}/{total_bytes}"));
        } else {
            self.spin();
        }
    }

    /// So many more bytes were sent.
    pub(crate) fn sent(&self, count: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(count);
        }
    }

    /// A stage begins.
    pub(crate) fn stage(&self, function: &str, stage: DeployStage, detail: &str) {
        let subject = if function.is_empty() { &self.what } else { function };
        // A build command may have many lines; the first one says which it is.
        let detail = detail.trim().lines().next().unwrap_or_default();
        let separator = if detail.is_empty() { "" } else { ": " };
        let text = format!("{subject}  {}{separator}{detail}", verb(stage));
        match &self.bar {
            Some(bar) => {
                self.spin();
                bar.set_message(text);
            }
            None => self.output.say(&text),
        }
    }

    /// The build step wrote a line.
    pub(crate) fn build_line(&self, function: &str, text: &str) {
        let line = self.output.paint_talk(Tone::Dim, &format!("{function} | {}", printable(text)));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.output.say(&line),
        }
    }

    /// Something will not work as it was meant.
    pub(crate) fn warning(&self, function: &str, text: &str) {
        let line = self.output.paint_talk(Tone::Warn, &format!("{function}: {}", printable(text)));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.output.say(&line),
        }
    }

    /// It is over, well or not; what came of it is told by others.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn spin(&self) {
        if let Some(bar) = &self.bar {
            bar.set_style(style("{spinner} {msg}"));
            bar.enable_steady_tick(TICK);
        }
    }
}

/// The templates are constants of this module; one that did not parse would show as the usual bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

const fn verb(stage: DeployStage) -> &'static str {
    match stage {
        DeployStage::Upload => "received",
        DeployStage::Validate => "checking",
        DeployStage::Build => "building",
        DeployStage::Publish => "publishing",
        DeployStage::Ready => "ready",
    }
}
