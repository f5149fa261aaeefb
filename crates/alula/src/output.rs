//! Where a command's words go: data to standard output, talk to standard error.
//!
//! So `alula ... | jq` and `alula ... > file` always get the data and nothing else. Colour is used only on a
//! terminal, and never where `NO_COLOR` is set. Nothing here knows a command.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people: tables, humanised numbers.
    Human,
    /// For programs: the control API's own JSON, one document a line.
    Json,
}

/// How much is said besides the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Progress, hints, results in words.
    Normal,
    /// Failures only.
    Quiet,
}

/// What a piece of text means; decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// It went well.
    Good,
    /// Look at this.
    Warn,
    /// It went wrong.
    Bad,
    /// Beside the point.
    Dim,
    /// A heading.
    Strong,
}

impl Tone {
    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }
}

/// Whether a stream takes colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// A terminal, and the user does not mind.
    On,
    /// A file, a pipe, or `NO_COLOR`.
    Off,
}

impl Colour {
    /// `text` in the colour of `tone`, or as it is.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        match (self, tone) {
            (Self::Off, _) | (_, Tone::Plain) => text.to_owned(),
            (Self::On, tone) => format!("{}{text}\x1b[0m", tone.escape()),
        }
    }
}

/// The two streams of the process and how to use them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// How data is printed.
    pub(crate) format: Format,
    /// How much is said.
    pub(crate) talk: Talk,
    /// Colour on standard output.
    pub(crate) colour: Colour,
    /// Colour on standard error.
    talk_colour: Colour,
}

impl Output {
    /// Looks at the streams; `no_color` is whether the environment asks for none.
    pub(crate) fn new(format: Format, talk: Talk, no_color: bool) -> Self {
        let colour = |is_terminal: bool| if is_terminal && !no_color { Colour::On } else { Colour::Off };
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self { format, talk, colour: colour(out), talk_colour: colour(err) }
    }

    /// Whether data is printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether progress may be drawn: a person watches, and wants to.
    pub(crate) fn is_animated(self) -> bool {
        self.talk == Talk::Normal && io::stderr().is_terminal()
    }

    /// Prints one line of data.
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Prints one JSON document on a line of its own.
    pub(crate) fn json<T: Serialize>(self, value: &T) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, value)?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Says something to the person in front of it.
    pub(crate) fn say(self, text: &str) {
        self.tell(Tone::Plain, text);
    }

    /// Says something in a tone.
    pub(crate) fn tell(self, tone: Tone, text: &str) {
        if self.talk == Talk::Normal {
            self.write_talk(&self.talk_colour.paint(tone, text));
        }
    }

    /// Text in the colour of standard error.
    pub(crate) fn paint_talk(self, tone: Tone, text: &str) -> String {
        self.talk_colour.paint(tone, text)
    }

    /// Says why a command failed: one line what, one line what to do; or one JSON document.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.is_json() {
            let error = serde_json::json!({ "error": {
                "code": failure.code, "message": failure.message, "remedy": failure.remedy,
                "log_tail": failure.log_tail,
            }});
            return self.write_talk(&error.to_string());
        }
        for line in &failure.log_tail {
            self.write_talk(&self.talk_colour.paint(Tone::Dim, &format!("| {}", printable(line))));
        }
        let label = self.talk_colour.paint(Tone::Bad, "error:");
        let code = self.talk_colour.paint(Tone::Dim, &format!("[{}]", failure.code));
        self.write_talk(&format!("{label} {} {code}", failure.message));
        if let Some(remedy) = &failure.remedy {
            self.write_talk(&format!("{} {remedy}", self.talk_colour.paint(Tone::Strong, "  try:")));
        }
    }

    /// Where nobody reads standard error there is nothing left to do about it.
    fn write_talk(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Text of a function without what would move a terminal's cursor or change its colours.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_only_where_it_is_on_and_means_something() {
        assert_eq!(Colour::On.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Colour::On.paint(Tone::Plain, "x"), "x");
        assert_eq!(Colour::Off.paint(Tone::Bad, "x"), "x");
    }
}
