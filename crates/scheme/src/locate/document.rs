//! The JSON text of a request: the body, or what stands in a form or a token.

use std::borrow::Cow;

use crate::{
    locate::{
        json::{Found, Pointers},
        selector::{Inputs, Selector},
        signature_text::Grammar,
    },
    request::Request,
};

/// The JSON text that is looked into, where `selector` says that it is not the body itself; without
/// a byte order mark.
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

/// What stands at these places of a document; `latin1` keeps it in its other reading, where it is
/// no UTF-8.
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

/// What the bytes are read as where they are no UTF-8: each as the character of its number
/// (Latin-1), which takes no two texts for one.
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
