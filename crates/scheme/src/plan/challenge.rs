//! Handshakes: which requests are handshakes, and how they are answered. Compiled from
//! `[[challenge]]`. Records nothing and checks no signature.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    compiler::Compiler,
    locate::{
        json::{Found, Pointers},
        piece::Values,
        selector::{Inputs, Place, Selector},
        template::{Chunk, Template},
    },
    rejection::Rejection,
    request::Request,
    spec::{Algorithm, AnswerSpec, ChallengeSpec, MacText},
};

/// What a handshake is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeAnswer {
    /// 200 to 299.
    pub status: u16,
    /// By lower-case name.
    pub headers: Vec<(String, String)>,
    /// The content type of the body, even if that is empty.
    pub content_type: &'static str,
    /// At most 4096 bytes.
    pub body: Bytes,
}

const CHALLENGE_BYTES_MAX: usize = 4096;
/// The longest text, in bytes, that an unsigned handshake may have signed.
const WORD_BYTES_MAX: usize = 256;
const HEX_BYTES_MAX: usize = 32;

/// A handshake: how it is known, and how it is answered.
pub(crate) struct Challenge {
    method: String,
    /// Marks that need no look into the body come first.
    when: Vec<(Selector, Mark)>,
    pub(crate) unsigned: bool,
    pub(crate) token: Option<Selector>,
    pub(crate) mac: Option<Template>,
    mac_text: MacText,
    status: u16,
    answer: Answer,
    headers: Vec<(String, Template)>,
    pub(crate) keep: Option<Selector>,
    pub(crate) visit: Option<Selector>,
    pointers: Pointers,
}

enum Mark {
    Any,
    Absent,
    Is(String),
}

enum Answer {
    Empty,
    Text(Template),
    Object(Vec<(String, Member)>),
}

enum Member {
    Text(Template),
    Value(Value),
}

impl Compiler {
    /// The compiled `[[challenge]]`s that are sound.
    pub(crate) fn challenges(
        &mut self,
        specs: &[ChallengeSpec],
        algorithms: &[Algorithm],
    ) -> Vec<Challenge> {
        let compiled = specs.iter().enumerate().filter_map(|(index, spec)| {
            self.challenge(&format!("challenge[{index}]"), spec, algorithms)
        });
        compiled.collect()
    }

    fn challenge(
        &mut self,
        at: &str,
        spec: &ChallengeSpec,
        algorithms: &[Algorithm],
    ) -> Option<Challenge> {
        let before = self.errors.len();
        let key = |name: &str| format!("{at}.{name}");
        let mut pointers = Pointers::default();
        let (method, status) = self.plain_parts(at, spec);
        let when = self.when(&key("when"), &spec.when, &mut pointers);
        let token = spec
            .token
            .as_deref()
            .and_then(|text| self.selector(&key("token"), text, &mut pointers));
        let keep = spec
            .keep
            .as_deref()
            .and_then(|text| self.selector(&key("keep"), text, &mut pointers));
        let visit = spec
            .visit
            .as_deref()
            .and_then(|text| self.selector(&key("visit"), text, &mut pointers));
        self.demand(
            visit.is_none() || !spec.unsigned,
            &key("visit"),
            "must not be unsigned: whoever asks would choose what is visited",
        );
        let mac = spec
            .mac
            .as_deref()
            .and_then(|text| self.keep(&key("mac"), Template::parse(text, &mut pointers)));
        let can = algorithms.iter().all(|algorithm| makes_digests(*algorithm));
        self.demand(
            mac.is_none() || can,
            &key("mac"),
            "needs an algorithm that makes digests with the secret",
        );
        let answer = self.answer(&key("answer"), spec.answer.as_ref(), &mut pointers);
        let headers = self.headers(at, &spec.headers, &mut pointers);
        let uses_mac = answer
            .templates()
            .chain(headers.iter().map(|(_, template)| template))
            .any(Template::has_mac);
        self.demand(
            !uses_mac || mac.is_some(),
            &key("mac"),
            "is missing: the answer has {mac}",
        );
        let mac_text = spec.mac_text.unwrap_or(MacText::Word);
        let unsigned = spec.unsigned;
        let made = Challenge {
            method,
            when,
            unsigned,
            token,
            mac,
            mac_text,
            status,
            answer,
            headers,
            keep,
            visit,
            pointers,
        };
        (self.errors.len() == before).then_some(made)
    }

    /// The method and the status.
    fn plain_parts(&mut self, at: &str, spec: &ChallengeSpec) -> (String, u16) {
        let method = spec.method.clone().unwrap_or_else(|| "POST".into());
        let known = ["POST", "GET", "HEAD", "OPTIONS"].contains(&method.as_str());
        self.demand(
            known,
            &format!("{at}.method"),
            "must be POST, GET, HEAD or OPTIONS",
        );
        let marked = method != "POST" || !spec.when.is_empty();
        self.demand(
            marked,
            &format!("{at}.when"),
            "is missing: each POST would be a handshake",
        );
        let status = spec.status.unwrap_or(200);
        self.demand(
            (200..300).contains(&status),
            &format!("{at}.status"),
            "must be 200 to 299",
        );
        (method, status)
    }

    fn headers(
        &mut self,
        at: &str,
        spec: &BTreeMap<String, String>,
        pointers: &mut Pointers,
    ) -> Vec<(String, Template)> {
        let header = |(name, text): (&String, &String)| {
            let key = format!("{at}.headers.{name}");
            let sound = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            self.demand(sound, &key, "is no header name");
            Some((
                name.to_ascii_lowercase(),
                self.keep(&key, Template::parse_answer(text, pointers))?,
            ))
        };
        spec.iter().filter_map(header).collect()
    }

    fn when(
        &mut self,
        at: &str,
        when: &BTreeMap<String, String>,
        pointers: &mut Pointers,
    ) -> Vec<(Selector, Mark)> {
        let mut marks = Vec::new();
        for (text, value) in when {
            let mark = match value.as_str() {
                "*" => Mark::Any,
                "" => Mark::Absent,
                value => Mark::Is(value.into()),
            };
            marks.extend(
                self.selector(&format!("{at}.{text}"), text, pointers)
                    .map(|selector| (selector, mark)),
            );
        }
        marks.sort_by_key(|(selector, _)| selector.places().any(in_body));
        marks
    }

    fn answer(&mut self, at: &str, spec: Option<&AnswerSpec>, pointers: &mut Pointers) -> Answer {
        match spec {
            None => Answer::Empty,
            Some(AnswerSpec::Text(text)) => self
                .keep(at, Template::parse_answer(text, pointers))
                .map_or(Answer::Empty, Answer::Text),
            Some(AnswerSpec::Object(object)) => {
                let mut members = Vec::new();
                for (name, value) in object {
                    let member = match value {
                        Value::String(text) => self
                            .keep(
                                &format!("{at}.{name}"),
                                Template::parse_answer(text, pointers),
                            )
                            .map(Member::Text),
                        value => Some(Member::Value(value.clone())),
                    };
                    members.extend(member.map(|member| (name.clone(), member)));
                }
                Answer::Object(members)
            }
        }
    }
}

impl Answer {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let (text, members) = match self {
            Self::Empty => (None, &[][..]),
            Self::Text(template) => (Some(template), &[][..]),
            Self::Object(members) => (None, &members[..]),
        };
        text.into_iter()
            .chain(members.iter().filter_map(|(_, member)| {
                if let Member::Text(template) = member {
                    Some(template)
                } else {
                    None
                }
            }))
    }
}

/// Whether its digests are made with the secret. Public-key digests are the sender's alone, and a
/// token is the secret itself.
fn makes_digests(algorithm: Algorithm) -> bool {
    !algorithm.is_public() && algorithm != Algorithm::Token
}

fn in_body(place: &Place) -> bool {
    matches!(place, Place::Body(_) | Place::Member(_))
}

impl Challenge {
    /// The method of the request.
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// Whether a digest of this content is given to anybody who asks. It is made with the key that
    /// signs events. So only texts that can be no event get one, and such a text is never taken for
    /// an event.
    pub(crate) fn gives_away(&self, content: &[Chunk<'_>]) -> bool {
        if !self.unsigned || self.mac.is_none() {
            return false;
        }
        let (length_max, is_harmless): (usize, fn(&u8) -> bool) = match self.mac_text {
            MacText::Word => (WORD_BYTES_MAX, |byte| {
                (b' '..=b'~').contains(byte) && !b"{}[]\"<>&".contains(byte)
            }),
            MacText::Hex => (HEX_BYTES_MAX, u8::is_ascii_hexdigit),
        };
        let mut length = 0;
        content.iter().all(|chunk| match chunk {
            Chunk::Bytes(bytes) => {
                length += bytes.len();
                length <= length_max && bytes.iter().all(is_harmless)
            }
            Chunk::Secret => true,
        })
    }

    /// What was found in the body, if the request is this handshake.
    pub(crate) fn meets<'a>(
        &self,
        request: &'a Request<'a>,
    ) -> Result<Option<Option<Found<'a>>>, Rejection> {
        if self.method != request.method {
            return Ok(None);
        }
        let inputs = Inputs {
            request,
            found: None,
            signature: None,
        };
        let (outside, inside): (Vec<_>, Vec<_>) = self
            .when
            .iter()
            .partition(|(selector, _)| !selector.places().any(in_body));
        for (selector, mark) in outside {
            if !mark.fits(selector, &inputs)? {
                return Ok(None);
            }
        }
        let found = if self.pointers.is_empty() {
            None
        } else {
            self.pointers.find(request.body)
        };
        let inputs = Inputs {
            found: found.as_ref(),
            ..inputs
        };
        for (selector, mark) in inside {
            if !mark.fits(selector, &inputs)? {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// The answer. None if something that it is made of is missing, too long, or has characters
    /// that no answer may have.
    pub(crate) fn answer(
        &self,
        inputs: &Inputs<'_>,
        mac: Option<&str>,
        key_name: Option<&str>,
    ) -> Option<ChallengeAnswer> {
        let values = Values {
            mac,
            key_name,
            ..Values::none(inputs)
        };
        let (content_type, body) = match &self.answer {
            Answer::Empty => ("text/plain", Bytes::new()),
            Answer::Text(template) => ("text/plain", Bytes::from(text(template, &values)?)),
            Answer::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    let value = match member {
                        Member::Text(template) => {
                            Value::from(String::from_utf8_lossy(&text(template, &values)?))
                        }
                        Member::Value(value) => value.clone(),
                    };
                    object.insert(name.clone(), value);
                }
                (
                    "application/json",
                    Bytes::from(Value::Object(object).to_string()),
                )
            }
        };
        let mut headers = Vec::new();
        for (name, template) in &self.headers {
            let value = String::from_utf8(text(template, &values)?).ok()?;
            if value.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
                return None;
            }
            headers.push((name.clone(), value));
        }
        (body.len() <= CHALLENGE_BYTES_MAX).then_some(ChallengeAnswer {
            status: self.status,
            content_type,
            headers,
            body,
        })
    }
}

impl Mark {
    fn fits(&self, selector: &Selector, inputs: &Inputs<'_>) -> Result<bool, Rejection> {
        let value = selector.resolve(inputs)?;
        Ok(match (self, value) {
            (Self::Any, Some(_)) | (Self::Absent, None) => true,
            (Self::Is(expected), Some((_, value))) => expected.as_bytes() == &value[..],
            _ => false,
        })
    }
}

fn text(template: &Template, values: &Values<'_>) -> Option<Vec<u8>> {
    let chunks = template.resolve(values).ok()?;
    let mut text = Vec::new();
    for chunk in chunks {
        if let Chunk::Bytes(bytes) = chunk {
            text.extend_from_slice(&bytes);
        }
        if text.len() > CHALLENGE_BYTES_MAX {
            return None;
        }
    }
    Some(text)
}
