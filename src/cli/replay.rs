//! `replay`: counts, asks, then makes the deliveries page by page at the pace that was asked for.
//! The service keeps how far a replay has come, so --resume can go on with an interrupted one.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    Exit, Failure, Format, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{Advanced, DryDestination, DryRun, EventId, Replay, ReplayId, ReplayStatus};

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    /// Events; without any, those that the filters name
    id: Vec<EventId>,
    #[arg(long)]
    source: Option<String>,
    /// A pattern of types, such as "invoice.*"
    #[arg(long, value_name = "GLOB")]
    r#type: Option<String>,
    /// Only where a delivery ended so (dead: and was not delivered there since)
    #[arg(long, value_enum)]
    status: Option<ReplayStatus>,
    /// RFC 3339, a date, or how long ago: "2h"
    #[arg(long, value_name = "T")]
    since: Option<String>,
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// Instead of where the routes send them
    #[arg(long, value_name = "DESTINATION|URL")]
    to: Option<String>,
    /// Deliveries a second at most: "20/s"
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// Events at most, the oldest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Count, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    /// Go on with a replay that was interrupted
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["id", "source", "type", "status", "since", "until", "to", "limit", "dry_run"])]
    resume: Option<ReplayId>,
}

/// Events of one page. A page has fewer if the rate is lower than that.
const PAGE_EVENTS: u32 = 200;
const COUNT_COLUMNS: [Column<DryDestination>; 2] = columns!(
    DryDestination;
    "DESTINATION" => destination,
    "DELIVERIES" => deliveries,
);

/// "20/s", or "20".
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("write deliveries a second, such as \"20/s\" or \"0.5/s\"".into()),
    }
}

pub async fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    if let Some(id) = arguments.resume {
        let replay: Replay = client.get(&format!("/api/v1/replays/{id}")).await?;
        if replay.done {
            globals.note(&format!("replay {id} has ended already"));
            return finished(globals, &replay);
        }
        return advance(globals, &client, id, &arguments, None).await;
    }
    let mut request = request_of(&arguments)?;
    request["dry_run"] = true.into();
    let counts: DryRun = client.post("/api/v1/replays", Some(&request)).await?;
    if arguments.dry_run {
        output::one(globals, &counts, count_text)?;
        return Ok(Exit::Done);
    }
    if counts.deliveries == 0 {
        globals.note("nothing to replay: no event that matches has a destination");
        return Ok(Exit::Done);
    }
    if !arguments.yes && !confirmed(&counts)? {
        globals.note("nothing was replayed");
        return Ok(Exit::Failed);
    }
    request["dry_run"] = false.into();
    let replay: Replay = client.post("/api/v1/replays", Some(&request)).await?;
    advance(
        globals,
        &client,
        replay.id,
        &arguments,
        Some(counts.deliveries.unsigned_abs()),
    )
    .await
}

fn request_of(arguments: &Arguments) -> anyhow::Result<Value> {
    let filters = [
        &arguments.source,
        &arguments.r#type,
        &arguments.since,
        &arguments.until,
    ];
    let is_bounded = !arguments.id.is_empty()
        || filters.iter().any(|filter| filter.is_some())
        || arguments.status.is_some();
    if !is_bounded && arguments.limit.is_none() {
        return Err(Failure::usage(
            "say what to replay: ids, --source, --type, --since, --until, --status (any for everything) or --limit",
        )
        .into());
    }
    let mut request = json!({});
    let texts = [
        ("source", &arguments.source),
        ("type", &arguments.r#type),
        ("since", &arguments.since),
        ("until", &arguments.until),
    ];
    for (name, value) in texts.into_iter().chain([("to", &arguments.to)]) {
        if let Some(value) = value {
            request[name] = value.as_str().into();
        }
    }
    if !arguments.id.is_empty() {
        request["ids"] = json!(arguments.id);
    }
    if let Some(status) = arguments.status {
        request["status"] = status.as_str().into();
    }
    if let Some(limit) = arguments.limit {
        request["limit"] = limit.into();
    }
    Ok(request)
}

fn count_text(counts: &DryRun) -> String {
    let DryRun {
        events,
        deliveries,
        unrouted,
        destinations,
        ..
    } = counts;
    let mut text = format!("{events} events, {deliveries} deliveries");
    if *unrouted > 0 {
        text.push_str(&format!(" ({unrouted} events have no destination)"));
    }
    text.push('\n');
    if !destinations.is_empty() {
        text.push_str(&output::table(destinations, &COUNT_COLUMNS));
    }
    text
}

fn confirmed(counts: &DryRun) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask at: add --yes to replay, or --dry-run to count",
        )
        .into());
    }
    anstream::eprint!("{}Replay? [y/N] ", count_text(counts));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Asks for page after page until the replay is done. Ctrl-C and errors leave it where it is.
async fn advance(
    globals: &Globals,
    client: &Client,
    id: ReplayId,
    arguments: &Arguments,
    total: Option<u64>,
) -> anyhow::Result<Exit> {
    let bar = progress(globals, total, arguments.rate);
    let page = arguments.rate.map_or(PAGE_EVENTS, |rate| {
        PAGE_EVENTS.min(rate.ceil() as u32).max(1)
    });
    let path = format!("/api/v1/replays/{id}/advance");
    let mut next_at = Instant::now();
    let mut created_here = 0;
    let interrupted = loop {
        let step = async {
            sleep_until(next_at).await;
            client
                .post::<Advanced>(&path, Some(&json!({ "limit": page })))
                .await
        };
        let answer = tokio::select! {
            answer = step => answer,
            _ = tokio::signal::ctrl_c() => break None,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => break Some(error),
        };
        let created = answer.created.unsigned_abs();
        created_here += created;
        bar.inc(created);
        if answer.done {
            bar.finish_and_clear();
            return finished(
                globals,
                &client.get(&format!("/api/v1/replays/{id}")).await?,
            );
        }
        if let Some(rate) = arguments.rate {
            next_at = next_at.max(Instant::now() - Duration::from_secs(1))
                + Duration::from_secs_f64(created as f64 / rate);
        }
    };
    bar.abandon();
    if let Some(error) = &interrupted {
        anstream::eprintln!("\x1b[1;31merror:\x1b[0m {error:#}");
    }
    anstream::eprintln!(
        "interrupted after {created_here} deliveries; go on with: hookonce replay --resume {id}"
    );
    Ok(Exit::Partly)
}

fn progress(globals: &Globals, total: Option<u64>, rate: Option<f64>) -> ProgressBar {
    if globals.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match (total, rate) {
        (Some(total), None) => (
            ProgressBar::new(total),
            "{bar:40} {pos}/{len} deliveries ({eta} left)",
        ),
        // With a rate, pages come in bursts with waits between, so an estimate would be far too
        // early.
        (Some(total), Some(_)) => (
            ProgressBar::new(total),
            "{bar:40} {pos}/{len} deliveries ({at_rate} left)",
        ),
        (None, _) => (
            ProgressBar::new_spinner(),
            "{spinner} {pos} deliveries ({elapsed})",
        ),
    };
    let at_rate = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let left = state.len().unwrap_or_default().saturating_sub(state.pos()) as f64;
        let left = rate.and_then(|rate| Duration::try_from_secs_f64((left / rate).ceil()).ok());
        let _ = write!(
            text,
            "{}",
            left.map_or_else(
                || "?".into(),
                |left| humantime::format_duration(left).to_string()
            )
        );
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.with_key("at_rate", at_rate));
    bar
}

fn finished(globals: &Globals, replay: &Replay) -> anyhow::Result<Exit> {
    match globals.output {
        Format::Table => output::print(&format!(
            "replay {}: {} deliveries made",
            replay.id, replay.deliveries
        ))?,
        _ => output::one(globals, replay, |_| String::new())?,
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_unit() {
        assert_eq!(rate("20/s"), Ok(20.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0/s", "-1/s", "20/m", "inf", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_name_what_goes_nowhere() {
        let destinations = vec![DryDestination {
            destination: "a".into(),
            deliveries: 2,
        }];
        let counts = DryRun {
            dry_run: true,
            events: 3,
            deliveries: 2,
            unrouted: 1,
            destinations,
        };
        let text = count_text(&counts);
        assert!(
            text.starts_with("3 events, 2 deliveries (1 events have no destination)\nDESTINATION"),
            "{text}"
        );
    }
}
