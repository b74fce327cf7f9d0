//! Sides that are compared: measured in turn, A B A B, so that what drifts hits all alike; a round
//! that others disturbed is measured again.

use std::time::Duration;

use crate::{
    Bench,
    report::Series,
    round::{DISTURBED, Http, Sample, SingleRow},
    steps::Steps,
};

/// How often one round is measured at most.
const TRIES_MAX: u32 = 2;

pub enum Kind<'a> {
    Http(Http),
    SingleRow(SingleRow<'a>),
    Steps(Steps),
}

pub struct Side<'a> {
    pub name: String,
    pub kind: Kind<'a>,
}

impl<'a> Side<'a> {
    pub fn http(name: impl Into<String>, http: Http) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Http(http),
        }
    }

    pub async fn once(&self, bench: &Bench, window: Duration) -> anyhow::Result<Sample> {
        match &self.kind {
            Kind::Http(http) => http.measure(bench, window).await,
            Kind::SingleRow(single_row) => single_row.measure(bench, window).await,
            Kind::Steps(steps) => steps.measure(bench, window).await,
        }
    }
}

/// Measures, and where others disturbed it once more, as long as the run has repeats left. The
/// least disturbed try counts.
pub async fn undisturbed(
    bench: &Bench,
    name: &str,
    measure: impl AsyncFn() -> anyhow::Result<Sample>,
) -> anyhow::Result<Sample> {
    let mut best: Option<Sample> = None;
    let mut tries = 0;
    loop {
        tries += 1;
        let sample = measure().await?;
        eprintln!(
            "  {name:<28} {:>9.0}/s  p50 {:>6} µs  p99 {:>7} µs  cpu µs: postgres {:>5.1} server {:>5.1} client {:>5.1}  others {:>4.1} %",
            sample.per_second,
            sample.latency.p50,
            sample.latency.p99,
            sample.postgres_us,
            sample.server_us,
            sample.client_us,
            sample.others * 100.0
        );
        // A disk may stall for longer than a short round: then nothing was answered in it.
        let is_better =
            |best: &Sample| best.events == 0 || (sample.events > 0 && sample.others < best.others);
        if best.as_ref().is_none_or(is_better) {
            best = Some(sample);
        }
        let quiet = best
            .as_ref()
            .is_some_and(|best| best.events > 0 && best.others <= DISTURBED);
        if quiet || tries >= TRIES_MAX || !bench.take_repeat() {
            break;
        }
        match best.as_ref().is_some_and(|best| best.events == 0) {
            true => bench.missing(&format!(
                "{name}: nothing was answered in a round, which is measured again"
            )),
            false => eprintln!("  {name:<28} was disturbed: once more"),
        }
    }
    let best = best.unwrap_or_default();
    if best.events == 0 {
        bench.missing(&format!("{name}: nothing was answered in a round"));
    }
    Ok(Sample { tries, ..best })
}

/// All sides, round by round.
pub async fn interleave(
    bench: &Bench,
    sides: &[Side<'_>],
    rounds: usize,
    window: Duration,
) -> anyhow::Result<Vec<Series>> {
    let mut all: Vec<Series> = sides.iter().map(|side| Series::new(&side.name)).collect();
    for _ in 0..rounds {
        for (side, series) in sides.iter().zip(&mut all) {
            series.samples.push(
                undisturbed(bench, &side.name, async || side.once(bench, window).await).await?,
            );
        }
    }
    Ok(all)
}
