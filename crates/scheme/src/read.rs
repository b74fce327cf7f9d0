//! What is read of a request once its signature is right: what tells it from others, its type, its items. The same of one that was kept.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    Rejection, Request, VerifiedRequest, Verifier,
    candidates::Grammar,
    gzip::unpacked,
    identity::{Compared, Identity},
    json::{Found, Pointers, as_latin1},
    name::name_or_why,
    plan::Plan,
    selector::{Inputs, Selector},
    verified::{Read, accepted},
    verify::{resolve, signatures},
};
use crate::{digest::BodyDigest, spec::Dedup};

impl Verifier {
    /// Whether there may be events that an earlier version recorded.
    pub fn looks_back(&self) -> bool {
        self.looks_back
    }

    /// Whether places are left out when bodies are compared.
    pub fn ignores(&self) -> bool {
        !self.scheme().spec.ignore.is_empty()
    }

    /// What is read of a request whose signature is right, with the body as it is to be read.
    pub(super) fn read(&self, view: &Request<'_>, compared: Compared) -> Result<Read, Rejection> {
        let plan = self.plan();
        let read = Inputs { request: view, found: None, signature: None };
        // The text that signs is read like the body: a token's claims, a time beside the digest.
        let text = if plan.reads_signature { signatures(plan, &read)? } else { Vec::new() };
        let signature = text.first().and_then(|text| std::str::from_utf8(text).ok()).map(|text| (&plan.grammar, text));
        let document = document(plan, view, signature);
        let items = self.items(&document, view, signature)?;
        let mut latin1 = None;
        let found = find(&plan.after, &document, &mut latin1);
        let inputs = Inputs { request: view, found: found.as_ref(), signature };
        let read = self.told(&plan.identity, plan.event_type.as_ref(), &inputs, compared)?;
        Ok(Read { key_is_of_body: plan.key_is_of_body, items, ..read })
    }

    /// What tells a request, or an item of one, from others; and its type.
    pub(super) fn told(
        &self,
        identity: &Identity,
        event_type: Option<&Selector>,
        inputs: &Inputs<'_>,
        compared: Compared,
    ) -> Result<Read, Rejection> {
        let plan = self.plan();
        let found = event_type.map(|selector| resolve(selector, inputs)).transpose()?.flatten();
        let (event_type, type_dropped) = match found.as_ref().map(|(_, value)| name_or_why(value)) {
            Some(Ok(text)) => (Some(text.to_owned()).filter(|text| !text.is_empty()), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        let exact = BodyDigest::of(inputs.request.body);
        let without_ignored = || identity.digest(plan, inputs, &exact);
        let told = identity.tell(plan, inputs, &without_ignored)?;
        let compared = match compared {
            Compared::AsSent => exact,
            Compared::WithoutIgnored => without_ignored(),
        };
        let compared = told.kind.as_ref().map_or(compared, |kind| compared.with(kind));
        let key_before = match self.looks_back && told.dedup != Dedup::None {
            true => Some(identity.key_before(inputs, &exact)?).filter(|before| told.key.as_ref() != Some(before)),
            false => None,
        };
        let digests = (exact, compared);
        Ok(Read { digests, told, key_before, key_is_of_body: false, event_type, type_dropped, handshake: None, items: Vec::new() })
    }

    /// What a request that is kept would be told by now, compared without what is ignored: its headers are a JSON array of [name, value] pairs.
    /// None where it can't be read any more; its URL is not kept.
    pub fn told_of_stored(&self, headers: &str, body: Bytes, is_item: bool) -> Option<VerifiedRequest> {
        let kept: Vec<(String, String)> = serde_json::from_str(headers).ok()?;
        let bytes = |value: &str| value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect::<Vec<u8>>();
        let headers: Vec<(&str, Vec<u8>)> =
            kept.iter().map(|(name, value)| (name.strip_prefix("hookonce-original-").unwrap_or(name), bytes(value))).collect();
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let unpacked = if self.plan().gzip.is_some() { unpacked(&body).ok()? } else { None };
        let view = Request { method: "POST", url: None, query: None, headers: &headers, body: unpacked.as_ref().unwrap_or(&body) };
        let read = match &self.plan().items {
            Some(items) if is_item => items.told_of(self, &view, Compared::WithoutIgnored).ok()?,
            _ => self.for_request(&view).read(&view, Compared::WithoutIgnored).ok()?,
        };
        Some(accepted(body.clone(), read, None))
    }
}

/// The JSON text that is looked into, without a byte order mark.
pub(super) fn document<'a>(plan: &'a Plan, request: &'a Request<'a>, signature: Option<(&'a Grammar, &'a str)>) -> Cow<'a, [u8]> {
    let mark = "\u{feff}".as_bytes();
    let text = match &plan.document {
        None => Cow::Borrowed(&request.body[..]),
        Some(selector) => {
            let found = selector.resolve(&Inputs { request, found: None, signature }).ok().flatten();
            found.map(|(_, text)| text).unwrap_or_default()
        }
    };
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(mark).unwrap_or(text)),
        Cow::Owned(text) => Cow::Owned(text.strip_prefix(mark).map(<[u8]>::to_vec).unwrap_or(text)),
    }
}

/// What stands at these places of a document; `latin1` keeps it in its other reading, where it is no UTF-8.
pub(super) fn find<'d>(pointers: &Pointers, document: &'d [u8], latin1: &'d mut Option<Vec<u8>>) -> Option<Found<'d>> {
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
