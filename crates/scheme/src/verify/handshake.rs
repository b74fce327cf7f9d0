//! Handshakes: requests that are answered and not recorded. Some are signed, some not.

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    locate::{
        piece::Values,
        selector::{Inputs, Selector},
        template::Template,
    },
    name::name,
    plan::challenge::Challenge,
    rejection::{Reason, Rejection},
    request::Request,
    verify::{
        verified::{Handshake, Read, VerifiedRequest, accepted},
        verifier::Verifier,
    },
};

impl Verifier {
    /// The handshake that this request is, of those that are not signed.
    pub(super) fn unsigned_handshake(
        &self,
        request: &Request<'_>,
    ) -> Result<Option<VerifiedRequest>, Rejection> {
        for challenge in self
            .plan
            .challenges
            .iter()
            .filter(|challenge| challenge.unsigned)
        {
            if let Some(handshake) = self.handshake(challenge, request, 0)? {
                return Ok(Some(accepted(
                    request.body.clone(),
                    Read::handshake(handshake, request.body),
                    None,
                )));
            }
        }
        Ok(None)
    }

    /// The handshake that this request is, of those that are signed. `view` has the body as it is
    /// read.
    pub(super) fn signed_handshake(
        &self,
        request: &Request<'_>,
        view: &Request<'_>,
        secret: usize,
    ) -> Result<Option<VerifiedRequest>, Rejection> {
        for challenge in self
            .plan
            .challenges
            .iter()
            .filter(|challenge| !challenge.unsigned)
        {
            if let Some(handshake) = self.handshake(challenge, view, secret)? {
                return Ok(Some(accepted(
                    request.body.clone(),
                    Read::handshake(handshake, view.body),
                    None,
                )));
            }
        }
        Ok(None)
    }

    /// The handshake that this request is, with its answer. `secret` is the index of the secret
    /// that answers.
    fn handshake(
        &self,
        challenge: &Challenge,
        request: &Request<'_>,
        secret: usize,
    ) -> Result<Option<Handshake>, Rejection> {
        let Some(found) = challenge.meets(request)? else {
            return Ok(None);
        };
        let inputs = Inputs {
            request,
            found: found.as_ref(),
            signature: None,
        };
        if let Some(selector) = &challenge.token {
            let token = selector.resolve(&inputs)?.map(|(_, value)| value);
            if !token.is_some_and(|token| is_one_of(&token, &self.tokens)) {
                return Err(Rejection::new(
                    Reason::NoMatch,
                    "a handshake whose token is not the source's verify_token",
                ));
            }
        }
        let learnt = match &challenge.keep {
            Some(selector) => match self.learnt(selector, &inputs)? {
                Some(learnt) => learnt,
                None => return Ok(None),
            },
            None => None,
        };
        let mac = match &challenge.mac {
            Some(template) => match self.mac(challenge, template, &inputs, secret) {
                Some(mac) => Some(mac),
                None => return Ok(None),
            },
            None => None,
        };
        let visit = self.visited(challenge, &inputs)?;
        let key_name = self.key_names.get(secret).and_then(Option::as_deref);
        let answer = challenge.answer(&inputs, mac.as_deref(), key_name);
        Ok(answer.map(|answer| Handshake {
            answer,
            learnt,
            visit,
        }))
    }

    /// The secret that comes in a handshake, if the source has none yet. None for a handshake that
    /// brings none.
    fn learnt(
        &self,
        selector: &Selector,
        inputs: &Inputs<'_>,
    ) -> Result<Option<Option<SecretString>>, Rejection> {
        let Some((_, value)) = selector.resolve(inputs)? else {
            return Ok(None);
        };
        // A secret is learnt once. Later, only a request that knows it is answered.
        if !self.is_open() && !is_one_of(&value, &self.held) {
            return Err(Rejection::new(
                Reason::NoMatch,
                "a handshake with another secret than the one that the source has",
            ));
        }
        Ok(name(&value).map(|text| self.is_open().then(|| SecretString::from(text))))
    }

    /// The URL that must be called before the handshake is answered.
    fn visited(
        &self,
        challenge: &Challenge,
        inputs: &Inputs<'_>,
    ) -> Result<Option<String>, Rejection> {
        let (Some(selector), Some(keys)) = (&challenge.visit, &self.plan.keys) else {
            return Ok(None);
        };
        let url = selector
            .resolve(inputs)?
            .and_then(|(_, value)| keys.on_host(&value));
        let strange = || {
            Rejection::new(
                Reason::NoMatch,
                "a handshake that asks for a URL that is none of the provider's",
            )
        };
        Ok(Some(url.ok_or_else(strange)?.into()))
    }

    /// The digest that goes into the answer. None if it must not be given away.
    fn mac(
        &self,
        challenge: &Challenge,
        template: &Template,
        inputs: &Inputs<'_>,
        secret: usize,
    ) -> Option<String> {
        let (_, keys) = self.keys.first()?;
        let content = template.resolve(&Values::none(inputs)).ok()?;
        if challenge.unsigned && !challenge.gives_away(&content) {
            return None;
        }
        Some(
            self.plan
                .grammar
                .encode(&keys.get(secret)?.digest(&content)?),
        )
    }
}

fn is_one_of(value: &[u8], hashes: &[[u8; 32]]) -> bool {
    let hash = Sha256::digest(value);
    hashes
        .iter()
        .fold(Choice::from(0), |found, known| found | hash.ct_eq(known))
        .into()
}
