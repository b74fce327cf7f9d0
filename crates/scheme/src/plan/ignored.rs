//! Places that change when a provider sends an event again. They are left out of the digest by
//! which two bodies are compared.

use crate::{
    compiler::Compiler, digest::BodyDigest, locate::json::Pointers, request::is_form,
    spec::SchemeSpec,
};

/// The places that are left out of the digest.
#[derive(Default)]
pub(crate) struct Ignored {
    in_json: Pointers,
    in_form: Vec<String>,
}

impl Ignored {
    /// Whether nothing is left out.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_json.is_empty() && self.in_form.is_empty()
    }

    /// The digest of this document without what is ignored in it.
    pub(crate) fn digest(&self, document: &[u8]) -> BodyDigest {
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
        for (index, text) in spec.ignore.iter().enumerate() {
            let place = match text.split_once(':') {
                Some(("body", path)) if !path.is_empty() => ignored.in_json.add(path).map(drop),
                Some(("form", name)) if !name.is_empty() => {
                    ignored.in_form.push(name.to_owned());
                    Ok(())
                }
                _ => Err(format!(
                    "{text:?} is no place that can be ignored: write body:PATH or form:NAME"
                )),
            };
            self.keep(&format!("ignore[{index}]"), place);
        }
        ignored
    }
}
