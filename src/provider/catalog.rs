//! The schemes that are known: built-in ones from `config/providers/*.toml`, and the user's own. Each is compiled once into a plan;
//! every mistake in one is reported with its key.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    SchemeError,
    candidates::Grammar,
    json::Pointers,
    mac::Step,
    selector::{Place, Selector},
    template::Template,
};
use crate::settings::{
    SchemeSpec,
    scheme::{Algorithm, ChallengeSpec, Direction, Encoding, TimeSpec, TimeUnit},
};

macro_rules! built_in {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../config/providers/", $name, ".toml")))),*] };
}

const BUILT_IN: [(&str, &str); 8] = built_in!("github" "hmac" "shopify" "slack" "standard-webhooks" "stripe" "svix" "token");

/// One bit each while a request's headers are counted.
const HEADERS_MAX: usize = u64::BITS as usize;

/// A provider's scheme: as it was written, and as it is run.
pub struct Scheme {
    pub name: String,
    pub spec: SchemeSpec,
    pub(super) plan: Plan,
}

pub struct Catalog {
    schemes: BTreeMap<String, Arc<Scheme>>,
}

/// A compiled scheme.
pub(super) struct Plan {
    pub algorithm: Algorithm,
    pub steps: Vec<Step>,
    pub grammar: Grammar,
    pub signature: Selector,
    /// Each alternative counts, not the first alone.
    pub every: bool,
    pub content: Option<Template>,
    pub time: Option<Time>,
    pub id: Option<Selector>,
    pub key: Option<Selector>,
    pub event_type: Option<Selector>,
    pub challenge: Option<Challenge>,
    /// Headers that a request may have once: whoever reads the other one would see another request.
    pub once: Vec<String>,
    /// Places in the body that verifying needs, and those read once it is done.
    pub before: Pointers,
    pub after: Pointers,
}

pub(super) struct Time {
    pub from: Selector,
    pub unit: TimeUnit,
    pub tolerance_ms: Option<i64>,
    pub direction: Direction,
}

pub(super) struct Challenge {
    pub method: Option<String>,
    pub when: Selector,
    pub equals: Option<String>,
    pub answer: Selector,
    pub member: Option<String>,
    pub unsigned: bool,
}

impl Catalog {
    /// The built-in schemes and the user's own (`[providers.NAME]`), all errors together.
    pub fn new(own: &BTreeMap<String, SchemeSpec>) -> Result<Self, Vec<SchemeError>> {
        let mut schemes = BTreeMap::new();
        let mut errors = Vec::new();
        let mut add = |name: &str, scheme: Result<Scheme, Vec<SchemeError>>| match scheme {
            Ok(scheme) => drop(schemes.insert(name.to_owned(), Arc::new(scheme))),
            Err(found) => errors.extend(found.into_iter().map(|error| error.within(&format!("providers.{name}")))),
        };
        for (name, text) in BUILT_IN {
            add(name, read(text).map_err(|error| vec![error]).and_then(|spec| Scheme::new(name, spec)));
        }
        for (name, spec) in own {
            let taken = BUILT_IN.iter().any(|(known, _)| known == name);
            let refused =
                || vec![SchemeError::new("", "is built in: give your own provider another name, or set what differs in the source")];
            add(name, if taken { Err(refused()) } else { Scheme::new(name, spec.clone()) });
        }
        if errors.is_empty() { Ok(Self { schemes }) } else { Err(errors) }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Scheme>> {
        self.schemes.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Scheme>> {
        self.schemes.values()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.schemes.keys().map(String::as_str)
    }
}

/// Reads one provider file. Unknown keys are errors.
fn read(text: &str) -> Result<SchemeSpec, SchemeError> {
    let document: toml::Table = text.parse().map_err(|error: toml::de::Error| SchemeError::new("", error.message()))?;
    strict(document)
}

/// Deserializes a scheme; the error names the key, and for an unknown one what would be known.
pub(super) fn strict<'de, D>(document: D) -> Result<SchemeSpec, SchemeError>
where
    D: serde::Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let document = serde_path_to_error::Deserializer::new(document, &mut track);
    let spec = serde_ignored::deserialize(document, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    match (spec, unknown) {
        (Ok(_), Some(key)) => Err(SchemeError::new(&key, "is not a key of a provider's scheme: `hookonce config schema` lists them")),
        (Ok(spec), None) => Ok(spec),
        (Err(error), _) => {
            let key = track.path().to_string();
            Err(SchemeError::new(if key == "." { "" } else { &key }, error.to_string().trim_end()))
        }
    }
}

impl Scheme {
    pub(super) fn new(name: &str, spec: SchemeSpec) -> Result<Self, Vec<SchemeError>> {
        let plan = Plan::new(&spec)?;
        Ok(Self { name: name.into(), spec, plan })
    }
}

/// Gathers errors while a scheme is compiled.
#[derive(Default)]
struct Compiler {
    errors: Vec<SchemeError>,
}

impl Compiler {
    fn keep<T>(&mut self, key: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.errors.push(SchemeError::new(key, &message))).ok()
    }

    fn selector(&mut self, key: &str, text: &str, pointers: &mut Pointers) -> Option<Selector> {
        self.keep(key, Selector::parse(text, pointers))
    }

    fn time(&mut self, spec: &TimeSpec, before: &mut Pointers) -> Option<Time> {
        Some(Time {
            from: self.selector("time.from", &spec.from, before)?,
            unit: spec.unit,
            tolerance_ms: spec.tolerance.map(|tolerance| i64::try_from(tolerance.as_millis()).unwrap_or(i64::MAX)),
            direction: spec.direction,
        })
    }

    fn challenge(&mut self, spec: &ChallengeSpec, after: &mut Pointers) -> Option<Challenge> {
        let when = self.selector("challenge.when", &spec.when, after);
        let answer = self.selector("challenge.answer", &spec.answer, after);
        Some(Challenge {
            method: spec.method.clone(),
            when: when?,
            equals: spec.equals.clone(),
            answer: answer?,
            member: spec.member.clone(),
            unsigned: spec.unsigned,
        })
    }

    /// What one part alone can't know.
    fn cross_check(&mut self, spec: &SchemeSpec, content: Option<&Template>) {
        let mut demand = |holds: bool, key: &str, message: &str| {
            if !holds {
                self.errors.push(SchemeError::new(key, message));
            }
        };
        let hashed = matches!(spec.algorithm, Algorithm::Sha1 | Algorithm::Sha256);
        if let Some(content) = content {
            demand(!content.has_timestamp() || spec.time.is_some(), "time", "is missing: the content has {timestamp}");
            demand(!content.has_id() || spec.id.is_some(), "id", "is missing: the content has {id}");
            demand(content.has_secret() == hashed, "content", "{secret} belongs into a plain hash (sha1, sha256), and only there");
        }
        let token = spec.algorithm == Algorithm::Token;
        demand(!token || spec.content.is_none(), "content", "has no meaning with algorithm = \"token\"");
        demand(
            token || spec.encoding != Some(Encoding::Plain),
            "encoding",
            "\"plain\" is for tokens: write \"hex\", \"base64\" or \"base64url\"",
        );
        let built = !matches!(spec.algorithm, Algorithm::EcdsaP256Sha256 | Algorithm::RsaSha256);
        demand(built, "algorithm", "is named by the grammar and not built yet");
    }
}

impl Plan {
    fn new(spec: &SchemeSpec) -> Result<Self, Vec<SchemeError>> {
        let mut compiler = Compiler::default();
        let (mut before, mut after) = (Pointers::default(), Pointers::default());
        let token = spec.algorithm == Algorithm::Token;
        let encoding = spec.encoding.unwrap_or(if token { Encoding::Plain } else { Encoding::Hex });
        let grammar = Grammar::new(&spec.signature, encoding, token)
            .map_err(|(key, message)| compiler.errors.push(SchemeError::new(&format!("signature.{key}"), &message)))
            .ok();
        let signature = compiler.selector("signature.from", &spec.signature.from, &mut before);
        if signature.as_ref().is_some_and(|selector| selector.places().any(|place| matches!(place, Place::Signature(_)))) {
            compiler.errors.push(SchemeError::new("signature.from", "a signature can't be a part of itself"));
        }
        let text = spec.content.as_deref().unwrap_or("{body}");
        let content = if token { None } else { compiler.keep("content", Template::parse(text, &mut before)) };
        compiler.cross_check(spec, content.as_ref());
        let steps = spec.secret.iter().enumerate().map(|(i, step)| compiler.keep(&format!("secret[{i}]"), Step::parse(step))).collect();
        let time = spec.time.as_ref().and_then(|time| compiler.time(time, &mut before));
        let id = spec.id.as_deref().and_then(|id| compiler.selector("id", id, &mut before));
        let key = spec.key.as_deref().and_then(|key| compiler.selector("key", key, &mut after));
        let event_type = spec.event_type.as_deref().and_then(|text| compiler.selector("type", text, &mut after));
        let challenge = spec.challenge.as_ref().and_then(|challenge| compiler.challenge(challenge, &mut after));
        let read = [signature.as_ref(), time.as_ref().map(|time| &time.from), id.as_ref(), key.as_ref(), event_type.as_ref()];
        let once = headers_of(read.into_iter().flatten());
        if once.len() > HEADERS_MAX {
            compiler.errors.push(SchemeError::new("", &format!("names more than {HEADERS_MAX} headers")));
        }
        match (grammar, signature, steps, compiler.errors.is_empty()) {
            (Some(grammar), Some(signature), Some(steps), true) => {
                let (algorithm, every) = (spec.algorithm, spec.signature.every);
                Ok(Self { algorithm, steps, grammar, signature, every, content, time, id, key, event_type, challenge, once, before, after })
            }
            _ => Err(compiler.errors),
        }
    }
}

fn headers_of<'s>(selectors: impl Iterator<Item = &'s Selector>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for place in selectors.flat_map(Selector::places) {
        if let Place::Header(name) = place
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_built_in_and_sound() {
        let catalog = Catalog::new(&BTreeMap::new()).map_err(|errors| format!("{errors:?}")).unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/providers");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(catalog.names().collect::<Vec<_>>(), files);
        for scheme in catalog.iter() {
            let written = toml::to_string(&scheme.spec).unwrap();
            assert!(read(&written).is_ok(), "{} reads back what it writes: {written}", scheme.name);
        }
    }

    fn errors_of(toml: &str) -> Vec<String> {
        let scheme = read(toml).map_err(|error| vec![error]).and_then(|spec| Scheme::new("own", spec));
        scheme.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_are_reported_with_their_key() {
        let base = "algorithm = 'hmac-sha256'\nsignature = { from = 'header:x' }\n";
        for (toml, expected) in [
            (format!("{base}colour = 'red'"), "colour: is not a key"),
            ("algorithm = 'md5'\nsignature = { from = 'header:x' }".into(), "algorithm: unknown variant `md5`"),
            ("algorithm = 'hmac-sha256'\nsignature = { from = 'x' }".into(), "signature.from: \"x\" names no place"),
            ("algorithm = 'hmac-sha256'\nsignature = { from = 'header:x', spilt = ',' }".into(), "signature.spilt: is not a key"),
            ("algorithm = 'rsa-sha256'\nsignature = { from = 'header:x' }".into(), "algorithm: is named"),
            (format!("{base}content = '{{timestamp}}.{{body}}'"), "time: is missing"),
            (format!("{base}content = '{{id}}.{{body}}'"), "id: is missing"),
            (format!("{base}content = '{{secret}}{{body}}'"), "content: {secret}"),
            (format!("{base}secret = ['base46']"), "secret[0]: \"base46\" is no step"),
            (format!("{base}window = 3"), "window: 3 has no unit"),
            (format!("{base}encoding = 'plain'"), "encoding: \"plain\" is for tokens"),
            (format!("{base}key = 'header:a?'"), "key: \"header:a?\""),
            (
                format!("{base}key = '{}'", (0..70).map(|i| format!("header:h{i}")).collect::<Vec<_>>().join("|")),
                "names more than 64 headers",
            ),
            ("algorithm = 'hmac-sha256'".into(), "missing field `signature`"),
        ] {
            let errors = errors_of(&toml);
            assert!(errors.iter().any(|error| error.contains(expected)), "{toml}\n{errors:?}");
        }
        assert!(errors_of(base).is_empty());
    }

    #[test]
    fn all_errors_come_together_and_a_built_in_name_is_taken() {
        let spec = |toml: &str| read(toml).unwrap();
        let own = BTreeMap::from([
            ("acme".into(), spec("algorithm = 'hmac-sha256'\nkey = 'nowhere'\ncontent = ''\nsignature = { from = 'header:x' }")),
            ("stripe".into(), spec("algorithm = 'hmac-sha256'\nsignature = { from = 'header:x' }")),
        ]);
        let keys: Vec<String> = Catalog::new(&own).err().unwrap().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["providers.acme.content", "providers.acme.key", "providers.stripe"]);
    }
}
