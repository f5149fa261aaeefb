//! A compiled script: the bytecode of its modules, how they import each other, and where their lines come from.
//!
//! ```text
//! "ALSC" | engine version | export | count | module...        text = u32 length + UTF-8; numbers little-endian
//! module = name | bytecode | imports: count, (specifier, module number)... | lines: count, u32...
//! ```
//!
//! Bytecode is trusted like machine code. So an artifact is only ever made by [`crate::compile`], is kept where users
//! cannot write, and names the engine that made it; another version of the engine refuses it.

use bytes::Bytes;

/// Changes whenever bytecode or the format of artifacts may have changed: names what keeps artifacts.
pub const ENGINE_VERSION: &str = concat!("alula-script-", env!("CARGO_PKG_VERSION"), "-rquickjs-0.14-1");

const MAGIC: &[u8; 4] = b"ALSC";
/// Most parts of anything in an artifact: far more than a script has, little enough to reserve memory for.
const PARTS_MAX: usize = 1_000_000;

/// A compiled script. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifact {
    bytes: Bytes,
    pub(crate) export: Option<String>,
    pub(crate) modules: std::sync::Arc<[Compiled]>,
}

/// One module of an artifact; the first one is the script itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compiled {
    pub(crate) name: String,
    pub(crate) bytecode: Bytes,
    /// What its imports are called and which modules they are.
    pub(crate) imports: Vec<(String, usize)>,
    /// For each line of the compiled text, counted from 0, the line of the source, counted from 1; empty where they
    /// are the same.
    pub(crate) lines: Vec<u32>,
}

/// Bytes are not an artifact that this engine can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// Another version made them: compile again.
    #[error("the script was compiled for another version of the engine")]
    OtherEngine,
    /// They are cut off or are something else.
    #[error("the compiled script is damaged")]
    Damaged,
}

impl Artifact {
    /// Reads what [`Artifact::as_bytes`] gave. The bytes must come from this program and from nowhere else.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, ArtifactError> {
        let mut reader = Reader { rest: bytes.clone() };
        if &*reader.take(MAGIC.len())? != MAGIC {
            return Err(ArtifactError::Damaged);
        }
        if reader.text()? != ENGINE_VERSION {
            return Err(ArtifactError::OtherEngine);
        }
        let export = Some(reader.text()?).filter(|export| !export.is_empty());
        let modules: Vec<Compiled> = reader.list(Reader::module)?;
        let count = modules.len();
        let is_known = |module: &Compiled| module.imports.iter().all(|(_, number)| *number < count);
        if count == 0 || !reader.rest.is_empty() || !modules.iter().all(is_known) {
            return Err(ArtifactError::Damaged);
        }
        Ok(Self { bytes, export, modules: modules.into() })
    }

    /// The artifact as it is kept and sent.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn new(export: Option<&str>, modules: &[Compiled]) -> Result<Self, ArtifactError> {
        let mut out = MAGIC.to_vec();
        put(&mut out, ENGINE_VERSION.as_bytes());
        put(&mut out, export.unwrap_or_default().as_bytes());
        put_number(&mut out, modules.len());
        for module in modules {
            put(&mut out, module.name.as_bytes());
            put(&mut out, &module.bytecode);
            put_number(&mut out, module.imports.len());
            for (specifier, number) in &module.imports {
                put(&mut out, specifier.as_bytes());
                put_number(&mut out, *number);
            }
            put_number(&mut out, module.lines.len());
            out.extend(module.lines.iter().flat_map(|line| line.to_le_bytes()));
        }
        Self::from_bytes(out.into())
    }

    /// A stack trace with the lines of the source, without frames that are not the script's own.
    pub(crate) fn source_lines(&self, stack: &str) -> String {
        let is_users = |line: &&str| self.modules.iter().any(|module| line.contains(&module.name));
        let lines: Vec<String> = stack.lines().filter(is_users).map(|line| self.source_line(line)).collect();
        lines.join("\n")
    }

    /// One frame, which ends with `file:line:column` or `(file:line:column)`.
    fn source_line(&self, frame: &str) -> String {
        let mapped = || {
            let (before, column) = frame.trim_end_matches(')').rsplit_once(':')?;
            let (before, line) = before.rsplit_once(':')?;
            let (line, _): (u32, u32) = (line.parse().ok()?, column.parse().ok()?);
            let named = |module: &&Compiled| {
                before.strip_suffix(&module.name).is_some_and(|start| start.ends_with(['(', ' ']))
            };
            let module = self.modules.iter().find(named).filter(|module| !module.lines.is_empty())?;
            let source = module.lines.get(line.saturating_sub(1) as usize)?;
            let close = if frame.ends_with(')') { ")" } else { "" };
            Some(format!("{before}:{source}{close}"))
        };
        mapped().unwrap_or_else(|| frame.to_owned())
    }
}

fn put_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes, ArtifactError> {
        if length > self.rest.len() {
            return Err(ArtifactError::Damaged);
        }
        Ok(self.rest.split_to(length))
    }

    fn number(&mut self) -> Result<usize, ArtifactError> {
        let bytes = self.take(4)?;
        let bytes = <[u8; 4]>::try_from(&*bytes).map_err(|_| ArtifactError::Damaged)?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn blob(&mut self) -> Result<Bytes, ArtifactError> {
        let length = self.number()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, ArtifactError> {
        String::from_utf8(self.blob()?.to_vec()).map_err(|_| ArtifactError::Damaged)
    }

    fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, ArtifactError>,
    ) -> Result<Vec<T>, ArtifactError> {
        let count = self.number()?;
        if count > PARTS_MAX {
            return Err(ArtifactError::Damaged);
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn module(&mut self) -> Result<Compiled, ArtifactError> {
        Ok(Compiled {
            name: self.text()?,
            bytecode: self.blob()?,
            imports: self.list(|reader| Ok((reader.text()?, reader.number()?)))?,
            lines: self.list(|reader| reader.number().map(|line| u32::try_from(line).unwrap_or(u32::MAX)))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Artifact {
        let one = Compiled {
            name: "main.ts".into(),
            bytecode: Bytes::from_static(b"code"),
            imports: vec![("./b".into(), 1)],
            lines: vec![1, 5, 9],
        };
        let two = Compiled { name: "b.js".into(), ..Compiled::default() };
        Artifact::new(Some("run"), &[one, two]).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let artifact = sample();
        let again = Artifact::from_bytes(artifact.as_bytes().clone()).unwrap();
        assert_eq!((again.export.as_deref(), again.modules.len()), (Some("run"), 2));
        assert_eq!(again.modules[0].imports, [("./b".to_owned(), 1)]);
        for length in 0..artifact.as_bytes().len() {
            let cut = artifact.as_bytes().slice(..length);
            assert!(Artifact::from_bytes(cut).is_err(), "{length} bytes are no artifact");
        }
        let mut other = artifact.as_bytes().to_vec();
        other[10] ^= 1;
        assert_eq!(Artifact::from_bytes(other.into()).unwrap_err(), ArtifactError::OtherEngine);
    }

    #[test]
    fn stack_frames_name_lines_of_the_source() {
        let artifact = sample();
        let stack = "    at inner (main.ts:2:7)\n    at answer (alula:prelude:9:1)\n    at <anonymous> (b.js:4:1)\n    at main.ts:3:1";
        let expected = "    at inner (main.ts:5)\n    at <anonymous> (b.js:4:1)\n    at main.ts:9";
        assert_eq!(artifact.source_lines(stack), expected);
    }
}
