//! A source's scheme with its secrets prepared. Building one reads every secret once. The files
//! beside this one ask about a request, one phase each.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::{
    error::SchemeError,
    keys::{
        key::{Key, key_name},
        key_set::KnownKeys,
        secrets::{Making, keys_of, written_in},
    },
    locate::selector::{Place, Selector},
    plan::{
        catalog::{Catalog, Scheme},
        compiled::Plan,
        overrides::scheme_of,
    },
    spec::{Algorithm, SourceSpec},
};

/// A source's scheme with its secrets prepared.
pub struct Verifier {
    scheme: Arc<Scheme>,
    pub(super) plan: Arc<Plan>,
    /// One key for each secret, by algorithm.
    pub(super) keys: Vec<(Algorithm, Vec<Key>)>,
    /// What a handshake's token may be, and the secrets as they are written, both hashed. Empty if
    /// no handshake of the scheme asks.
    pub(super) tokens: Vec<[u8; 32]>,
    pub(super) held: Vec<[u8; 32]>,
    /// What the secrets have before the part that is the key.
    pub(super) key_names: Vec<Option<String>>,
    /// The secret is taken from a handshake.
    pub(super) learns: bool,
    /// For a scheme whose keys are fetched: those that are known, and the secrets as they are
    /// written.
    pub(super) known: Arc<KnownKeys>,
    pub(super) secrets: Vec<SecretString>,
    /// The keys of earlier versions are read too.
    pub(super) looks_back: bool,
    /// For requests without this scheme's signature: another form of the provider's.
    pub(super) also: Option<Box<Verifier>>,
}

impl Verifier {
    /// A verifier with these secrets, as they are written in the settings. What the source sets
    /// itself overrides the scheme's own.
    ///
    /// # Errors
    ///
    /// All mistakes of the source, and each secret that can't be used (`secrets[INDEX]`). Their
    /// keys are those of the source's table.
    pub fn new(
        catalog: &Catalog,
        source: &SourceSpec,
        secrets: &[SecretString],
    ) -> Result<Self, Vec<SchemeError>> {
        let (verifier, mut errors) = Self::build(catalog, source, secrets)?;
        let can_learn = verifier.plan.learns_secret();
        if source.learn_secret && !can_learn {
            errors.push(SchemeError::new(
                "learn_secret",
                "this provider brings no secret in a handshake: set `secret`",
            ));
        }
        if secrets.is_empty() && !verifier.learns {
            let help = if can_learn {
                "set `learn_secret = true` to take it from the provider's handshake"
            } else {
                "without a secret nothing can be verified"
            };
            errors.push(SchemeError::new("secrets", &format!("is missing: {help}")));
        }
        if errors.is_empty() {
            Ok(verifier)
        } else {
            Err(errors)
        }
    }

    /// Like [`new`](Self::new), but leaves out secrets that can't be used. With none left, nothing
    /// matches.
    ///
    /// # Errors
    ///
    /// All mistakes of the source except those in its secrets.
    pub fn with_usable(
        catalog: &Catalog,
        source: &SourceSpec,
        secrets: &[SecretString],
    ) -> Result<Self, Vec<SchemeError>> {
        Self::build(catalog, source, secrets).map(|(verifier, _)| verifier)
    }

    fn build(
        catalog: &Catalog,
        source: &SourceSpec,
        secrets: &[SecretString],
    ) -> Result<(Self, Vec<SchemeError>), Vec<SchemeError>> {
        let scheme = scheme_of(catalog, source)?;
        // A built-in scheme is sound, so one without a plan needs an algorithm that is not built.
        let unbuilt = |errors: Vec<SchemeError>| {
            errors
                .iter()
                .map(|error| SchemeError::new("provider", &format!("{}: {error}", scheme.name)))
                .collect()
        };
        let plan = Arc::clone(scheme.plan().map_err::<Vec<SchemeError>, _>(unbuilt)?);
        let (keys, errors) = made(&plan, secrets);
        let asked = plan
            .challenges
            .iter()
            .any(|challenge| challenge.token.is_some() || challenge.keep.is_some());
        let written = secrets
            .iter()
            .map(SecretString::expose_secret)
            .filter(|secret| asked && !secret.is_empty());
        let held: Vec<[u8; 32]> = written
            .map(|secret| Sha256::digest(secret).into())
            .collect();
        let learns = source.learn_secret && plan.learns_secret();
        let key_names = secrets
            .iter()
            .map(|secret| key_name(&plan.steps, secret.expose_secret()).map(str::to_owned))
            .collect();
        let known = Arc::clone(catalog.known_keys());
        let written_as = secrets;
        let secrets = if plan.keys.is_some() {
            written_in(secrets)
        } else {
            Vec::new()
        };
        let tokens = held.clone();
        let also = Self::also(catalog, source, &scheme, written_as)?;
        let mut errors = errors;
        if also.as_ref().is_some_and(|also| also.keys_len() > 0) && !errors.is_empty() {
            // A secret of the other form is right if it fits that form.
            errors.retain(|error| {
                !also
                    .as_ref()
                    .is_some_and(|also| also.takes_secret(error, written_as))
            });
        }
        Ok((
            Self {
                scheme,
                plan,
                keys,
                tokens,
                held,
                key_names,
                learns,
                known,
                secrets,
                looks_back: false,
                also,
            },
            errors,
        ))
    }

    /// The verifier of the scheme's other form. It has the source's own fields except those of the
    /// scheme.
    fn also(
        catalog: &Catalog,
        source: &SourceSpec,
        scheme: &Scheme,
        secrets: &[SecretString],
    ) -> Result<Option<Box<Self>>, Vec<SchemeError>> {
        let Some(name) = &scheme.spec.also else {
            return Ok(None);
        };
        if source.provider == *name
            || catalog
                .get(name)
                .is_none_or(|other| other.spec.also.is_some())
        {
            return Err(vec![SchemeError::new(
                "also",
                &format!("{name:?} is no provider, or one with another form itself"),
            )]);
        }
        let source = SourceSpec {
            provider: name.clone(),
            scheme: None,
            ..source.clone()
        };
        Ok(Some(Box::new(Self::build(catalog, &source, secrets)?.0)))
    }

    /// Whether the secret that this error is about is one for this scheme.
    fn takes_secret(&self, error: &SchemeError, secrets: &[SecretString]) -> bool {
        let index = error
            .key
            .strip_prefix("secrets[")
            .and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
        index
            .and_then(|index| secrets.get(index))
            .is_some_and(|secret| made(&self.plan, std::slice::from_ref(secret)).1.is_empty())
    }

    /// The same verifier, which also tells the keys of earlier versions. It is needed for as long
    /// as events may exist that were recorded under them.
    #[must_use]
    pub fn looking_back(mut self, looks_back: bool) -> Self {
        self.looks_back = looks_back;
        self.also = self
            .also
            .map(|also| Box::new(also.looking_back(looks_back)));
        self
    }

    /// The same verifier with the token that handshakes are asked for. Without one, the token is
    /// any of the secrets.
    #[must_use]
    pub fn with_verify_token(mut self, token: Option<&SecretString>) -> Self {
        if let Some(token) = token
            .map(SecretString::expose_secret)
            .filter(|token| !token.is_empty())
        {
            self.tokens = vec![Sha256::digest(token).into()];
        }
        self
    }

    /// The same verifier with this secret, if it has none. None if it has one, or if this one is
    /// not usable.
    pub fn with_secret(&self, secret: &SecretString) -> Option<Self> {
        let (keys, errors) = made(&self.plan, std::slice::from_ref(secret));
        let held = vec![<[u8; 32]>::from(Sha256::digest(secret.expose_secret()))];
        let tokens = if self.tokens.is_empty() {
            held.clone()
        } else {
            self.tokens.clone()
        };
        let (scheme, plan) = (Arc::clone(&self.scheme), Arc::clone(&self.plan));
        let known = Arc::clone(&self.known);
        let (learns, looks_back) = (self.learns, self.looks_back);
        let (key_names, secrets, also) = (Vec::new(), Vec::new(), None);
        let made = Self {
            scheme,
            plan,
            keys,
            tokens,
            held,
            key_names,
            learns,
            known,
            secrets,
            looks_back,
            also,
        };
        (self.is_open() && errors.is_empty()).then_some(made)
    }

    /// The scheme with the source's own fields in it.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The same, to be kept.
    pub fn shared_scheme(&self) -> Arc<Scheme> {
        Arc::clone(&self.scheme)
    }

    /// The headers that are themselves the secret (a shared token, one that a handshake brings),
    /// lower-case: not for logs, nor for handlers.
    pub fn secret_headers(&self) -> impl Iterator<Item = &str> {
        let token = self.plan.algorithms.contains(&Algorithm::Token);
        let brought = self
            .plan
            .challenges
            .iter()
            .filter_map(|challenge| challenge.keep.as_ref())
            .flat_map(Selector::places);
        let places = self
            .plan
            .signature
            .places()
            .filter(move |_| token)
            .chain(brought);
        let own = places.filter_map(|place| {
            if let Place::Header(name) = place {
                Some(name.as_str())
            } else {
                None
            }
        });
        let others: Vec<&str> = self
            .also
            .iter()
            .flat_map(|also| also.secret_headers().collect::<Vec<_>>())
            .collect();
        own.chain(others)
    }

    /// Where fetched keys for it are to be put.
    pub fn known_keys(&self) -> &KnownKeys {
        &self.known
    }

    /// How the scheme is run.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The number of secrets that are tried.
    pub(super) fn keys_len(&self) -> usize {
        if self.plan.keys.is_some() {
            return self.secrets.len();
        }
        self.keys
            .iter()
            .map(|(_, keys)| keys.len())
            .max()
            .unwrap_or(0)
    }

    /// Whether it is not established that the event key names an event: under it another body may
    /// be another event.
    pub fn key_is_doubtful(&self) -> bool {
        self.plan.key_is_doubtful
    }

    /// Whether a request by this method can be accepted.
    pub fn takes_method(&self, method: &str) -> bool {
        method == "POST"
            || self
                .plan
                .challenges
                .iter()
                .any(|challenge| challenge.method() == method)
    }

    /// Whether a secret can be learnt in a handshake and there is none yet.
    pub(crate) fn is_open(&self) -> bool {
        self.learns && self.keys.iter().all(|(_, keys)| keys.is_empty())
    }
}

/// One key for each secret, by algorithm; and the secrets that can't be used. Both are empty if
/// keys are fetched.
fn made(plan: &Plan, secrets: &[SecretString]) -> (Vec<(Algorithm, Vec<Key>)>, Vec<SchemeError>) {
    if plan.keys.is_some() {
        return (Vec::new(), Vec::new());
    }
    keys_of(
        Making {
            algorithms: &plan.algorithms,
            steps: &plan.steps,
        },
        secrets,
    )
}
