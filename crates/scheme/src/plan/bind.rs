//! What must hold between parts of a request besides its signature: a signed hash that is the
//! body's, a claim that names the sender. It is checked once the signature is right.

use std::collections::BTreeMap;

use crate::{
    compiler::Compiler,
    locate::{
        json::Pointers,
        piece::{Absent, Values},
        selector::{Inputs, Place, Selector},
        template::{Template, bytes_of},
    },
    rejection::{Reason, Rejection},
};

/// A place, and the value that must be there.
pub(crate) struct Bind {
    pub(crate) place: Selector,
    written: String,
    /// Nothing is compared if either side is missing.
    optional: bool,
    /// Nothing is compared if the body is empty.
    bodiless: bool,
    pub(crate) must: Must,
}

/// What must be at a place.
pub(crate) enum Must {
    BeThere,
    BeAbsent,
    Be(Template),
}

impl Compiler {
    /// The compiled `binds`.
    pub(crate) fn binds(
        &mut self,
        spec: &BTreeMap<String, String>,
        before: &mut Pointers,
    ) -> Vec<Bind> {
        let mut binds = Vec::new();
        for (written, value) in spec {
            let key = format!("binds.{written}");
            let (text, optional) = written
                .strip_suffix('?')
                .map_or((written.as_str(), false), |text| (text, true));
            let (value, bodiless) = match value
                .strip_prefix("{hash:")
                .and_then(|rest| rest.strip_suffix("?}"))
            {
                Some(hash) => (format!("{{hash:{hash}}}"), true),
                None => (value.clone(), false),
            };
            let must = match value.as_str() {
                "*" => Some(Must::BeThere),
                "" => Some(Must::BeAbsent),
                value => self
                    .keep(&key, Template::parse_value(value, before))
                    .map(Must::Be),
            };
            if let (Some(place), Some(must)) = (self.selector(&key, text, before), must) {
                binds.push(Bind {
                    place,
                    written: written.clone(),
                    optional,
                    bodiless,
                    must,
                });
            }
        }
        binds
    }
}

impl Bind {
    /// Whether the body as a whole is bound in every request.
    pub(crate) fn has_body(&self) -> bool {
        !self.optional && matches!(&self.must, Must::Be(template) if template.has_body())
    }

    /// The claim that it is about.
    pub(crate) fn claim(&self) -> Option<&str> {
        self.place.places().find_map(|place| {
            if let Place::Signature(name) = place {
                Some(name.as_str())
            } else {
                None
            }
        })
    }

    /// Checks that it holds for this request. The refusal says what does not.
    pub(crate) fn holds(&self, inputs: &Inputs<'_>) -> Result<(), Rejection> {
        let value = self.place.resolve(inputs)?.map(|(_, value)| value);
        let refuse = |how: &str| {
            Err(Rejection::new(
                Reason::NoMatch,
                format!("{} {how}", self.written),
            ))
        };
        let (value, template) = match (&self.must, value) {
            (Must::BeAbsent, None) | (Must::BeThere, Some(_)) => return Ok(()),
            (Must::BeAbsent, Some(_)) => return refuse("must not be there"),
            (Must::Be(_), None)
                if self.optional || self.bodiless && inputs.request.body.is_empty() =>
            {
                return Ok(());
            }
            (Must::BeThere | Must::Be(_), None) => return refuse("is missing"),
            (Must::Be(template), Some(value)) => (value, template),
        };
        let chunks = match template.resolve(&Values {
            inputs,
            ..Values::none(inputs)
        }) {
            Err(Absent::Url | Absent::Piece(_)) if self.optional => return Ok(()),
            chunks => chunks?,
        };
        let expected = bytes_of(&chunks);
        // Padding says nothing, so it is left off.
        let unpadded = |bytes: &[u8]| {
            bytes
                .iter()
                .rposition(|byte| *byte != b'=')
                .map_or(0, |last| last + 1)
        };
        let (value, expected) = (&value[..unpadded(&value)], &expected[..unpadded(&expected)]);
        if value == expected {
            Ok(())
        } else {
            refuse("is not what it must be for this request")
        }
    }
}
