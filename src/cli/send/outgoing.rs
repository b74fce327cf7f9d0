//! What is sent: a sample, a scenario or a body that was given, each signed as it is made, so that
//! its time is that of its sending.

use hookonce_scheme::{
    Draft, IdPlace, Made, Sample, Samples, Story, is_form, renew, replace_id, replace_type,
    sample_body, sign,
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use url::Url;

use super::{arguments::Arguments, fresh, target::Target};
use crate::{chance, cli::Failure, clock::Clock};

/// A signed request.
pub struct Signed {
    pub id: String,
    pub event_type: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub url: Url,
}

/// What one story sends, in order.
enum What<'a> {
    Data(&'a [u8]),
    Samples(Vec<&'static Sample>),
    /// A type of which there is no sample: the body of the nearest, if there is any.
    Unknown(String, Option<&'static Sample>),
}

/// Makes the requests, story by story.
pub struct Outgoing<'a> {
    target: &'a Target,
    arguments: &'a Arguments,
    samples: Option<&'static Samples>,
    data: Option<Vec<u8>>,
    names: Vec<String>,
    rng: StdRng,
}

impl<'a> Outgoing<'a> {
    pub fn new(
        target: &'a Target,
        arguments: &'a Arguments,
        data: Option<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let provider = &target.scheme.name;
        let samples = Samples::of(provider);
        let names = match &arguments.scenario {
            Some(name) => samples
                .and_then(|samples| samples.scenarios().get(name))
                .map(|scenario| scenario.steps.clone())
                .ok_or_else(|| unknown_scenario(provider, name, samples))?,
            None => arguments.r#type.iter().cloned().collect(),
        };
        Ok(Self {
            target,
            arguments,
            samples,
            data,
            names,
            rng: StdRng::from_seed(chance::bytes()),
        })
    }

    /// What a person should know of the ids before they are sent.
    pub fn note(&self) -> anyhow::Result<Option<String>> {
        let (Some(data), true) = (&self.data, self.new_ids()) else {
            return Ok(None);
        };
        let provider = &self.target.scheme.name;
        let found = replace_id(&self.target.scheme, data, |old, _| old.to_owned())
            .map_err(|error| anyhow::anyhow!("{provider}: {error}"))?;
        Ok((found.place == IdPlace::Nowhere).then(|| {
            let same = match self.arguments.count {
                1 => "it is sent as it is",
                _ => "all are sent as it is, and may count as one event",
            };
            format!("note: this body has no id where {provider} has its events': {same}")
        }))
    }

    /// Whether a body that was given gets another id.
    fn new_ids(&self) -> bool {
        let Arguments {
            id,
            fresh_id,
            count,
            ..
        } = self.arguments;
        id.is_some() || *fresh_id || *count > 1
    }

    /// The requests of the `number`-th story, from 1.
    pub fn story(&mut self, number: u32) -> anyhow::Result<Vec<Signed>> {
        let now_unix_ms = Clock::System.unix_ms();
        let rng = StdRng::from_rng(&mut self.rng);
        let made = self.made(number, now_unix_ms, rng);
        let provider = &self.target.scheme.name;
        let made = made.map_err(|error| match error.downcast_ref::<Failure>() {
            Some(_) => error,
            None => Failure::usage(format!("{provider}: {error}")).into(),
        })?;
        made.into_iter()
            .map(|made| self.signed(made, now_unix_ms))
            .collect()
    }

    fn what(&self) -> What<'_> {
        if let Some(data) = &self.data {
            return What::Data(data);
        }
        let find = |name: &String| self.samples.and_then(|samples| samples.get(name));
        let found: Option<Vec<_>> = self.names.iter().map(find).collect();
        match (found, self.samples) {
            (Some(found), _) if !found.is_empty() => What::Samples(found),
            (_, Some(samples)) if self.names.is_empty() => {
                let usual = self.target.scheme.spec.events.first();
                let usual = usual.and_then(|event_type| samples.get(event_type));
                What::Samples(usual.or(samples.all().first()).into_iter().collect())
            }
            (_, samples) => {
                let spec = &self.target.scheme.spec;
                let event_type = self.names.first().or(spec.events.first());
                let event_type = event_type.map_or("example.created", String::as_str);
                let near = samples.and_then(|samples| samples.nearest_shape(event_type));
                What::Unknown(event_type.to_owned(), near)
            }
        }
    }

    fn made(
        &mut self,
        number: u32,
        now_unix_ms: i64,
        mut rng: StdRng,
    ) -> anyhow::Result<Vec<Made>> {
        let Arguments { id, count, .. } = self.arguments;
        let id = id.as_deref().map(|id| fresh::counted(id, number, *count));
        let fallback = || uuid(&mut StdRng::from_seed(chance::bytes()));
        match self.what() {
            What::Data(data) => {
                let made = self.of_data(data, id, now_unix_ms, &mut rng)?;
                Ok(vec![made])
            }
            What::Samples(samples) => {
                let library = self.samples.expect("samples are of a library");
                let mut story = Story::new(library, rng);
                let made = samples
                    .into_iter()
                    .map(|sample| story.event(sample, id.as_deref(), now_unix_ms));
                Ok(made.collect::<Result<_, _>>()?)
            }
            What::Unknown(event_type, Some(near)) => {
                let library = self.samples.expect("samples are of a library");
                let mut story = Story::new(library, rng);
                let made = story.event(near, id.as_deref(), now_unix_ms)?;
                let headers = story.headers(Some(&event_type), &made.id, now_unix_ms)?;
                let body = match replace_type(&self.target.scheme, &made.body, &event_type)? {
                    Some(body) => body,
                    None => sample_body(&self.target.scheme, &event_type, &made.id)?,
                };
                let event_type = Some(event_type);
                Ok(vec![Made {
                    event_type,
                    headers,
                    body,
                    ..made
                }])
            }
            What::Unknown(event_type, None) => {
                let id = id.unwrap_or_else(fallback);
                let body = sample_body(&self.target.scheme, &event_type, &id)?;
                Ok(vec![Made {
                    body: distinct(body, &id),
                    headers: Vec::new(),
                    event_type: Some(event_type),
                    id,
                }])
            }
        }
    }

    /// The body that was given, with the id that was asked for, or a fresh one.
    fn of_data(
        &self,
        data: &[u8],
        id: Option<String>,
        now_unix_ms: i64,
        rng: &mut StdRng,
    ) -> anyhow::Result<Made> {
        let scheme = &self.target.scheme;
        let event_type = self.names.first().cloned();
        let mut story = self
            .samples
            .map(|samples| Story::new(samples, StdRng::from_rng(rng)));
        let mut body = renew(scheme, data, now_unix_ms.div_euclid(1000))?;
        let mut header_id = id.clone();
        if self.new_ids() {
            let mut random = || rand::Rng::next_u32(rng);
            let replaced = replace_id(scheme, &body, |old, index| match &id {
                Some(id) if index == 0 => id.clone(),
                Some(id) => fresh::counted(id, u32::try_from(index).unwrap_or(0) + 1, u32::MAX),
                None => fresh::like(old, now_unix_ms, index, &mut random),
            })?;
            body = replaced.body;
        }
        // For a header, or to be shown: what stands in the body counts.
        let shown = replace_id(scheme, &body, |old, _| old.to_owned())?.before;
        header_id = header_id.or(shown);
        let id = match (header_id, &mut story, self.samples) {
            (Some(id), _, _) => id,
            (None, Some(story), Some(samples)) => story.id(&samples.all()[0], now_unix_ms)?,
            _ => uuid(rng),
        };
        let mut headers = match &mut story {
            Some(story) => story.headers(event_type.as_deref(), &id, now_unix_ms)?,
            None => Vec::new(),
        };
        // A sample's content type need not be that of this body.
        headers.retain(|(name, value)| {
            name != "content-type" || value.contains("form") == is_form(data)
        });
        let is_said = headers.iter().any(|(name, _)| name == "content-type");
        if is_form(data) && !is_said {
            headers.push((
                "content-type".into(),
                "application/x-www-form-urlencoded".into(),
            ));
        }
        Ok(Made {
            id,
            event_type,
            headers,
            body,
        })
    }

    fn signed(&self, made: Made, now_unix_ms: i64) -> anyhow::Result<Signed> {
        let Target {
            scheme,
            secret,
            url,
            signed_url,
            ..
        } = self.target;
        let own = &self.arguments.header;
        let mut headers = made.headers;
        headers.retain(|(name, _)| !own.iter().any(|(other, _)| other == name));
        headers.extend(own.iter().cloned());
        let draft = Draft {
            id: &made.id,
            headers: &headers,
            event_type: made.event_type.as_deref(),
            unix_seconds: now_unix_ms.div_euclid(1000),
            body: &made.body,
            url: Some(signed_url.as_str()),
            method: "POST",
        };
        let signed = sign(scheme, secret, &draft)
            .map_err(|error| anyhow::anyhow!("can't sign as {}: {error}", scheme.name))?;
        // A provider that signs in the query has added it to the URL that it knows.
        let mut url = url.clone();
        if let Some(known) = signed.url.as_deref()
            && known != signed_url.as_str()
            && let Some((_, query)) = known.split_once('?')
        {
            url.set_query(Some(query));
        }
        Ok(Signed {
            id: made.id,
            event_type: made.event_type,
            headers: signed.headers,
            body: signed.body,
            url,
        })
    }
}

fn uuid(rng: &mut StdRng) -> String {
    let mut bytes = [0; 16];
    rand::Rng::fill_bytes(rng, &mut bytes);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// Adds the id to a body that does not contain it. Otherwise two would be the same body under two
/// ids, which is what a replayed request looks like.
fn distinct(body: Vec<u8>, id: &str) -> Vec<u8> {
    if memchr::memmem::find(&body, id.as_bytes()).is_some() {
        return body;
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Object(mut object)) => {
            object.insert("sample_id".into(), id.into());
            Value::Object(object).to_string().into_bytes()
        }
        _ => body,
    }
}

/// What `--scenario` names.
fn unknown_scenario(provider: &str, name: &str, samples: Option<&Samples>) -> Failure {
    let scenarios = samples.into_iter().flat_map(|samples| samples.scenarios());
    let known: Vec<String> = scenarios
        .map(|(name, scenario)| format!("\n  {name}: {}", scenario.about))
        .collect();
    let known = match known.as_slice() {
        [] => format!("{provider} has no scenarios"),
        known => format!("{provider} has these:{}", known.concat()),
    };
    Failure::not_found(format!("there is no scenario {name:?}: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_bodies_of_two_ids_differ() {
        let body = |id: &str| distinct(br#"{"type":"x"}"#.to_vec(), id);
        assert_ne!(body("one"), body("two"));
        assert_eq!(
            distinct(br#"{"id":"one"}"#.to_vec(), "one"),
            br#"{"id":"one"}"#
        );
    }
}
