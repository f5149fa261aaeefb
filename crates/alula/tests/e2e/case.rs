//! A case as a folder: `case.toml` says what is deployed, what is called and what must come back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::platform::{Platform, client, text};

/// `case.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What the case shows.
    #[expect(dead_code, reason = "for the reader of the folder")]
    about: String,
    /// Programs that the case needs on the machine.
    #[serde(default)]
    needs: Vec<String>,
    /// Steps in order.
    step: Vec<Step>,
}

/// One step: a command line or a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Arguments of `alula`; paths are relative to the case's folder. `{port}`, `{control_port}`, `{data_dir}`,
    /// `{pid}` (of the platform), `{token}` (the administrator's) and `{host_address}` are filled in here, in headers and in
    /// bodies.
    alula: Option<Vec<String>>,
    /// Exit code of the command.
    #[serde(default)]
    code: i32,
    /// Method and path of a request, `POST /function/x`.
    request: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// A file relative to the case's folder, or absolute.
    body_file: Option<PathBuf>,
    /// Status of the answer.
    status: Option<u16>,
    /// The whole answer, or standard output.
    equals: Option<String>,
    /// A file with the whole answer.
    equals_file: Option<PathBuf>,
    /// Texts that the answer, or both outputs, must hold.
    #[serde(default)]
    contains: Vec<String>,
    /// Texts that must not be there.
    #[serde(default)]
    lacks: Vec<String>,
    /// Headers of the answer and the text that each must hold.
    #[serde(default)]
    answers: BTreeMap<String, String>,
    /// First bytes of the answer, in hexadecimal.
    starts_with_hex: Option<String>,
}

impl Case {
    pub(crate) fn read(folder: &Path) -> Self {
        let path = folder.join("case.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A program that the case needs and that is missing.
    pub(crate) fn missing(&self) -> Option<&str> {
        let is_there = |program: &str| {
            ["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|d| Path::new(d).join(program).exists())
        };
        let is_met = |need: &&String| {
            if need.starts_with('/') { Path::new(need.as_str()).exists() } else { is_there(need) }
        };
        self.needs.iter().find(|need| !is_met(need)).map(String::as_str)
    }

    /// Runs every step; the first that fails is told.
    pub(crate) async fn run(&self, folder: &Path, platform: &Platform) -> Result<(), String> {
        for (index, step) in self.step.iter().enumerate() {
            let result = match (&step.alula, &step.request) {
                (Some(arguments), None) => step.run_command(folder, arguments, platform),
                (None, Some(request)) => step.send(folder, request, platform).await,
                _ => Err("a step has either `alula` or `request`".to_owned()),
            };
            result.map_err(|reason| format!("step {}: {reason}", index + 1))?;
        }
        Ok(())
    }
}

impl Step {
    fn run_command(&self, folder: &Path, arguments: &[String], platform: &Platform) -> Result<(), String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| fill(argument, platform)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = platform.command(&arguments).current_dir(folder).output().map_err(|e| e.to_string())?;
        let both = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
        if output.status.code() != Some(self.code) {
            return Err(format!("alula {arguments:?} ended with {:?}:\n{both}", output.status.code()));
        }
        self.check(&output.stdout, &both)
    }

    async fn send(&self, folder: &Path, request: &str, platform: &Platform) -> Result<(), String> {
        let (method, path) = request.split_once(' ').ok_or("a request is `METHOD /path`")?;
        let method = method.parse().map_err(|_| "not a method")?;
        let mut builder = client().request(method, platform.url(path));
        for (name, value) in &self.headers {
            builder = builder.header(name, fill(value, platform));
        }
        if let Some(file) = &self.body_file {
            builder = builder
                .body(std::fs::read(folder.join(file)).map_err(|e| format!("{}: {e}", file.display()))?);
        } else if let Some(body) = &self.body {
            builder = builder.body(fill(body, platform));
        }
        let response = builder.send().await.map_err(|e| format!("{request}: {e:?}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(|e| format!("{request}: {e:?}"))?;
        let shown = text(&body);
        if self.status.is_some_and(|expected| expected != status) {
            return Err(format!("{request} answered {status}:\n{shown}"));
        }
        for (name, part) in &self.answers {
            let value = headers.get(name).map(|v| text(v.as_bytes())).unwrap_or_default();
            if !value.contains(part) {
                return Err(format!("{request}: header {name} is {value:?}, not {part:?}"));
            }
        }
        self.check(&body, &shown)
    }

    fn check(&self, exact: &[u8], shown: &str) -> Result<(), String> {
        if let Some(expected) = &self.equals
            && expected.as_bytes() != exact
        {
            return Err(format!("expected {expected:?}, got {shown:?}"));
        }
        if let Some(file) = &self.equals_file
            && std::fs::read(file).map_err(|e| e.to_string())? != exact
        {
            return Err(format!("the answer is not the content of {}", file.display()));
        }
        if let Some(part) = self.contains.iter().find(|part| !shown.contains(part.as_str())) {
            return Err(format!("{part:?} is missing in:\n{shown}"));
        }
        if let Some(part) = self.lacks.iter().find(|part| shown.contains(part.as_str())) {
            return Err(format!("{part:?} must not be in:\n{shown}"));
        }
        let start: String = exact.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        match &self.starts_with_hex {
            Some(expected) if !start.starts_with(expected.as_str()) => Err(format!("begins with {start}")),
            _ => Ok(()),
        }
    }
}

/// What the platform under test is known by, put into a text of a case.
fn fill(text: &str, platform: &Platform) -> String {
    let values = [
        ("{port}", platform.port.to_string()),
        ("{control_port}", platform.control_port.to_string()),
        ("{data_dir}", platform.data_dir.display().to_string()),
        ("{pid}", platform.pid().to_string()),
        ("{token}", platform.token()),
        ("{host_address}", host_address()),
    ];
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// The address of this machine towards others; its loopback address where it has no other.
fn host_address() -> String {
    let outward = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        socket.local_addr().ok()
    };
    outward().map_or_else(|| "127.0.0.1".to_owned(), |address| address.ip().to_string())
}
