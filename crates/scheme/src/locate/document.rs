//! The JSON text of a request: the body, or a text in a form or a token.

use std::borrow::Cow;

use crate::{
    locate::{
        json::{Found, Pointers},
        selector::{Inputs, Selector},
        signature_text::Grammar,
    },
    request::Request,
};

/// The JSON text to look into, if `selector` says that it is not the body itself. A byte order mark
/// is left off.
pub(crate) fn document<'a>(
    selector: Option<&'a Selector>,
    request: &'a Request<'a>,
    signature: Option<(&'a Grammar, &'a str)>,
) -> Cow<'a, [u8]> {
    let mark = "\u{feff}".as_bytes();
    let text = match selector {
        None => Cow::Borrowed(&request.body[..]),
        Some(selector) => {
            let found = selector
                .resolve(&Inputs {
                    request,
                    found: None,
                    signature,
                })
                .ok()
                .flatten();
            found.map(|(_, text)| text).unwrap_or_default()
        }
    };
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(mark).unwrap_or(text)),
        Cow::Owned(text) => Cow::Owned(text.strip_prefix(mark).map(<[u8]>::to_vec).unwrap_or(text)),
    }
}

/// What is at these places of a document. A document that is no UTF-8 is read as Latin-1, and
/// `latin1` keeps that reading.
pub(crate) fn find<'d>(
    pointers: &Pointers,
    document: &'d [u8],
    latin1: &'d mut Option<Vec<u8>>,
) -> Option<Found<'d>> {
    if pointers.is_empty() {
        return None;
    }
    let found = pointers.find(document);
    if found.is_some() {
        return found;
    }
    *latin1 = as_latin1(document);
    latin1.as_deref().and_then(|text| pointers.find(text))
}

/// The bytes as Latin-1, if they are no UTF-8: each is the character of its number. So no two
/// bodies have the same text.
fn as_latin1(body: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(body).is_ok() {
        return None;
    }
    Some(
        body.iter()
            .map(|byte| char::from(*byte))
            .collect::<String>()
            .into_bytes(),
    )
}
