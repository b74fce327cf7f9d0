//! What is read of a request once its signature is right: what tells it from others, its type, its
//! items. A request that was stored is read in the same way.

use bytes::Bytes;

use crate::{
    digest::BodyDigest,
    locate::{
        document::find,
        selector::{Inputs, Selector},
        signature_text::Grammar,
    },
    name::name_or_why,
    plan::{
        identity::{Compared, Identity},
        items::Items,
    },
    rejection::Rejection,
    request::Request,
    spec::Dedup,
    verify::{
        gzip::unpacked,
        verified::{Read, VerifiedRequest, accepted},
        verifier::Verifier,
    },
};

impl Verifier {
    /// Whether the keys of earlier versions are told as well; see
    /// [`looking_back`](Self::looking_back).
    pub fn looks_back(&self) -> bool {
        self.looks_back
    }

    /// Whether some places are left out when bodies are compared.
    pub fn ignores(&self) -> bool {
        !self.scheme().spec.ignore.is_empty()
    }

    /// Reads a request whose signature is right. `view` has the body as it is to be read.
    pub(super) fn read(&self, view: &Request<'_>, compared: Compared) -> Result<Read, Rejection> {
        let plan = self.plan();
        let read = Inputs {
            request: view,
            found: None,
            signature: None,
        };
        // The signature's own text is read like the body: a token's claims, or a time beside the
        // digest.
        let text = if plan.reads_signature {
            plan.signatures(&read)?
        } else {
            Vec::new()
        };
        let signature = text
            .first()
            .and_then(|text| std::str::from_utf8(text).ok())
            .map(|text| (&plan.grammar, text));
        let document = plan.document(view, signature);
        let items = self.items(&document, view, signature)?;
        let mut latin1 = None;
        let found = find(&plan.after, &document, &mut latin1);
        let inputs = Inputs {
            request: view,
            found: found.as_ref(),
            signature,
        };
        let read = self.told(&plan.identity, plan.event_type.as_ref(), &inputs, compared)?;
        Ok(Read {
            key_is_of_body: plan.key_is_of_body,
            items,
            ..read
        })
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
        let found = event_type
            .map(|selector| selector.resolve(inputs))
            .transpose()?
            .flatten();
        let (event_type, type_dropped) = match found.as_ref().map(|(_, value)| name_or_why(value)) {
            Some(Ok(text)) => (Some(text.to_owned()).filter(|text| !text.is_empty()), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        let exact = BodyDigest::of(inputs.request.body);
        let without_ignored = || identity.digest(plan.document.as_ref(), inputs, &exact);
        let told = identity.tell(&plan.coverage, inputs, &without_ignored)?;
        let compared = match compared {
            Compared::AsSent => exact,
            Compared::WithoutIgnored => without_ignored(),
        };
        let compared = told
            .kind
            .as_ref()
            .map_or(compared, |kind| compared.with(kind));
        let key_before = match self.looks_back && told.dedup != Dedup::None {
            true => Some(identity.key_before(inputs, &exact)?)
                .filter(|before| told.key.as_ref() != Some(before)),
            false => None,
        };
        let digests = (exact, compared);
        Ok(Read {
            digests,
            told,
            key_before,
            key_is_of_body: false,
            event_type,
            type_dropped,
            handshake: None,
            items: Vec::new(),
        })
    }

    /// What a stored request would be told by now, compared without what is ignored. Its headers
    /// are a JSON array of [name, value] pairs; its URL is not stored. None if it can't be read any
    /// more.
    pub fn told_of_stored(
        &self,
        headers: &str,
        body: Bytes,
        is_item: bool,
    ) -> Option<VerifiedRequest> {
        let kept: Vec<(String, String)> = serde_json::from_str(headers).ok()?;
        let bytes = |value: &str| {
            value
                .chars()
                .map(|c| u8::try_from(c).unwrap_or(b'?'))
                .collect::<Vec<u8>>()
        };
        let headers: Vec<(&str, Vec<u8>)> = kept
            .iter()
            .map(|(name, value)| {
                (
                    name.strip_prefix("hookonce-original-").unwrap_or(name),
                    bytes(value),
                )
            })
            .collect();
        let headers: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect();
        let unpacked = if self.plan().gzip.is_some() {
            unpacked(&body).ok()?
        } else {
            None
        };
        let view = Request {
            method: "POST",
            url: None,
            query: None,
            headers: &headers,
            body: unpacked.as_ref().unwrap_or(&body),
        };
        let read = match &self.plan().items {
            Some(items) if is_item => self
                .told_of_item(items, &view, Compared::WithoutIgnored)
                .ok()?,
            _ => self
                .for_request(&view)
                .read(&view, Compared::WithoutIgnored)
                .ok()?,
        };
        Some(accepted(body.clone(), read, None))
    }

    /// Whether requests may be split into several events.
    pub fn has_items(&self) -> bool {
        self.plan().items.is_some()
    }

    /// The events in a request whose signature is right. `document` is the JSON text to look into.
    pub(super) fn items(
        &self,
        document: &[u8],
        view: &Request<'_>,
        signature: Option<(&Grammar, &str)>,
    ) -> Result<Vec<VerifiedRequest>, Rejection> {
        let Some(items) = &self.plan().items else {
            return Ok(Vec::new());
        };
        let elsewhere = !is_within(document, view.body);
        // A body that is no text has no items, because they would not be its own bytes.
        if std::str::from_utf8(view.body).is_err() {
            return Ok(Vec::new());
        }
        let read = |text: &str| {
            let found = items.inside.find(text.as_bytes());
            // An item that is a part of the body shares its memory.
            let body = if elsewhere {
                Bytes::copy_from_slice(text.as_bytes())
            } else {
                view.body.slice_ref(text.as_bytes())
            };
            let request = Request {
                body: &body,
                ..*view
            };
            let inputs = Inputs {
                request: &request,
                found: found.as_ref(),
                signature,
            };
            let read = self.told(
                &items.identity,
                items.event_type.as_ref(),
                &inputs,
                Compared::AsSent,
            )?;
            Ok(accepted(
                body.clone(),
                read,
                elsewhere.then_some("application/json"),
            ))
        };
        items.of(document).into_iter().map(read).collect()
    }

    /// What tells an item from others if the item is a request's whole body.
    fn told_of_item(
        &self,
        items: &Items,
        request: &Request<'_>,
        compared: Compared,
    ) -> Result<Read, Rejection> {
        let found = items.inside.find(request.body);
        let inputs = Inputs {
            request,
            found: found.as_ref(),
            signature: None,
        };
        self.told(
            &items.identity,
            items.event_type.as_ref(),
            &inputs,
            compared,
        )
    }
}

/// Whether these bytes are a part of the body's own memory.
fn is_within(part: &[u8], body: &Bytes) -> bool {
    let (part, body) = (part.as_ptr_range(), body.as_ptr_range());
    body.start <= part.start && part.end <= body.end
}
