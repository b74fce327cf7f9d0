//! Compiles what is signed and where signatures are. The digests that they are compared with are
//! made elsewhere.

use crate::{
    compiler::Compiler,
    error::SchemeError,
    locate::{
        json::Pointers,
        jws,
        selector::{Place, Selector},
        signature_text::Grammar,
        template::Template,
    },
    spec::{Algorithm, Encoding, OneOrMany, SchemeSpec},
};

impl Compiler {
    /// How the text of a signature is taken apart.
    pub(crate) fn grammar(&mut self, spec: &SchemeSpec, token: bool) -> Option<Grammar> {
        let default = [if token {
            Encoding::Plain
        } else {
            Encoding::Hex
        }];
        let encodings = spec.encoding.as_ref().map(OneOrMany::as_slice);
        self.demand(
            encodings.is_none_or(|encodings| !encodings.is_empty()),
            "encoding",
            "is an empty list",
        );
        let encodings = encodings
            .filter(|encodings| !encodings.is_empty())
            .unwrap_or(&default);
        let grammar = Grammar::new(&spec.signature, encodings, token);
        grammar
            .map_err(|(key, message)| {
                self.errors
                    .push(SchemeError::new(&format!("signature.{key}"), &message))
            })
            .ok()
    }

    /// Where the JSON text is, if it is not the body.
    pub(crate) fn document(&mut self, text: &str) -> Option<Selector> {
        let selector = self.selector("document", text, &mut Pointers::default())?;
        let known = selector
            .places()
            .all(|place| matches!(place, Place::Form(_) | Place::Signature(_) | Place::Whole));
        self.demand(known, "document", "must be form:NAME or claim:PATH, with |body: behind it where the body may be the JSON itself");
        Some(selector)
    }

    /// What is signed; none for tokens.
    pub(crate) fn contents(&mut self, spec: &SchemeSpec, before: &mut Pointers) -> Vec<Template> {
        if spec.algorithm.as_slice().first() == Some(&Algorithm::Token) || spec.signature.jws {
            return Vec::new();
        }
        let texts = spec.content.as_ref().map(|content| content.as_slice());
        let many = texts.is_some_and(|texts| texts.len() != 1);
        self.demand(
            texts.is_none_or(|texts| !texts.is_empty()),
            "content",
            "is an empty list: leave it out for {body}",
        );
        let key = |index: usize| {
            if many {
                format!("content[{index}]")
            } else {
                "content".to_owned()
            }
        };
        let texts = texts.map_or_else(
            || vec!["{body}"],
            |texts| texts.iter().map(String::as_str).collect(),
        );
        texts
            .into_iter()
            .enumerate()
            .filter_map(|(index, text)| self.keep(&key(index), Template::parse(text, before)))
            .collect()
    }

    /// Checks what no part can know alone.
    pub(crate) fn cross_check(&mut self, spec: &SchemeSpec, contents: &[Template]) {
        let algorithms = spec.algorithm.as_slice();
        self.demand(!algorithms.is_empty(), "algorithm", "is an empty list");
        let kinds = |wanted: fn(&Algorithm) -> bool| {
            algorithms
                .iter()
                .filter(|algorithm| wanted(algorithm))
                .count()
        };
        let hashed = kinds(|algorithm| {
            matches!(
                algorithm,
                Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Keccak256
            )
        });
        let token = kinds(|algorithm| *algorithm == Algorithm::Token);
        let alike = [hashed, token]
            .iter()
            .all(|count| *count == 0 || *count == algorithms.len())
            && token < 2;
        self.demand(
            alike,
            "algorithm",
            "mixes what does not go together: hashes, tokens and the rest are of one kind each",
        );
        for content in contents {
            self.demand(
                !content.has_timestamp() || spec.time.is_some(),
                "time",
                "is missing: the content has {timestamp}",
            );
            self.demand(
                !content.has_id() || spec.id.is_some(),
                "id",
                "is missing: the content has {id}",
            );
            let fits = content.has_secret() == (hashed > 0) || spec.keys.is_some();
            self.demand(
                fits,
                "content",
                "{secret} belongs into a plain hash (sha1, sha256, keccak-256), and only there",
            );
        }
        let legacy = algorithms.contains(&Algorithm::RsaSha1) && spec.keys.is_none();
        self.demand(
            !legacy,
            "algorithm",
            "rsa-sha1 is for keys that are fetched: set keys",
        );
        let visits = spec
            .challenge
            .iter()
            .any(|challenge| challenge.visit.is_some());
        self.demand(
            !visits || spec.keys.is_some(),
            "keys",
            "is missing: its hosts are those that a handshake may visit",
        );
        self.demand(
            token == 0 || spec.content.is_none(),
            "content",
            "has no meaning with algorithm = \"token\"",
        );
        self.signed_token(spec);
        self.for_tokens_alone(spec, token > 0);
    }

    fn for_tokens_alone(&mut self, spec: &SchemeSpec, is_token: bool) {
        let encodings = spec.encoding.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let for_tokens = encodings
            .iter()
            .any(|encoding| matches!(encoding, Encoding::Plain | Encoding::Credentials));
        let message = "\"plain\" and \"credentials\" are for tokens: write \"hex\", \"base64\" or \"base64url\"";
        self.demand(is_token || !for_tokens, "encoding", message);
        self.demand(
            is_token || !spec.signature.all,
            "signature.all",
            "is for algorithm = \"token\"",
        );
    }

    fn signed_token(&mut self, spec: &SchemeSpec) {
        let jws = spec.signature.jws;
        let fits = spec
            .algorithm
            .as_slice()
            .iter()
            .all(|algorithm| jws::is_for_tokens(*algorithm));
        self.demand(
            !jws || fits,
            "algorithm",
            "is none that tokens are signed with",
        );
        self.demand(
            !jws || spec.content.is_none(),
            "content",
            "has no meaning with signature.jws: the token is what is signed",
        );
        self.demand(
            jws || spec.signature.leeway.is_none(),
            "signature.leeway",
            "is for tokens: set signature.jws",
        );
    }

    /// Where signatures are.
    pub(crate) fn signature(
        &mut self,
        spec: &SchemeSpec,
        before: &mut Pointers,
    ) -> Option<Selector> {
        let signature = self.selector("signature.from", &spec.signature.from, before)?;
        let part = signature
            .places()
            .any(|place| matches!(place, Place::Signature(_)));
        let texts = spec.content.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let (in_query, in_body) =
            signature
                .places()
                .fold((false, false), |(query, body), place| match place {
                    Place::Query(_) | Place::Queries => (true, body),
                    Place::Body(_) | Place::Form(_) | Place::Whole => (query, true),
                    _ => (query, body),
                });
        let covered = texts
            .iter()
            .any(|text| in_query && text.contains("{url}") || in_body && text.contains("{body}"));
        self.demand(
            !part && !covered,
            "signature.from",
            "a signature can't be a part of what it signs",
        );
        Some(signature)
    }
}
