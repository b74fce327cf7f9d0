//! What is known of a provider, as comments above its scheme.

use hookonce_scheme::{Sample, Samples, Scheme};

use super::words::{algorithms, dedup_of, established, key_in_short, named, spelt};
use crate::settings::scheme::{
    Algorithm, Dedup, ItemsTable, KeysSpec, Named, OneOrMany, SchemeSpec, Stability,
};

/// What is known, each fact a line. The lines are comments before the scheme itself, so that the
/// whole can be pasted.
pub(super) fn facts(scheme: &Scheme) -> String {
    let spec = &scheme.spec;
    let mut facts = Facts(vec![format!(
        "{} ({})",
        spec.label.as_deref().unwrap_or(&scheme.name),
        scheme.name
    )]);
    facts.signature(scheme);
    facts.what_must_hold(spec);
    facts.identity(scheme);
    facts.say(
        "event type",
        spec.event_type.clone().unwrap_or_else(|| "not told".into()),
    );
    if let Some(items) = &spec.items {
        facts.say("several", several(&items.table()));
    }
    facts.periods(spec);
    facts.handshakes(spec);
    if !spec.events.is_empty() {
        facts.say(
            "types",
            format!("{} … (some, as recalled)", spec.events.join(", ")),
        );
    }
    if let Some(samples) = Samples::of(&scheme.name) {
        facts.samples(samples);
    }
    if !spec.sources.is_empty() {
        facts.say("read in", spec.sources.join(", "));
    }
    facts.into_comments()
}

/// The lines so far.
struct Facts(Vec<String>);

impl Facts {
    fn say(&mut self, what: &str, text: String) {
        self.0.push(format!("{what:<12} {text}"));
    }

    fn signature(&mut self, scheme: &Scheme) {
        let spec = &scheme.spec;
        self.say(
            "signature",
            format!(
                "{} in {}{}",
                algorithms(scheme),
                spec.signature.from,
                in_brackets(Some(established(scheme)).filter(|by| *by != "-"))
            ),
        );
        if let Some(library) = &spec.checked {
            self.say(
                "checked",
                format!(
                    "against {library}: genuine, altered, another secret's and stale requests are judged alike"
                ),
            );
        }
        self.say("covers", covers(scheme));
    }

    /// What `send` can send.
    fn samples(&mut self, samples: &Samples) {
        let names: Vec<&str> = samples.all().iter().map(Sample::name).collect();
        self.say("samples", names.join(", "));
        for (name, scenario) in samples.scenarios() {
            let steps = scenario.steps.join(", ");
            self.say("scenario", format!("{name}: {} ({steps})", scenario.about));
        }
        self.say("sure", samples.sure.clone());
    }

    /// What is checked besides the signature: where the keys come from, bound values and the time.
    fn what_must_hold(&mut self, spec: &SchemeSpec) {
        if let Some(keys) = &spec.keys {
            self.say("keys", fetched_from(keys));
            if let Some(expect) = &keys.expect {
                self.say("holds", format!("{expect} is one of the source's secrets"));
            }
        }
        for (place, value) in &spec.binds {
            let must = match value.as_str() {
                "*" => "is there".to_owned(),
                "" => "is not there".to_owned(),
                value => format!("is {value}"),
            };
            self.say("holds", format!("{place} {must}"));
        }
        if let Some(time) = &spec.time {
            let tolerance = time
                .tolerance
                .map_or("not checked: no tolerance is known".into(), |tolerance| {
                    format!("within {tolerance}")
                });
            self.say("time", format!("{}, {tolerance}", time.from));
        }
    }

    /// The event key, what it names, how that is known, and what becomes of requests that are
    /// nearly alike.
    fn identity(&mut self, scheme: &Scheme) {
        let spec = &scheme.spec;
        let dedup = dedup_of(spec.dedup, spec.key.as_ref());
        let lacking = match spec.without_key {
            Some(Dedup::Body) => "; a request without it is known by the digest of its body",
            _ => "; a request without it is an event of its own",
        };
        match dedup {
            Dedup::Key => self.say("event key", format!("{}{lacking}", key_in_short(scheme))),
            _ => self.say("event key", key_in_short(scheme)),
        }
        if let Some(identity) = spec.identity.as_ref().filter(|_| dedup != Dedup::None) {
            if let Some(names) = identity.names {
                let signed = match scheme.key_is_signed() {
                    Some(true) => ", covered by the signature",
                    Some(false) => ", not covered by the signature",
                    None => "",
                };
                self.say(
                    "names",
                    format!("{} {}{signed}", article(names), named(&names)),
                );
            }
            let evidence = identity.evidence.as_deref().unwrap_or("not established");
            let stays = match identity.stays {
                Some(Stability::Stated) => format!("stays the same when sent again ({evidence})"),
                Some(Stability::Recalled) => {
                    format!(
                        "recalled to stay the same when sent again, not read again ({evidence})"
                    )
                }
                _ => "whether it stays the same when sent again is not established".into(),
            };
            self.say("again", stays);
        }
        if !spec.ignore.is_empty() {
            self.say(
                "ignored",
                format!("{}: changes when it is sent again", spec.ignore.join(", ")),
            );
        }
        if dedup != Dedup::None {
            let kept = match scheme.key_is_doubtful() {
                Some(true) => {
                    "relayed as an event of its own, with a mark: the key is not established to name an event"
                }
                _ => "kept as a conflict, not relayed",
            };
            self.say("other body", kept.into());
        }
        if let Some(found) = spec
            .identity
            .as_ref()
            .and_then(|identity| identity.found.as_ref())
        {
            self.say("found", found.clone());
        }
    }

    /// How long it is sent again, remembered, and waited for.
    fn periods(&mut self, spec: &SchemeSpec) {
        let delivery = spec
            .confidence
            .as_ref()
            .and_then(|confidence| confidence.delivery.as_deref());
        if let Some(retries) = &spec.retries {
            self.say("sent again", format!("{retries}{}", in_brackets(delivery)));
        }
        self.say(
            "remembered",
            spec.window.map_or(
                "as long as retention.keys: how long it is sent again is not known".into(),
                |window| format!("{window} at least"),
            ),
        );
        self.say(
            "answered",
            spec.ack_budget.map_or(
                "within ingress.ack_budget: the provider's patience is not known".into(),
                |budget| format!("within {budget}"),
            ),
        );
    }

    fn handshakes(&mut self, spec: &SchemeSpec) {
        for challenge in &spec.challenge {
            let signed = if challenge.unsigned {
                "unsigned"
            } else {
                "signed"
            };
            let keeps = if challenge.keep.is_some() {
                "; brings the secret"
            } else {
                ""
            };
            self.say(
                "handshake",
                format!(
                    "{}, {signed}{keeps}",
                    challenge.method.as_deref().unwrap_or("POST")
                ),
            );
        }
    }

    /// A line break inside a fact is written as `\n`, because it would end the comment.
    fn into_comments(self) -> String {
        self.0
            .into_iter()
            .map(|line| format!("# {}\n", line.replace('\n', "\\n")))
            .collect()
    }
}

/// How a fact was established, behind the fact.
fn in_brackets(said: Option<&str>) -> String {
    said.map_or(String::new(), |said| format!(" ({said})"))
}

fn fetched_from(keys: &KeysSpec) -> String {
    let hosts = if keys.hosts.is_empty() {
        String::new()
    } else {
        format!(", on {}", keys.hosts.join(", "))
    };
    format!("fetched from {}{hosts}", keys.from)
}

fn covers(scheme: &Scheme) -> String {
    match &scheme.spec.content {
        _ if scheme.spec.algorithm.as_slice().contains(&Algorithm::Token) => {
            "nothing: who has the token can send anything".into()
        }
        None if scheme.spec.signature.jws => "the token's claims".into(),
        None => "{body}".into(),
        Some(OneOrMany::One(content)) => content.clone(),
        Some(OneOrMany::Many(contents)) => contents.join("  or  "),
    }
}

fn article(names: Named) -> &'static str {
    match names {
        Named::Delivery => "a",
        Named::Event | Named::Action | Named::Object => "an",
    }
}

/// How a request of several events is split.
fn several(items: &ItemsTable) -> String {
    let when = if items.optional {
        "where the source says items = true"
    } else {
        "always"
    };
    let key = match (&items.key, items.dedup) {
        (_, Some(Dedup::Body)) => "the digest of an item is its key".into(),
        (_, Some(Dedup::None)) => "each is an event of its own".into(),
        (Some(key), _) => format!("{} is an item's key", spelt(&key.to_string())),
        (None, _) => "its key is the scheme's, in the item".into(),
    };
    format!("{} is split into its items {when}; {key}", items.from)
}
