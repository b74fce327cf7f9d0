//! Places that change when a provider sends an event again. They are left out of the digest by
//! which two bodies are compared.

use crate::{
    compiler::Compiler, digest::BodyDigest, locate::json::Pointers, request::is_form,
    spec::SchemeSpec,
};

/// The places that are left out of the digest: `body:PATH` and `form:NAME`.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    in_json: Pointers,
    in_form: Vec<String>,
}

impl Ignored {
    /// Reads places. Of each that is none, its index and what is wrong with it.
    pub fn new(places: &[String]) -> Result<Self, Vec<(usize, String)>> {
        let mut ignored = Self::default();
        let problems: Vec<(usize, String)> = places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| Some((index, ignored.add(place).err()?)))
            .collect();
        if problems.is_empty() {
            Ok(ignored)
        } else {
            Err(problems)
        }
    }

    fn add(&mut self, place: &str) -> Result<(), String> {
        match place.split_once(':') {
            Some(("body", path)) if !path.is_empty() => self.in_json.add(path).map(drop),
            Some(("form", name)) if !name.is_empty() => {
                self.in_form.push(name.to_owned());
                Ok(())
            }
            _ => Err(format!(
                "{place:?} is no place that can be ignored: write body:PATH or form:NAME"
            )),
        }
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.in_json.is_empty() && self.in_form.is_empty()
    }

    /// The digest of this document without what is ignored in it.
    pub fn digest(&self, document: &[u8]) -> BodyDigest {
        if !self.in_form.is_empty() && is_form(document) {
            let is_kept = |pair: &&[u8]| {
                let name = url::form_urlencoded::parse(pair)
                    .next()
                    .map(|(name, _)| name.into_owned())
                    .unwrap_or_default();
                !self.in_form.contains(&name)
            };
            return BodyDigest::of(
                &document
                    .split(|byte| *byte == b'&')
                    .filter(is_kept)
                    .collect::<Vec<_>>()
                    .join(&b'&'),
            );
        }
        let text = std::str::from_utf8(document)
            .ok()
            .filter(|_| !self.in_json.is_empty());
        let kept = text.and_then(|text| self.in_json.without(text));
        kept.map_or_else(
            || BodyDigest::of(document),
            |kept| BodyDigest::of(kept.as_bytes()),
        )
    }
}

impl Compiler {
    /// The compiled `ignore`.
    pub(crate) fn ignored(&mut self, spec: &SchemeSpec) -> Ignored {
        let mut ignored = Ignored::default();
        for (index, place) in spec.ignore.iter().enumerate() {
            let added = ignored.add(place);
            self.keep(&format!("ignore[{index}]"), added);
        }
        ignored
    }
}
