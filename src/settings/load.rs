//! Reads the settings: default.toml, the user's file, the environment; reports every problem at
//! once. Whether a provider exists and takes a source's secrets is not judged here: the caller
//! does, and adds its own problems with `Loaded::problem`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError, FileFormat, Map, Source, Value as ConfigValue, ValueKind};
use serde_json::Value;

use super::{
    SecretRef, Settings, check,
    defaults::{DEFAULTS, defaults},
    environment,
    key_path::{KeyPath, Step},
    show, typed,
};

const DEFAULTS_NAME: &str = "default.toml";
const OVERLAY_NAME: &str = "built in";
const ENVIRONMENT_NAME: &str = "environment";

/// One thing wrong in the settings: where it was written, which key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or "environment".
    pub origin: String,
    /// The key, dotted: `sources.stripe.secrets[0]`.
    pub key: String,
    pub message: String,
}

impl Problem {
    pub fn new(
        origin: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            origin: origin.into(),
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.key, self.message)
    }
}

/// All problems found, at least one.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(
            f,
            "{count} problem{} in the configuration",
            if count == 1 { "" } else { "s" }
        )?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Where settings come from. The default is no overlay, no environment, and the first file found.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// None: the first of ./hookonce.toml, $XDG_CONFIG_HOME/hookonce/hookonce.toml and
    /// /etc/hookonce/hookonce.toml that is there.
    pub file: Option<PathBuf>,
    /// The process's variables, as `std::env::vars` has them.
    pub environment: Vec<(String, String)>,
    /// TOML that is stronger than the defaults and weaker than all else. `dev` brings its sources
    /// this way.
    pub overlay: Option<String>,
}

/// Settings that passed every check but the providers'.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// The user's file, where there is one.
    pub file: Option<PathBuf>,
    origins: Origins,
}

impl Loaded {
    /// Where a key's value was written; for a key that nobody wrote, where its table was.
    pub fn origin_of(&self, key: &str) -> String {
        self.origins.of(key)
    }

    /// A problem with a key that a higher layer found.
    pub fn problem(&self, key: impl Into<String>, message: impl Into<String>) -> Problem {
        let key = key.into();
        Problem::new(self.origin_of(&key), key, message)
    }
}

/// Reads and checks the settings. All problems come together, except that a file that is no TOML is
/// reported alone.
pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
    let (loaded, problems) = read(inputs)?;
    loaded
        .filter(|_| problems.is_empty())
        .ok_or(Problems(problems))
}

/// The settings as far as they can be read, whatever else is wrong with them: for a command beside
/// a service that has checked them, which may see fewer variables and files than the service.
pub fn load_readable(inputs: &Inputs) -> Result<Loaded, Problems> {
    let (loaded, problems) = read(inputs)?;
    loaded.ok_or(Problems(problems))
}

/// The settings, if their values have the right types, and all problems.
fn read(inputs: &Inputs) -> Result<(Option<Loaded>, Vec<Problem>), Problems> {
    let file = inputs.file.clone().or_else(|| search(&inputs.environment));
    let mut layers = vec![Layer::parse(DEFAULTS_NAME.into(), DEFAULTS)?];
    if let Some(overlay) = &inputs.overlay {
        layers.push(Layer::parse(OVERLAY_NAME.into(), overlay)?);
    }
    if let Some(path) = &file {
        layers.push(Layer::read(path)?);
    }
    let schema = show::schema();
    let variables = environment::layer(&inputs.environment, &merged(&layers)?, &schema);
    layers.push(Layer {
        name: ENVIRONMENT_NAME.into(),
        values: variables.values,
    });

    let origins = Origins::of_layers(&layers);
    let mut tree = merged(&layers)?;
    let lookup = |name: &str| {
        inputs
            .environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    if tree.pointer("/database/url").is_none()
        && lookup("DATABASE_URL").is_some_and(|url| !url.is_empty())
    {
        let reference = SecretRef::Env("DATABASE_URL".into());
        KeyPath::default()
            .key("database")
            .key("url")
            .set(&mut tree, serde_json::to_value(reference).ok());
    }
    let names = check::Names::of(&tree);
    let typed = typed::typed(tree, &defaults(), &schema, |path| {
        origins.of(&path.to_string()) == ENVIRONMENT_NAME
    });

    let mut found: Vec<Problem> = variables
        .problems
        .into_iter()
        .map(|(path, message)| Problem::new(ENVIRONMENT_NAME, path.to_string(), message))
        .chain(
            typed
                .problems
                .into_iter()
                .map(|(path, message)| (path.to_string(), message))
                .map(|(key, message)| Problem::new(origins.of(&key), key, message)),
        )
        .collect();
    let broken: BTreeSet<String> = found.iter().map(|problem| problem.key.clone()).collect();
    if let Some(settings) = &typed.settings {
        let checked = check::check(settings, &names, &broken, &lookup);
        found.extend(
            checked
                .into_iter()
                .map(|(key, message)| Problem::new(origins.of(&key), key, message)),
        );
    }
    let loaded = typed.settings.map(|settings| Loaded {
        settings,
        file,
        origins,
    });
    Ok((loaded, found))
}

fn search(environment: &[(String, String)]) -> Option<PathBuf> {
    let variable = |name: &str| {
        environment
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| PathBuf::from(value))
    };
    let home = || variable("HOME").map(|home| home.join(".config"));
    let places = [
        Some(PathBuf::from("hookonce.toml")),
        variable("XDG_CONFIG_HOME")
            .or_else(home)
            .map(|folder| folder.join("hookonce/hookonce.toml")),
        Some(PathBuf::from("/etc/hookonce/hookonce.toml")),
    ];
    places.into_iter().flatten().find(|path| path.is_file())
}

/// One source of values. Layers are listed from the weakest.
#[derive(Clone, Debug)]
struct Layer {
    name: String,
    values: Map<String, ConfigValue>,
}

impl Layer {
    fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problem::new(&name, "the file", format!("can't be read: {error}")))?;
        Self::parse(name, &text)
    }

    /// Reads TOML twice. `toml`'s error names the line without quoting it; the config crate's error
    /// quotes it, and the line may hold a secret.
    fn parse(name: String, text: &str) -> Result<Self, Problem> {
        if let Err(error) = toml::from_str::<toml::Table>(text) {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            return Err(Problem::new(
                &name,
                format!("line {line}"),
                format!("is no TOML: {}", error.message()),
            ));
        }
        let values = config::File::from_str(text, FileFormat::Toml)
            .collect()
            .map_err(|error| Problem::new(&name, "the file", error.to_string()))?;
        Ok(Self { name, values })
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, ConfigValue>, ConfigError> {
        Ok(self.values.clone())
    }
}

/// All layers as one tree: tables are merged, anything else is replaced.
fn merged(layers: &[Layer]) -> Result<Value, Problem> {
    let builder = layers.iter().fold(Config::builder(), |builder, layer| {
        builder.add_source(layer.clone())
    });
    let all = builder
        .build()
        .and_then(Config::try_deserialize::<ConfigValue>);
    all.map(|value| json(&value))
        .map_err(|error| Problem::new("the configuration", "all layers", error.to_string()))
}

/// What the config crate read, as JSON, which serde then takes by its type. The config crate itself
/// would accept "yes" for true and 1.5 for 2.
fn json(value: &ConfigValue) -> Value {
    match &value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => (*value).into(),
        ValueKind::I64(value) => (*value).into(),
        ValueKind::U64(value) => (*value).into(),
        ValueKind::I128(value) => value.to_string().into(),
        ValueKind::U128(value) => value.to_string().into(),
        ValueKind::Float(value) => serde_json::Number::from_f64(*value)
            .map_or_else(|| value.to_string().into(), Value::Number),
        ValueKind::String(value) => value.clone().into(),
        ValueKind::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| (key.clone(), json(value)))
                .collect(),
        ),
        ValueKind::Array(list) => Value::Array(list.iter().map(json).collect()),
    }
}

/// Which layer each key was written in. A table that is in both the file and the environment counts
/// as the file's, because a missing key belongs there.
#[derive(Clone, Debug, Default)]
struct Origins(BTreeMap<String, String>);

impl Origins {
    fn of_layers(layers: &[Layer]) -> Self {
        let mut origins = Self::default();
        for layer in layers {
            origins
                .0
                .entry(String::new())
                .and_modify(|all| {
                    if layer.name != ENVIRONMENT_NAME {
                        all.clone_from(&layer.name)
                    }
                })
                .or_insert(layer.name.clone());
            origins.note_table(&KeyPath::default(), &layer.values, &layer.name);
        }
        origins
    }

    fn note_table(&mut self, at: &KeyPath, table: &Map<String, ConfigValue>, name: &str) {
        table
            .iter()
            .for_each(|(key, value)| self.note(&at.key(key), value, name));
    }

    fn note(&mut self, at: &KeyPath, value: &ConfigValue, name: &str) {
        let keep = matches!(value.kind, ValueKind::Table(_))
            && name == ENVIRONMENT_NAME
            && self.0.contains_key(&at.to_string());
        if !keep {
            self.0.insert(at.to_string(), name.to_owned());
        }
        match &value.kind {
            ValueKind::Table(table) => self.note_table(at, table, name),
            ValueKind::Array(list) => list
                .iter()
                .enumerate()
                .for_each(|(index, value)| self.note(&at.with(Step::Index(index)), value, name)),
            _ => {}
        }
    }

    fn of(&self, key: &str) -> String {
        let mut key = key;
        loop {
            if let Some(origin) = self.0.get(key) {
                return origin.clone();
            }
            key = key.rfind(['.', '[']).map_or("", |end| &key[..end]);
        }
    }
}
