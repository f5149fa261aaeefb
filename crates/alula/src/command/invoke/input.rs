//! What a call sends: text from the command line, a file, or what is piped in; streamed, never gathered.

use std::path::{Path, PathBuf};

use alula_sdk::Body;
use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::ReaderStream;

use crate::failure::{Failure, Result};

/// Bytes that are read and sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The source of the request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) enum Input {
    /// Nothing.
    Empty,
    /// This text.
    Text(String),
    /// This file.
    File(PathBuf),
    /// What is piped into the command.
    Stdin,
}

impl Input {
    /// The options decide; without any, standard input where something is piped into it.
    pub(in crate::command) fn choose(data: Option<String>, file: Option<PathBuf>) -> Result<Self> {
        match (data, file) {
            (_, Some(file)) if file == Path::new("-") => Ok(Self::Stdin),
            (_, Some(file)) => Self::file(file),
            (Some(data), None) => match data.strip_prefix('@') {
                Some("-") => Ok(Self::Stdin),
                Some(path) => Self::file(PathBuf::from(path)),
                None if data.is_empty() => Ok(Self::Empty),
                None => Ok(Self::Text(data)),
            },
            (None, None) if is_piped() => Ok(Self::Stdin),
            (None, None) => Ok(Self::Empty),
        }
    }

    fn file(path: PathBuf) -> Result<Self> {
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_dir() => {
                Err(Failure::usage(format!("{} is a folder", path.display())))
            }
            Ok(_) => Ok(Self::File(path)),
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// Whether nothing is sent.
    pub(in crate::command) fn is_empty(&self) -> bool {
        *self == Self::Empty
    }

    /// The body, which reads the source as it is sent, and its media type, where that can be told.
    pub(in crate::command) async fn open(self) -> Result<(Body, Option<String>)> {
        Ok(match self {
            Self::Empty => (Body::from(Vec::new()), None),
            Self::Text(text) => {
                let media_type = of_text(&text).to_owned();
                (Body::from(text), Some(media_type))
            }
            Self::Stdin => piped(tokio::io::stdin()).await?,
            Self::File(path) => {
                let media_type = by_extension(&path).to_owned();
                let file = tokio::fs::File::open(&path).await;
                let file = file.map_err(|error| Failure::file("read", &path, &error))?;
                (Body::wrap_stream(ReaderStream::with_capacity(file, CHUNK_BYTES)), Some(media_type))
            }
        })
    }
}

/// A body of whatever comes out of `source`. Its first piece tells whether it is meant as JSON: nothing else that
/// is piped into functions begins with a brace or a bracket.
async fn piped(mut source: impl AsyncRead + Send + Unpin + 'static) -> Result<(Body, Option<String>)> {
    let mut first = BytesMut::with_capacity(CHUNK_BYTES);
    source.read_buf(&mut first).await?;
    let is_json = matches!(first.trim_ascii_start().first(), Some(b'{' | b'['));
    let rest = ReaderStream::with_capacity(source, CHUNK_BYTES);
    let body = Body::wrap_stream(stream::once(async { Ok(first.freeze()) }).chain(rest));
    Ok((body, is_json.then(|| "application/json".to_owned())))
}

fn of_text(text: &str) -> &'static str {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_json { "application/json" } else { "text/plain; charset=utf-8" }
}

/// The types that functions most often tell apart.
fn by_extension(path: &Path) -> &'static str {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "json" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Whether standard input is a pipe, a file or a socket rather than a terminal or nothing.
fn is_piped() -> bool {
    let Ok(stdin) = rustix::fs::fstat(std::io::stdin()) else { return false };
    let kind = rustix::fs::FileType::from_raw_mode(stdin.st_mode);
    matches!(
        kind,
        rustix::fs::FileType::Fifo | rustix::fs::FileType::RegularFile | rustix::fs::FileType::Socket
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_data_comes_from() {
        let text = |data: &str| Input::choose(Some(data.to_owned()), None);
        assert_eq!(text("x").unwrap(), Input::Text("x".to_owned()));
        assert_eq!(text("").unwrap(), Input::Empty);
        assert_eq!(text("@-").unwrap(), Input::Stdin);
        assert!(text("@/no/such/file").is_err());
        assert!(text("@/").unwrap_err().message.contains("is a folder"));
        assert_eq!(Input::choose(None, Some("-".into())).unwrap(), Input::Stdin);
    }

    #[tokio::test]
    async fn media_types_are_guessed_where_that_is_safe() {
        assert_eq!(of_text("{\"a\": 1}"), "application/json");
        assert_eq!(of_text("{a}"), "text/plain; charset=utf-8");
        assert_eq!(by_extension(Path::new("a.JPG")), "image/jpeg");
        for (text, expect) in [("", None), (" \n{\"a\":", Some("application/json")), ("\x7fELF", None)] {
            let (_, media_type) = piped(text.as_bytes()).await.unwrap();
            assert_eq!(media_type.as_deref(), expect, "{text}");
        }
    }
}
