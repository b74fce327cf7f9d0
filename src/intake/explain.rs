//! Explains a rejection: each check in turn, and a known mistake if undoing it makes the request
//! right. Everything is tried on what the rejection log kept. No text that is made here contains a
//! valid signature.

use std::sync::Arc;

use bytes::Bytes;
use hookonce_scheme::{Catalog, Finding, Request, Verifier, doubts};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    contract::{Diagnosis, DiagnosisCode},
    intake::{
        rejections::{KeptBody, Rejected},
        rewritten::{Rewriting, rewritings},
        sources::{Source, Sources, secret_key},
    },
    settings::{self, Settings},
};

/// How many providers are named for a request without this source's signature.
const LOOKALIKES_MAX: usize = 3;

#[derive(Clone, Debug)]
pub struct Explanation {
    pub checks: Vec<Finding>,
    /// The first eight hex digits of the SHA-256 of each of the source's secrets.
    pub secrets: Vec<String>,
    pub diagnoses: Vec<Diagnosis>,
}

/// What explanations are made from: the settings in force, and the sources that a reload replaced.
pub struct Explainer<'a> {
    pub settings: &'a Settings,
    pub catalog: &'a Catalog,
    pub sources: &'a Sources,
    pub retired: &'a [Arc<Source>],
}

/// A rejection being explained.
struct Case<'a> {
    from: &'a Explainer<'a>,
    rejected: &'a Rejected,
    source: &'a Source,
    configured: &'a settings::Source,
    headers: Vec<(&'a str, &'a [u8])>,
    url: Option<String>,
    body: &'a Bytes,
    /// The time when it says that it was signed, or else when it came. Verifying at this time
    /// leaves its age out of the question.
    at: i64,
}

impl Explainer<'_> {
    pub fn explain(&self, rejected: &Rejected) -> Explanation {
        let name = rejected.source.as_deref().unwrap_or_default();
        let Some((source, configured)) =
            self.sources.get(name).zip(self.settings.sources.get(name))
        else {
            return Explanation {
                checks: vec![unknown_source(rejected)],
                secrets: Vec::new(),
                diagnoses: Vec::new(),
            };
        };
        let matched = Finding {
            check: "source",
            passed: Some(true),
            found: format!("{}, provider {}", source.name, configured.provider),
        };
        let mut explanation = Explanation {
            checks: vec![matched],
            secrets: secrets_of(configured).iter().map(fingerprint).collect(),
            diagnoses: Vec::new(),
        };
        match &rejected.body {
            Some(body) => {
                self.explain_body(rejected, body, source, configured, &mut explanation);
            }
            None => explanation.checks.push(Finding {
                check: "request",
                passed: Some(false),
                found: format!("refused before its body was checked: {}", rejected.reason),
            }),
        }
        explanation
    }

    /// Adds the checks of a request whose body was read and, if the whole body is kept, the
    /// mistakes that it may come from.
    fn explain_body(
        &self,
        rejected: &Rejected,
        body: &KeptBody,
        source: &Source,
        configured: &settings::Source,
        explanation: &mut Explanation,
    ) {
        let headers: Vec<_> = rejected
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let url = source.url_of(
            self.settings.ingress.public_url.as_deref(),
            &rejected.target,
        );
        let query = rejected.target.split_once('?').map(|(_, query)| query);
        let request = Request {
            method: &rejected.method,
            url: url.as_deref(),
            query,
            headers: &headers,
            body: &body.prefix,
        };
        let checks = source.verifier.explain(&request, rejected.at_unix_ms);
        explanation.checks.extend(checks);
        let at = source
            .verifier
            .signed_at(&request)
            .unwrap_or(rejected.at_unix_ms);
        let Some(whole) = body.whole() else {
            explanation.diagnoses.push(body_not_kept(body));
            return;
        };
        let case = Case {
            from: self,
            rejected,
            source,
            configured,
            headers,
            url,
            body: whole,
            at,
        };
        explanation.diagnoses = case.diagnoses();
    }
}

fn unknown_source(rejected: &Rejected) -> Finding {
    let found = if rejected.source.is_none() {
        "the path names none that is configured"
    } else {
        "it is configured no more"
    };
    Finding {
        check: "source",
        passed: Some(false),
        found: found.into(),
    }
}

fn body_not_kept(body: &KeptBody) -> Diagnosis {
    let text = format!(
        "{} of its {} bytes are kept (rejections.body_prefix_max): no more can be tried",
        body.prefix.len(),
        body.bytes
    );
    Diagnosis {
        code: DiagnosisCode::BodyNotKept,
        text,
    }
}

impl Case<'_> {
    fn diagnoses(&self) -> Vec<Diagnosis> {
        match self.rejected.reason {
            "missing_signature" => self.other_provider().into_iter().collect(),
            "key_unavailable" => vec![self.key_unavailable()],
            "timestamp_too_old" | "timestamp_in_future"
                if self.is_right(&self.source.verifier, self.body) =>
            {
                vec![self.clock_skew()]
            }
            "no_match" | "malformed_signature" | "timestamp_too_old" | "timestamp_in_future" => {
                let tries = [
                    Self::retired_secret,
                    Self::other_source,
                    Self::secret_form,
                    Self::body_changed,
                    Self::url_differs,
                ];
                let mut found: Vec<_> =
                    tries.iter().filter_map(|diagnose| diagnose(self)).collect();
                if found.is_empty() {
                    found = self.secret_doubts();
                }
                if found.is_empty() {
                    self.test_mode().into_iter().collect()
                } else {
                    found
                }
            }
            _ => Vec::new(),
        }
    }

    fn is_right(&self, verifier: &Verifier, body: &Bytes) -> bool {
        self.is_right_at_url(verifier, body, self.url.as_deref())
    }

    fn is_right_at_url(&self, verifier: &Verifier, body: &Bytes, url: Option<&str>) -> bool {
        let query = self.rejected.target.split_once('?').map(|(_, query)| query);
        let request = Request {
            method: &self.rejected.method,
            url,
            query,
            headers: &self.headers,
            body,
        };
        verifier.verify(&request, self.at).is_ok()
    }

    fn key_unavailable(&self) -> Diagnosis {
        let said = &self.rejected.detail;
        let text = format!(
            "{said}: the request was neither trusted nor refused but asked for again (503). Can this machine call that host?"
        );
        Diagnosis {
            code: DiagnosisCode::KeyUnavailable,
            text,
        }
    }

    fn clock_skew(&self) -> Diagnosis {
        let age = self.rejected.at_unix_ms.saturating_sub(self.at) / 1000;
        let text = format!(
            "the signature is right, its time is {} s {} this machine's clock: set the clock, or the request was sent on late",
            age.abs(),
            if age < 0 { "ahead of" } else { "behind" }
        );
        Diagnosis {
            code: DiagnosisCode::ClockSkew,
            text,
        }
    }

    fn retired_secret(&self) -> Option<Diagnosis> {
        let same = self
            .from
            .retired
            .iter()
            .filter(|retired| retired.name == self.source.name);
        same.into_iter()
            .find(|retired| self.is_right(&retired.verifier, self.body))?;
        let text = "signed with a secret that a reload took away: keep the old one in `secrets` until the provider uses the new one".into();
        Some(Diagnosis {
            code: DiagnosisCode::RetiredSecret,
            text,
        })
    }

    fn other_source(&self) -> Option<Diagnosis> {
        let others = self
            .from
            .settings
            .sources
            .iter()
            .filter(|(name, _)| **name != *self.source.name);
        let (name, _) = others.into_iter().find(|(_, other)| {
            let verifier = Verifier::with_usable(
                self.from.catalog,
                &self.configured.spec(),
                &secrets_of(other),
            );
            verifier.is_ok_and(|verifier| self.is_right(&verifier, self.body))
        })?;
        let text = format!(
            "signed with the secret of the source {name:?}: the two URLs or the two secrets are swapped"
        );
        Some(Diagnosis {
            code: DiagnosisCode::OtherSource,
            text,
        })
    }

    fn secret_form(&self) -> Option<Diagnosis> {
        let forms: [(&[&str], &str); 6] = [
            (&[], "taken as text"),
            (&["base64"], "decoded as base64"),
            (&["hex"], "decoded as hex"),
            (&["strip:whsec_"], "without its whsec_"),
            (
                &["strip:whsec_", "base64"],
                "without its whsec_, decoded as base64",
            ),
            (
                &["strip:whsec_", "hex"],
                "without its whsec_, decoded as hex",
            ),
        ];
        let written = secrets_of(self.configured);
        let bare = |secret: &SecretString| {
            secret
                .expose_secret()
                .trim()
                .trim_matches(['"', '\'', '`'])
                .to_owned()
                .into()
        };
        let trimmed: Vec<SecretString> = written.iter().map(bare).collect();
        let found = forms.iter().find_map(|(steps, how)| {
            let mut source = self.configured.clone();
            source
                .scheme
                .get_or_insert_default()
                .insert("secret".into(), json!(steps));
            let right = |secrets| {
                Verifier::with_usable(self.from.catalog, &source.spec(), secrets)
                    .is_ok_and(|verifier| self.is_right(&verifier, self.body))
            };
            (right(&written) || right(&trimmed)).then_some(*how)
        });
        let own = Verifier::with_usable(self.from.catalog, &self.configured.spec(), &trimmed);
        let blanks = own
            .is_ok_and(|verifier| self.is_right(&verifier, self.body))
            .then_some("without the blanks or quotes around it");
        let text = format!(
            "the signature is right with the secret {}: copy it again, just as the provider's page shows it",
            blanks.or(found)?
        );
        Some(Diagnosis {
            code: DiagnosisCode::SecretForm,
            text,
        })
    }

    /// Names what looks wrong with a secret by itself.
    fn secret_doubts(&self) -> Vec<Diagnosis> {
        let secrets = secrets_of(self.configured);
        let mut found = Vec::new();
        for (index, secret) in secrets.iter().enumerate() {
            let key = secret_key(self.configured, index);
            for doubt in doubts(self.source.verifier.scheme(), secret.expose_secret()) {
                found.push(Diagnosis {
                    code: DiagnosisCode::SecretDoubtful,
                    text: format!("{key} looks wrong: it {doubt}"),
                });
            }
        }
        found
    }

    fn body_changed(&self) -> Option<Diagnosis> {
        let Rewriting { what, .. } = rewritings(self.body)
            .into_iter()
            .find(|rewriting| self.is_right(&self.source.verifier, &rewriting.body))?;
        let text = format!(
            "the body was changed on its way: {what} has the right signature. Something before hookonce reads and writes it anew"
        );
        Some(Diagnosis {
            code: DiagnosisCode::BodyChanged,
            text,
        })
    }

    fn url_differs(&self) -> Option<Diagnosis> {
        let url = self.url.as_deref()?;
        let host = self
            .headers
            .iter()
            .find(|(name, _)| *name == "host")
            .and_then(|(_, value)| std::str::from_utf8(value).ok());
        let right = urls(url, host, &self.rejected.target)
            .into_iter()
            .find(|url| self.is_right_at_url(&self.source.verifier, self.body, Some(url)))?;
        let right = right.split('?').next().unwrap_or_default();
        let text = format!(
            "the signature is right for the URL {right}: set it as the source's `url`, or change ingress.public_url"
        );
        Some(Diagnosis {
            code: DiagnosisCode::UrlDiffers,
            text,
        })
    }

    fn other_provider(&self) -> Option<Diagnosis> {
        let carried = |name: &str| self.headers.iter().any(|(known, _)| *known == name);
        let looks_like = |configured: &settings::Source| {
            let verifier =
                Verifier::with_usable(self.from.catalog, &configured.spec(), &[]).ok()?;
            let mut headers = verifier
                .signature_headers()
                .filter(|name| *name != "authorization")
                .peekable();
            headers.peek()?;
            headers.all(carried).then(|| configured.provider.clone())
        };
        let names = self
            .from
            .catalog
            .names()
            .filter(|name| *name != self.configured.provider);
        let found: Vec<String> = names
            .filter_map(|name| {
                looks_like(&settings::Source {
                    provider: name.to_owned(),
                    ..settings::Source::default()
                })
            })
            .take(LOOKALIKES_MAX)
            .collect();
        if found.is_empty() {
            return None;
        }
        let text = format!(
            "it carries the signature header of {}: is this source's provider right?",
            found.join(", ")
        );
        Some(Diagnosis {
            code: DiagnosisCode::OtherProvider,
            text,
        })
    }

    /// A mere hint, for when nothing that was tried is right.
    fn test_mode(&self) -> Option<Diagnosis> {
        let body: Value = serde_json::from_slice(self.body).ok()?;
        let live = body.get("livemode")?.as_bool()?;
        let (this, other) = if live {
            ("live", "test")
        } else {
            ("test", "live")
        };
        let text = format!(
            "the event was made in {this} mode: is the source's secret that of the endpoint in {other} mode?"
        );
        Some(Diagnosis {
            code: DiagnosisCode::TestMode,
            text,
        })
    }
}

/// Other URLs that a provider may have registered for this request.
fn urls(url: &str, host: Option<&str>, target: &str) -> Vec<String> {
    let mut bases = vec![url.to_owned()];
    bases.extend(host.map(|host| format!("https://{host}{target}")));
    let mut urls = Vec::new();
    for base in &bases {
        let (path, query) = base
            .split_once('?')
            .map_or((base.as_str(), None), |(path, query)| (path, Some(query)));
        let slash = path
            .strip_suffix('/')
            .map_or_else(|| format!("{path}/"), str::to_owned);
        for path in [path.to_owned(), slash] {
            for path in [
                path.clone(),
                path.replacen("https://", "http://", 1),
                path.replacen("http://", "https://", 1),
            ] {
                urls.extend(query.map(|query| format!("{path}?{query}")));
                urls.push(path);
            }
        }
    }
    urls
}

/// A short digest by which people tell secrets apart without seeing them.
fn fingerprint(secret: &SecretString) -> String {
    hex::encode(&Sha256::digest(secret.expose_secret())[..4])
}

/// The source's secrets, without those that cannot be read.
fn secrets_of(source: &settings::Source) -> Vec<SecretString> {
    source
        .secret
        .iter()
        .chain(&source.secrets)
        .filter_map(|secret| secret.read().ok())
        .collect()
}
