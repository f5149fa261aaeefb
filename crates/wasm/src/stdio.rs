//! The guest's standard output and error, as log lines of its instance.
//!
//! Writing never blocks; a guest over its instance's budget has its lines dropped and counted and is made to wait.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use alula_model::{InvocationId, LogLevel, LogStream};
use alula_runtime::{FLOOD_PAUSE, Lines, Output};
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes taken in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Takes what one guest writes, for the call that it runs.
#[derive(Debug)]
pub(crate) struct GuestLog {
    output: Arc<Output>,
    state: Mutex<State>,
    is_flooding: AtomicBool,
}

#[derive(Debug)]
struct State {
    call: Option<InvocationId>,
    stdout: Lines,
    stderr: Lines,
}

impl State {
    fn lines(&mut self, stream: LogStream) -> &mut Lines {
        if stream == LogStream::Stdout { &mut self.stdout } else { &mut self.stderr }
    }
}

impl GuestLog {
    pub(crate) fn new(output: Arc<Output>) -> Self {
        let (stdout, stderr) = (output.lines(), output.lines());
        let state = Mutex::new(State { call: None, stdout, stderr });
        Self { output, state, is_flooding: AtomicBool::new(false) }
    }

    /// What is written from now on belongs to `call`.
    pub(crate) fn begin(&self, call: InvocationId) {
        self.state().call = Some(call);
    }

    /// Passes on lines that have no end.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            while let Some(text) = state.lines(stream).rest() {
                self.output.line(state.call.as_ref(), stream, LogLevel::Info, text);
            }
        }
    }

    fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mut state = self.state();
        state.lines(stream).push(bytes);
        while let Some(text) = state.lines(stream).next_line() {
            self.output.line(state.call.as_ref(), stream, LogLevel::Info, text);
        }
        if self.output.is_flooded() {
            self.is_flooding.store(true, Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Gives a guest as many handles on one of its streams as it asks for.
#[derive(Debug, Clone)]
pub(crate) struct LogStreams {
    log: Arc<GuestLog>,
    stream: LogStream,
}

impl LogStreams {
    pub(crate) fn new(log: &Arc<GuestLog>, stream: LogStream) -> Self {
        Self { log: Arc::clone(log), stream }
    }
}

impl IsTerminal for LogStreams {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStreams {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStreams {
    async fn ready(&mut self) {
        if self.log.is_flooding.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(FLOOD_PAUSE).await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LogStreams {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let is_flooding = self.log.is_flooding.load(Ordering::Relaxed);
        Ok(if is_flooding { 0 } else { WRITE_BYTES_MAX })
    }
}

impl AsyncWrite for LogStreams {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
