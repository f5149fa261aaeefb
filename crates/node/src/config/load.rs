//! Reading the configuration from its three places.
//!
//! The environment is handed in, so that nothing here depends on the process it runs in. A variable is named after
//! its key: `ALULA_LISTEN_CONTROL` is `control` in `[listen]`. Its value is read as TOML where that fits the key and
//! as text otherwise.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Config;

/// Variables that belong to the command line, not to the configuration of the server.
const NOT_CONFIGURATION: &[&str] =
    &["ALULA_URL", "ALULA_TOKEN", "ALULA_PROFILE", "ALULA_NAMESPACE", "ALULA_CONFIG"];

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, where one is given; a missing default file is no error, a missing named file is.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub overrides: Overrides,
    /// Used where nothing names a data directory.
    pub default_data_dir: PathBuf,
}

/// What flags can set.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--listen`.
    pub data_plane: Option<SocketAddr>,
    /// `--control-listen`.
    pub control: Option<SocketAddr>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key that is not known or a value that does not fit.
    #[error("the configuration file {path} is wrong: {source}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A variable names no key, or its value does not fit.
    #[error("the environment variable {name} is wrong: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// Why.
        reason: String,
    },
    /// The configuration cannot be written as TOML.
    #[error("cannot print the configuration: {source}")]
    Unprintable {
        /// Why.
        source: Box<toml::ser::Error>,
    },
}

impl Config {
    /// Reads the configuration from its sources; later ones win.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut table = sources.file.as_deref().map_or_else(|| Ok(Table::new()), read_file)?;
        for (name, value) in &sources.environment {
            apply_variable(&mut table, name, value)?;
        }
        let path = sources.file.clone().unwrap_or_default();
        let malformed = |source| ConfigError::Malformed { path, source: Box::new(source) };
        let mut config: Self = Value::Table(table).try_into().map_err(malformed)?;
        let Overrides { data_dir, data_plane, control } = &sources.overrides;
        config.data_dir = data_dir.clone().unwrap_or(config.data_dir);
        config.listen.data_plane = data_plane.unwrap_or(config.listen.data_plane);
        config.listen.control = control.unwrap_or(config.listen.control);
        if config.data_dir.as_os_str().is_empty() {
            config.data_dir.clone_from(&sources.default_data_dir);
        }
        Ok(config)
    }
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let malformed = |source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) };
    // Read into the structure first: only then do errors carry the line.
    toml::from_str::<Config>(&text).map_err(malformed)?;
    toml::from_str(&text).map_err(malformed)
}

/// Puts one variable into the table, and checks that the table still is a configuration.
fn apply_variable(table: &mut Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(key) = name.strip_prefix("ALULA_").filter(|_| !NOT_CONFIGURATION.contains(&name)) else {
        return Ok(());
    };
    let key = key.to_ascii_lowercase();
    let wrong = |reason: String| ConfigError::Variable { name: name.to_owned(), reason };
    let mut last_reason = String::new();
    for value in readings(value) {
        let mut changed = table.clone();
        set(&mut changed, &key, value);
        match Value::Table(changed.clone()).try_into::<Config>() {
            Ok(_) => {
                *table = changed;
                return Ok(());
            }
            Err(error) => last_reason = error.message().to_owned(),
        }
    }
    Err(wrong(last_reason))
}

/// The value as TOML, where it is TOML, and as plain text.
fn readings(value: &str) -> Vec<Value> {
    let as_toml =
        toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
    as_toml.into_iter().chain([Value::String(value.to_owned())]).collect()
}

fn set(table: &mut Table, key: &str, value: Value) {
    let sections = Value::try_from(Config::default()).ok();
    let section = sections.as_ref().and_then(Value::as_table).into_iter().flat_map(Table::iter);
    let section = section.filter(|(_, value)| value.is_table()).find_map(|(section, _)| {
        let rest = key.strip_prefix(section.as_str())?.strip_prefix('_')?;
        Some((section.clone(), rest.to_owned()))
    });
    match section {
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(key, value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alula-config.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let sources = Sources { file: Some(path), environment, ..Sources::default() };
        Config::load(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn later_sources_win() {
        let config =
            load("[listen]\ncontrol = '127.0.0.1:1'\n", &[("ALULA_LISTEN_CONTROL", "127.0.0.1:2")]).unwrap();
        assert_eq!(config.listen.control.port(), 2);
        let config =
            load("", &[("ALULA_POOL_INSTANCES_MAX", "7"), ("ALULA_DATA_DIR", "/x"), ("HOME", "/y")]).unwrap();
        assert_eq!((config.pool.instances_max, config.data_dir), (7, PathBuf::from("/x")));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(load("[lisen]\n", &[]).unwrap_err().contains("lisen"));
        assert!(load("[pool]\ninstances_max = 'many'\n", &[]).unwrap_err().contains("line 2"));
        assert!(
            load("", &[("ALULA_POOL_INSTANCE_MAX", "7")]).unwrap_err().contains("ALULA_POOL_INSTANCE_MAX")
        );
        assert!(
            load("", &[("ALULA_POOL_INSTANCES_MAX", "many")])
                .unwrap_err()
                .contains("ALULA_POOL_INSTANCES_MAX")
        );
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let printed = Config::default().to_toml().unwrap();
        assert_eq!(load(&printed, &[]).unwrap(), Config::default());
    }

    /// Every key, with its sections: `listen.control`. Limits are tables that all look the same.
    fn keys(prefix: &str, value: &serde_json::Value) -> Vec<String> {
        let table = value.as_object().filter(|_| !prefix.starts_with("limits."));
        let Some(table) = table else { return vec![prefix.to_owned()] };
        let key = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        table.iter().flat_map(|(name, value)| keys(&key(name), value)).collect()
    }

    #[test]
    fn the_reference_page_names_every_key_and_no_other() {
        let page = include_str!("../../../../docs/operating.md");
        // As JSON, because TOML leaves out what is not set.
        let keys = keys("", &serde_json::to_value(Config::default()).unwrap());
        for key in &keys {
            assert!(page.contains(&format!("| `{key}` |")), "docs/operating.md has no row for {key}");
        }
        let (table, _) = page.split_once("## Data directory").unwrap();
        assert_eq!(table.lines().filter(|line| line.starts_with("| `")).count(), keys.len());
    }
}
