//! What a scheme's signature covers of a request, as far as the scheme alone tells. Checks no
//! signature.

use std::borrow::Cow;

use crate::{
    locate::{
        piece::{Absent, Values},
        selector::{Inputs, Place, Selector},
        template::{Chunk, Template},
    },
    rejection::Rejection,
    request::Request,
};

/// What is signed.
pub(crate) struct Coverage {
    /// The first of these counts whose places are all there. Empty for tokens.
    pub(crate) contents: Vec<Template>,
    /// What `{id}` stands for.
    pub(crate) id: Option<Selector>,
    /// The signature is a token, whose claims it covers.
    signs_claims: bool,
    /// The body is covered as a whole.
    signs_body: bool,
}

impl Coverage {
    /// `binds_body` says that a hash of the body is signed and must agree with it.
    pub(crate) fn new(
        contents: Vec<Template>,
        id: Option<Selector>,
        signs_claims: bool,
        binds_body: bool,
    ) -> Self {
        let signs_body =
            binds_body || !contents.is_empty() && contents.iter().all(Template::has_body);
        Self {
            contents,
            id,
            signs_claims,
            signs_body,
        }
    }

    /// What the signature covers of this request. Of several contents, the first counts whose
    /// places are all there.
    pub(crate) fn content<'a>(&'a self, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Rejection> {
        let Some((last, others)) = self.contents.split_last() else {
            return Ok(Vec::new());
        };
        for template in others {
            match template.resolve(values) {
                Err(Absent::Piece(_)) => {}
                resolved => return Ok(resolved?),
            }
        }
        Ok(last.resolve(values)?)
    }

    /// The id that is signed, if it is in a header.
    pub(crate) fn signed_id<'a>(&self, request: &'a Request<'a>) -> Option<Cow<'a, [u8]>> {
        let selector = self
            .id
            .as_ref()
            .filter(|_| self.contents.iter().all(Template::has_id))?;
        selector
            .resolve(&Inputs {
                request,
                found: None,
                signature: None,
            })
            .ok()
            .flatten()
            .map(|(_, value)| value)
    }

    /// Whether the value at this place is signed in every request.
    pub(crate) fn covers(&self, place: &Place) -> bool {
        let signed_id = self
            .id
            .as_ref()
            .filter(|_| !self.contents.is_empty() && self.contents.iter().all(Template::has_id));
        signed_id.is_some_and(|id| id.places().any(|signed| signed == place))
            || self.signs(place, b"", None)
    }

    /// Whether a part of the event key is covered. A token signs nothing, so its body counts as
    /// what the sender meant.
    pub(crate) fn signs(&self, place: &Place, value: &[u8], id: Option<&[u8]>) -> bool {
        if self.contents.is_empty() {
            let claim = self.signs_claims && matches!(place, Place::Signature(_));
            return claim
                || matches!(
                    place,
                    Place::Body(_) | Place::Member(_) | Place::Form(_) | Place::Whole
                );
        }
        let covered = || self.contents.iter().all(|content| content.covers(place));
        match place {
            Place::Body(_) | Place::Member(_) | Place::Whole => self.signs_body,
            Place::Form(_) => self.signs_body || covered(),
            Place::Header(_) => id == Some(value) || covered(),
            Place::Query(_) => covered(),
            Place::Headers(_) | Place::Queries | Place::Signature(_) => false,
        }
    }

    /// Whether each content has the time in it.
    pub(crate) fn signs_time(&self) -> bool {
        self.contents.iter().all(Template::has_timestamp)
    }
}
