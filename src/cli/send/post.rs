//! Posts the requests: at a rate, several at once, each story's in order.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Interval};

use super::{
    arguments::Arguments,
    outgoing::{Outgoing, Signed},
    report::{Posted, Sent},
    target::Target,
};
use crate::{
    cli::{Format, Globals, output},
    event::BodyDigest,
};

const TIMEOUT: Duration = Duration::from_secs(30);
/// From so many requests on, a terminal sees how far they are.
const BAR_FROM: u64 = 10;

struct Poster<'a> {
    http: &'a reqwest::Client,
    ticks: Option<Mutex<Interval>>,
    repeats: u32,
    bar: ProgressBar,
}

/// Posts everything. Requests are made as they are needed, so that their times are of now.
pub async fn all(
    globals: &Globals,
    arguments: &Arguments,
    target: &Target,
    outgoing: &mut Outgoing<'_>,
) -> anyhow::Result<Sent> {
    let builder = reqwest::Client::builder().timeout(TIMEOUT);
    let builder = if target.is_here {
        builder.no_proxy()
    } else {
        builder
    };
    let http = builder.build().context("can't set up the HTTP client")?;
    let first = outgoing.story(1)?;
    let repeats = arguments.duplicates.saturating_add(1);
    let total = u64::from(arguments.count) * first.len() as u64 * u64::from(repeats);
    let is_seen = !globals.quiet && std::io::stderr().is_terminal();
    let poster = Poster {
        http: &http,
        ticks: arguments.rate.map(ticks),
        repeats,
        bar: if total > BAR_FROM && is_seen {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        },
    };
    let started = Instant::now();
    let mut sent = Sent::new(total);
    let mut first = Some(first);
    let stories = (1..=arguments.count).map(|number| match first.take() {
        Some(first) => Ok(first),
        None => outgoing.story(number),
    });
    let concurrency = usize::try_from(arguments.concurrency).unwrap_or(1);
    let mut stories = stream::iter(stories)
        .map(|story| async { anyhow::Ok(poster.story(story?).await) })
        .buffered(concurrency);
    while let Some(posted) = stories.next().await {
        for posted in posted? {
            if globals.output == Format::Ndjson {
                output::line(&posted.row)?;
            }
            sent.add(posted);
        }
    }
    poster.bar.finish_and_clear();
    sent.took = started.elapsed();
    Ok(sent)
}

fn ticks(rate: f64) -> Mutex<Interval> {
    let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX / 2);
    let period = period.clamp(Duration::from_nanos(1), Duration::from_secs(86_400));
    Mutex::new(tokio::time::interval(period))
}

impl Poster<'_> {
    async fn story(&self, story: Vec<Signed>) -> Vec<Posted> {
        let mut all = Vec::with_capacity(story.len());
        for signed in &story {
            for _ in 0..self.repeats {
                if let Some(ticks) = &self.ticks {
                    ticks.lock().await.tick().await;
                }
                all.push(self.one(signed).await);
                self.bar.inc(1);
            }
        }
        all
    }

    async fn one(&self, signed: &Signed) -> Posted {
        let mut request = self.http.post(signed.url.clone()).body(signed.body.clone());
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let mut row = json!({ "id": signed.id, "event_type": signed.event_type });
        let mut http = None;
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                http = Some(status);
                row["http"] = status.into();
                let header = |name| {
                    let value = response.headers().get(name);
                    value
                        .and_then(|value| value.to_str().ok())
                        .map(str::to_owned)
                };
                row["status"] = header("hookonce-status").into();
                row["event"] = header("hookonce-event").into();
                let answer: Value = response.json().await.unwrap_or_default();
                if row["status"].is_null() {
                    row["status"] = answer["title"].as_str().into();
                }
            }
            Err(error) => row["error"] = format!("{:#}", anyhow::Error::new(error)).into(),
        }
        let elapsed = started.elapsed();
        row["ms"] = ((elapsed.as_secs_f64() * 10_000.0).round() / 10.0).into();
        Posted {
            row,
            http,
            digest: BodyDigest::of(&signed.body),
            elapsed,
        }
    }
}
