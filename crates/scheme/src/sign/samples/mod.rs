//! Full bodies that look as a provider's do, for senders' tools and tests: `config/samples/*.toml`,
//! one file a provider. Nothing is signed here, and no clock is read: the time is given.

mod moment;
mod story;

use std::{collections::BTreeMap, sync::LazyLock};

use include_dir::{Dir, include_dir};
use serde::Deserialize;

pub use self::story::{Made, Story};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../config/samples");
static LIBRARY: LazyLock<BTreeMap<&'static str, Samples>> = LazyLock::new(|| {
    let files = FILES.files().filter_map(|file| {
        let name = file.path().file_stem()?.to_str()?;
        Some((name, file.contents_utf8()?))
    });
    files
        .map(|(name, text)| {
            let samples =
                toml::from_str(text).unwrap_or_else(|error| panic!("samples of {name}: {error}"));
            (name, samples)
        })
        .collect()
});

/// How many characters a mistyped name has wrong.
const SLIP_MAX: usize = 2;

/// A provider's samples. Texts in them have places to fill: `${…}`, see [`Story`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    /// Where the provider documents its payloads.
    pub docs: String,
    /// What is documented, what was seen, what is recalled.
    pub sure: String,
    /// The form of an event's id.
    id: String,
    content_type: Option<String>,
    /// The bodies' white space is the provider's own. Otherwise it is left out.
    #[serde(default)]
    as_written: bool,
    /// What ends each body.
    #[serde(default)]
    end: String,
    /// Beside those that the scheme itself puts: they are signed, or the id, the time, the type.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Texts that several samples use, by their names.
    #[serde(default)]
    values: BTreeMap<String, String>,
    sample: Vec<Sample>,
    #[serde(default)]
    scenarios: BTreeMap<String, Scenario>,
}

/// One sample of a provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// By which it is asked for, if several samples have one type, or this has none.
    name: Option<String>,
    /// The type that the provider's scheme finds in it.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    id: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// JSON.
    body: Option<String>,
    /// A form's fields, one a line.
    form: Option<String>,
}

impl Sample {
    /// By which it is asked for.
    pub fn name(&self) -> &str {
        let name = self.name.as_deref().or(self.event_type.as_deref());
        name.unwrap_or_default()
    }
}

/// Events that come one after the other and are about the same things.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// In a few words.
    pub about: String,
    /// Names of samples.
    pub steps: Vec<String>,
}

impl Samples {
    /// Those of a built-in provider.
    pub fn of(provider: &str) -> Option<&'static Self> {
        LIBRARY.get(provider)
    }

    /// The providers that have some.
    pub fn providers() -> impl Iterator<Item = &'static str> {
        LIBRARY.keys().copied()
    }

    /// In the order of the file: the first is what is sent if nothing is asked for.
    pub fn all(&self) -> &[Sample] {
        &self.sample
    }

    /// The sample of this name, or else the first of this type.
    pub fn get(&self, name: &str) -> Option<&Sample> {
        let named = self.sample.iter().find(|sample| sample.name() == name);
        let typed = |sample: &&Sample| sample.event_type.as_deref() == Some(name);
        named.or_else(|| self.sample.iter().find(typed))
    }

    /// The sample whose body has the shape that such a type probably has: that of a type which
    /// differs by a slip of the hand, or else the one whose name begins most like it.
    pub fn nearest_shape(&self, event_type: &str) -> Option<&Sample> {
        let slip =
            |sample: &&Sample| strsim::damerau_levenshtein(sample.name(), event_type) <= SLIP_MAX;
        if let Some(sample) = self.sample.iter().find(slip) {
            return Some(sample);
        }
        let same = |sample: &Sample| {
            let pairs = sample.name().bytes().zip(event_type.bytes());
            pairs.take_while(|(one, other)| one == other).count()
        };
        // Of equals the first counts.
        self.sample
            .iter()
            .rev()
            .filter(|sample| sample.event_type.is_some())
            .max_by_key(|sample| same(sample))
    }

    /// The headers beside those of the scheme: lower-case names, and texts with places to fill.
    pub fn headers(&self) -> BTreeMap<&str, &str> {
        let own = self.sample.iter().flat_map(|sample| &sample.headers);
        let all = own.chain(&self.headers);
        all.map(|(name, text)| (name.as_str(), text.as_str()))
            .collect()
    }

    /// By name.
    pub fn scenarios(&self) -> &BTreeMap<String, Scenario> {
        &self.scenarios
    }
}

#[cfg(test)]
mod tests;
