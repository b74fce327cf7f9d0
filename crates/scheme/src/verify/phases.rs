//! The order in which a request is verified. Cheap checks come first: repeated headers, handshakes
//! without a signature, the body as it is read, the signature (its form, the time, the digest),
//! handshakes with one. Only then come the event's key and type.

use std::convert::Infallible;

use crate::{
    plan::identity::Compared,
    rejection::{Reason, Rejection},
    request::{Repeated, Request},
    spec::Gzip,
    verify::{
        gzip::{Broken, unpacked},
        verified::{Verified, VerifiedRequest, accepted},
        verifier::Verifier,
    },
};

impl Verifier {
    /// Verifies one request at this time (unix milliseconds).
    ///
    /// # Errors
    ///
    /// Why it is refused. Where [`Rejection::needs`] says which key is lacking, the request may be
    /// right: bring that key to [`known_keys`](Self::known_keys) and verify once more.
    pub fn verify(
        &self,
        request: &Request<'_>,
        now_unix_ms: i64,
    ) -> Result<VerifiedRequest, Rejection> {
        match self.verify_unless(request, now_unix_ms, || None::<Infallible>)? {
            Verified::New(verified) => Ok(verified),
            Verified::Known(never) => match never {},
        }
    }

    /// Like [`verify`](Self::verify), but stops after the signature check if the event key depends
    /// on the body alone and `known` has this body.
    ///
    /// # Errors
    ///
    /// As those of [`verify`](Self::verify).
    pub fn verify_unless<K>(
        &self,
        request: &Request<'_>,
        now_unix_ms: i64,
        known: impl FnOnce() -> Option<K>,
    ) -> Result<Verified<K>, Rejection> {
        self.for_request(request)
            .verify_own(request, now_unix_ms, known)
    }

    fn verify_own<K>(
        &self,
        request: &Request<'_>,
        now_unix_ms: i64,
        known: impl FnOnce() -> Option<K>,
    ) -> Result<Verified<K>, Rejection> {
        let plan = &*self.plan;
        once(&plan.once, request)?;
        if let Some(verified) = self.unsigned_handshake(request)? {
            return Ok(Verified::New(verified));
        }
        let unpacked = match plan.gzip {
            Some(_) => unpacked(request.body).map_err(|Broken| {
                Rejection::new(Reason::MalformedRequest, "the body can't be unpacked")
            })?,
            None => None,
        };
        let view = match &unpacked {
            Some(body) => Request { body, ..*request },
            None => *request,
        };
        let signed = if plan.gzip == Some(Gzip::AsSent) {
            request
        } else {
            &view
        };
        let secret = self.check_signature(signed, now_unix_ms)?;
        if let Some(verified) = self.signed_handshake(request, &view, secret)? {
            return Ok(Verified::New(verified));
        }
        if plan.key_is_of_body
            && let Some(known) = known()
        {
            return Ok(Verified::Known(known));
        }
        self.read(&view, Compared::AsSent)
            .map(|read| Verified::New(accepted(request.body.clone(), read, None)))
    }
}

/// Refuses a request that has one of these headers twice, before any of them is read.
fn once(names: &[String], request: &Request<'_>) -> Result<(), Rejection> {
    let mut seen = 0_u64;
    for (name, _) in request.headers {
        if let Some(index) = names.iter().position(|known| known == name) {
            if seen & 1 << index != 0 {
                return Err(Repeated((*name).into()).into());
            }
            seen |= 1 << index;
        }
    }
    Ok(())
}
