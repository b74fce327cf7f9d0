//! `send`: signs as the provider does and posts, as often as asked. Samples are `sample.rs`,
//! signing is the provider's.

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use hookonce_scheme::{Draft, Scheme, sign};
use indicatif::ProgressBar;
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use crate::{
    chance,
    cli::{
        Exit, Failure, Format, Globals, config,
        output::{self, Column, columns},
        sample::sample,
        verify_files,
    },
    clock::Clock,
    node::data_dir::DataDir,
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// `hookonce providers list` shows them
    provider: String,
    /// The event's type; default: the first of the provider's samples
    #[arg(long, value_name = "T")]
    r#type: Option<String>,
    /// The body, instead of a sample
    #[arg(long, value_name = "FILE|-")]
    data: Option<PathBuf>,
    /// The event's id; default: a fresh one. With --count, "-1", "-2", … are added
    #[arg(long)]
    id: Option<String>,
    /// Default: http://127.0.0.1:8080/hooks/PROVIDER
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How often each is sent again
    #[arg(long, value_name = "K", default_value_t = 0)]
    duplicates: u32,
    /// Default: that of the source in the settings, else the one that dev made
    #[arg(long, env = "HOOKONCE_SECRET", hide_env_values = true)]
    secret: Option<SecretString>,
}

const BASE: &str = "http://127.0.0.1:8080/hooks/";
const TIMEOUT: Duration = Duration::from_secs(30);
const COLUMNS: [Column<Value>; 6] = columns!(
    Value;
    "ID" => "id",
    "TYPE" => "event_type",
    "HTTP" => "http",
    "STATUS" => "status",
    "EVENT" => "event",
    "MS" => "ms",
);

/// A signed request.
struct Signed {
    id: String,
    event_type: Option<String>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    url: Url,
}

pub async fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<Exit> {
    let catalog = config::catalog(globals)?;
    let scheme = catalog
        .get(&arguments.provider)
        .ok_or_else(|| Failure::not_found(catalog.not_known(&arguments.provider)))?;
    let to = arguments
        .to
        .clone()
        .unwrap_or_else(|| format!("{BASE}{}", arguments.provider));
    let url = Url::parse(&to)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| Failure::usage(format!("--to: {to:?} is no http(s) URL")))?;
    let secret = match &arguments.secret {
        Some(secret) => secret.clone(),
        None => find_secret(globals, &arguments.provider, &url)?,
    };
    let data = arguments
        .data
        .as_deref()
        .map(verify_files::read)
        .transpose()?;
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .build()
        .context("can't set up the HTTP client")?;
    let total = u64::from(arguments.count) * (u64::from(arguments.duplicates) + 1);
    let bar = if total > 10 && !globals.quiet && std::io::stderr().is_terminal() {
        ProgressBar::new(total)
    } else {
        ProgressBar::hidden()
    };

    let mut rows = Vec::new();
    let mut accepted = 0;
    for number in 1..=arguments.count {
        let signed = signed(&arguments, scheme, &secret, &url, data.as_deref(), number)?;
        for _ in 0..=arguments.duplicates {
            let row = post(&http, &signed).await;
            accepted += u64::from(
                row["http"]
                    .as_u64()
                    .is_some_and(|status| (200..300).contains(&status)),
            );
            bar.inc(1);
            if globals.output == Format::Ndjson {
                output::line(&row)?
            } else {
                rows.push(row)
            }
        }
    }
    bar.finish_and_clear();
    if globals.output != Format::Ndjson {
        output::list(globals, &rows, &COLUMNS)?;
    }
    if accepted < total
        && let Some(error) = rows.iter().find_map(|row| row["error"].as_str())
    {
        anstream::eprintln!("\x1b[1;31merror:\x1b[0m {}", output::printable(error));
    }
    Ok(match accepted {
        all if all == total => Exit::Done,
        0 => Exit::Failed,
        _ => Exit::Partly,
    })
}

fn signed(
    arguments: &Arguments,
    scheme: &Scheme,
    secret: &SecretString,
    url: &Url,
    data: Option<&[u8]>,
    number: u32,
) -> anyhow::Result<Signed> {
    let id = match &arguments.id {
        Some(id) if arguments.count > 1 => format!("{id}-{number}"),
        Some(id) => id.clone(),
        None => fresh_id(&arguments.provider),
    };
    let (event_type, body) = match data {
        Some(body) => (arguments.r#type.clone(), body.to_vec()),
        None => {
            let (event_type, body) =
                sample(scheme, arguments.r#type.as_deref(), &id).map_err(|error| {
                    anyhow::anyhow!("can't make a sample of {}: {error}", arguments.provider)
                })?;
            (Some(event_type), distinct(body, &id))
        }
    };
    let draft = Draft {
        id: &id,
        headers: &[],
        event_type: event_type.as_deref(),
        unix_seconds: Clock::System.unix_ms().div_euclid(1000),
        body: &body,
        url: Some(url.as_str()),
        method: "POST",
    };
    let signed = sign(scheme, secret, &draft)
        .map_err(|error| anyhow::anyhow!("can't sign as {}: {error}", arguments.provider))?;
    let url = signed
        .url
        .and_then(|url| Url::parse(&url).ok())
        .unwrap_or_else(|| url.clone());
    Ok(Signed {
        id,
        event_type,
        headers: signed.headers,
        body: signed.body,
        url,
    })
}

/// An id in the form of the provider's own.
fn fresh_id(provider: &str) -> String {
    let random: [u8; 12] = chance::bytes();
    match provider {
        "stripe" => format!("evt_{}", hex::encode(random)),
        "standard-webhooks" | "svix" => format!("msg_{}", hex::encode(random)),
        "slack" => format!("Ev{}", hex::encode_upper(&random[..5])),
        _ => uuid::Builder::from_random_bytes(chance::bytes())
            .into_uuid()
            .to_string(),
    }
}

/// Adds the id to a sample that does not contain it. Otherwise two samples would be the same body
/// under two ids, which is what a replayed request looks like.
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

async fn post(http: &reqwest::Client, signed: &Signed) -> Value {
    let mut request = http.post(signed.url.clone()).body(signed.body.clone());
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    let started = Instant::now();
    let mut row = json!({ "id": signed.id, "event_type": signed.event_type });
    match request.send().await {
        Ok(response) => {
            row["http"] = response.status().as_u16().into();
            let answer: Value = response.json().await.unwrap_or_default();
            row["status"] = answer["status"]
                .as_str()
                .or(answer["title"].as_str())
                .into();
            row["event"] = answer["event"].as_str().into();
        }
        Err(error) => row["error"] = format!("{:#}", anyhow::Error::new(error)).into(),
    }
    row["ms"] = ((started.elapsed().as_secs_f64() * 10_000.0).round() / 10.0).into();
    row
}

/// The secret of the source that the URL names: from the settings, else from `dev`.
fn find_secret(globals: &Globals, provider: &str, url: &Url) -> anyhow::Result<SecretString> {
    let source = url.path().strip_prefix("/hooks/").unwrap_or(provider);
    if let Ok(loaded) = config::load(globals)
        && let Some(source) = loaded.settings.sources.get(source)
        && let Some(secret) = source
            .secret
            .iter()
            .chain(&source.secrets)
            .find_map(|secret| secret.read().ok())
    {
        return Ok(secret);
    }
    let secrets = DataDir::new(globals.data_dir.clone()).dev_secrets()?;
    secrets.get(source).map(|secret| SecretString::from(secret.as_str())).ok_or_else(|| {
        Failure::not_found(format!("there is no secret for the source {source:?}: give --secret, or start `hookonce dev`")).into()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use hookonce_scheme::Catalog;

    #[test]
    fn samples_of_two_ids_differ() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        for provider in [
            "stripe",
            "github",
            "slack",
            "shopify",
            "standard-webhooks",
            "zoom",
            "telegram",
        ] {
            let scheme = catalog.get(provider).unwrap();
            let body = |id: &str| distinct(sample(scheme, None, id).unwrap().1, id);
            assert_ne!(body("id-one"), body("id-two"), "{provider}");
            assert_eq!(body("id-one"), body("id-one"), "{provider}");
        }
    }
}
