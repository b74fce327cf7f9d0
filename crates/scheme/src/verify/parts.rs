//! The parts of a verification by themselves, for micro-benchmarks that show where its time goes.

use crate::{
    locate::{piece::Values, selector::Inputs},
    plan::identity::Compared,
    request::Request,
    verify::verifier::Verifier,
};

/// The event's key and type, found in one pass over the body. None if it has no key.
pub fn key_and_type(
    verifier: &Verifier,
    request: &Request<'_>,
) -> Option<(String, Option<String>)> {
    let plan = verifier.plan();
    let document = plan.document(request, None);
    let found = plan.after.find(&document);
    let inputs = Inputs {
        request,
        found: found.as_ref(),
        signature: None,
    };
    let read = verifier
        .told(
            &plan.identity,
            plan.event_type.as_ref(),
            &inputs,
            Compared::AsSent,
        )
        .ok()?;
    Some((read.told.key?, read.event_type))
}

/// How many pieces the signed content has, made from the scheme's template. None if it can't be
/// made.
pub fn content_pieces(
    verifier: &Verifier,
    request: &Request<'_>,
    timestamp: &str,
) -> Option<usize> {
    let inputs = Inputs {
        request,
        found: None,
        signature: None,
    };
    let values = Values {
        timestamp: Some(timestamp),
        ..Values::none(&inputs)
    };
    verifier
        .plan()
        .coverage
        .content(&values)
        .ok()
        .map(|chunks| chunks.len())
}

/// A digest as the provider writes it.
pub fn encode_digest(verifier: &Verifier, digest: &[u8]) -> String {
    verifier.plan().grammar.encode(digest)
}
