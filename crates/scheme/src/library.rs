//! The built-in library of schemes: `config/providers/*.toml` and the other names of providers, as
//! texts. It reads such a text and compiles nothing.

use std::{collections::BTreeMap, sync::LazyLock};

use include_dir::{Dir, include_dir};

use crate::{error::SchemeError, spec::SchemeSpec};

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../config/providers");
/// Other names of the providers.
pub(crate) static ALIASES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let text = include_str!("../../../config/provider-aliases.toml");
    toml::from_str(text).unwrap_or_else(|error| panic!("the built-in aliases: {error}"))
});

/// Name and text of each file.
pub(crate) fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN
        .files()
        .filter_map(|file| Some((file.path().file_stem()?.to_str()?, file.contents_utf8()?)))
}

/// Reads one provider file. Unknown keys are errors.
pub(crate) fn read(text: &str) -> Result<SchemeSpec, SchemeError> {
    let document: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| SchemeError::new("", error.message()))?;
    strict(document)
}

/// Deserializes a scheme. The error names the key; for an unknown key it names the known ones.
pub(crate) fn strict<'de, D>(document: D) -> Result<SchemeSpec, SchemeError>
where
    D: serde::Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let document = serde_path_to_error::Deserializer::new(document, &mut track);
    let spec = serde_ignored::deserialize(document, |path| {
        // The path has a step of its own for an optional table: `?`.
        unknown.get_or_insert_with(|| path.to_string().replace(".?", ""));
    });
    match (spec, unknown) {
        (Ok(_), Some(key)) => Err(SchemeError::new(
            &key,
            "is not a key of a provider's scheme: `hookonce config schema` lists them",
        )),
        (Ok(spec), None) => Ok(spec),
        (Err(error), _) => {
            let key = track.path().to_string();
            Err(SchemeError::new(
                if key == "." { "" } else { &key },
                error.to_string().trim_end(),
            ))
        }
    }
}
