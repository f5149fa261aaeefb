//! Newline-delimited JSON: turns the chunks of a body into values, one a line, as they come.
//!
//! It holds one unfinished line at most, and no more than [`LINE_BYTES_MAX`] of it.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use serde::de::DeserializeOwned;

use crate::{ClientError, Result};

/// Longest line that is taken: a whole log line or the description of a version fits many times over.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The values of `chunks` as they arrive. Ends after the first error.
pub(crate) fn values<T, S>(url: String, chunks: S) -> impl Stream<Item = Result<T>> + Send
where
    T: DeserializeOwned + Send,
    S: Stream<Item = Result<Bytes>> + Send + Unpin,
{
    let reader = Lines { url, chunks, buffer: BytesMut::new(), searched: 0, state: State::Open };
    stream::unfold(reader, |mut reader| async move {
        let value = reader.next_value().await?;
        if value.is_err() {
            reader.give_up();
        }
        Some((value, reader))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

struct Lines<S> {
    url: String,
    chunks: S,
    buffer: BytesMut,
    /// So many bytes of the buffer are known to hold no line end.
    searched: usize,
    state: State,
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Lines<S> {
    async fn next_value<T: DeserializeOwned>(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(line) = self.take_line() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(
                    serde_json::from_slice(&line).map_err(|error| self.not_alula(error.to_string())),
                );
            }
            if self.state == State::Ended {
                return None;
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Some(Err(self.not_alula("a line of the answer is too long".to_owned())));
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Some(Err(error)),
                None => self.state = State::Ended,
            }
        }
    }

    /// Takes nothing more, also not what has already come.
    fn give_up(&mut self) {
        self.state = State::Ended;
        self.buffer.clear();
        self.searched = 0;
    }

    /// The next whole line, or what is left once the body has ended.
    fn take_line(&mut self) -> Option<BytesMut> {
        if let Some(offset) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
            let line = self.buffer.split_to(self.searched + offset);
            self.buffer.advance(1);
            self.searched = 0;
            return Some(line);
        }
        self.searched = self.buffer.len();
        (self.state == State::Ended && !self.buffer.is_empty()).then(|| {
            self.searched = 0;
            self.buffer.split()
        })
    }

    fn not_alula(&self, reason: String) -> ClientError {
        ClientError::NotAlula { url: self.url.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: &[&str]) -> Vec<Result<u32>> {
        let chunks: Vec<Result<Bytes>> =
            chunks.iter().map(|c| Ok(Bytes::copy_from_slice(c.as_bytes()))).collect();
        values("http://x".to_owned(), stream::iter(chunks)).collect().await
    }

    #[tokio::test]
    async fn lines_may_be_split_anywhere() {
        let values: Vec<u32> =
            read(&["1", "2\n3", "\n\n", "4"]).await.into_iter().map(|v| v.unwrap()).collect();
        assert_eq!(values, [12, 3, 4]);
    }

    #[tokio::test]
    async fn ends_after_the_first_error() {
        let values = read(&["1\n<html>\n2\n"]).await;
        assert_eq!(values.len(), 2);
        assert!(matches!(values[1], Err(ClientError::NotAlula { .. })));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let chunk = "1".repeat(LINE_BYTES_MAX / 2 + 1);
        let values = read(&[&chunk, &chunk, &chunk]).await;
        assert!(matches!(values.as_slice(), [Err(ClientError::NotAlula { .. })]));
    }
}
