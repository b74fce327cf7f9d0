//! `send`: signs as the provider does and posts, as often as asked. Where to and with which secret
//! is `target`, what is sent is `outgoing`, how it is posted is `post`, what came of it is `report`.

mod again;
mod fresh;
mod outgoing;
mod post;
mod report;
mod target;

use std::path::PathBuf;

use clap::Args;
use hookonce_scheme::{Samples, near};
use secrecy::SecretString;

pub use again::command_for;
use outgoing::Outgoing;
use target::Target;

use crate::{
    cli::{Exit, Failure, Globals, output, verify_files},
    clock::Clock,
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// `hookonce providers list` shows them; the name of a source does as well
    provider: String,
    /// The event's type, or the name of a sample; default: the first that the provider is known for
    #[arg(long, value_name = "T")]
    r#type: Option<String>,
    /// Several events that are about the same things, one after the other: `hookonce providers
    /// show PROVIDER` names them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["type", "data", "id"])]
    scenario: Option<String>,
    /// The body, instead of a sample. A time and a signature that the provider has in it are made
    /// anew
    #[arg(long, value_name = "FILE|-")]
    data: Option<PathBuf>,
    /// The event's id, put where the provider has it; default: a fresh one, but --data keeps its
    /// own. With --count it is counted on, or "-1", "-2", … are added
    #[arg(long)]
    id: Option<String>,
    /// A fresh id for each event of --data; more than one get one anyway
    #[arg(long, requires = "data", conflicts_with = "id")]
    fresh_id: bool,
    /// "name: value", beside or instead of one that the provider sends
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, String)>,
    /// Which of the service's sources; default: that of the provider's name, else its only one
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Default: the source's URL of the service that runs with this data folder
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// How many events, or how many times the scenario
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How often each is sent again
    #[arg(long, value_name = "K", default_value_t = 0)]
    duplicates: u32,
    /// At most so many requests a second: "20/s"
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// So many at once; the events of a scenario and their repeats stay in order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: u32,
    /// Default: that of the source in the service's settings, else the one that dev made
    #[arg(long, env = "HOOKONCE_SECRET", hide_env_values = true)]
    secret: Option<SecretString>,
}

/// "20/s", or "20".
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("write requests a second, such as \"20/s\" or \"0.5/s\"".into()),
    }
}

/// A header as curl takes it.
fn header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is no header: write \"name: value\"");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().to_ascii_lowercase();
    http::HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
    http::HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
    Ok((name, value.trim().to_owned()))
}

pub async fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<Exit> {
    let target = Target::find(globals, &arguments).await?;
    let data = arguments
        .data
        .as_deref()
        .map(verify_files::read)
        .transpose()?;
    doubt_type(&target, &arguments);
    let mut outgoing = Outgoing::new(&target, &arguments, data)?;
    if let Some(note) = outgoing.note()? {
        globals.note(&note);
    }
    let began_ms = Clock::System.unix_ms();
    let sent = post::all(globals, &arguments, &target, &mut outgoing).await?;
    let why = report::reasons(&target, &sent, began_ms).await;
    report::show(globals, &sent, &why)?;
    Ok(sent.exit())
}

/// Warns of a type that is not known of the provider: it may be new, and it may be mistyped.
fn doubt_type(target: &Target, arguments: &Arguments) {
    let known = &target.scheme.spec.events;
    let Some(event_type) = arguments.r#type.as_deref().filter(|_| !known.is_empty()) else {
        return;
    };
    let samples = Samples::of(&target.scheme.name);
    let sampled = samples.into_iter().flat_map(Samples::all);
    let names: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .chain(sampled.flat_map(|sample| {
            let event_type = sample.event_type.as_deref();
            event_type.into_iter().chain([sample.name()])
        }))
        .collect();
    if names.contains(&event_type) {
        return;
    }
    let mut nearest = near(event_type, names);
    nearest.truncate(3);
    let nearest = match nearest.as_slice() {
        [] => String::new(),
        names => format!(": did you mean {}?", names.join(", ")),
    };
    let shape = samples
        .and_then(|samples| samples.nearest_shape(event_type))
        .filter(|_| arguments.data.is_none())
        .map(|sample| format!("; it is sent with the body of {}", sample.name()));
    anstream::eprintln!(
        "\x1b[1;33mwarning:\x1b[0m {} is no type of {} that is known here{nearest}{}",
        output::printable(event_type),
        target.scheme.name,
        shape.unwrap_or_default()
    );
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
    fn headers_and_rates_are_read() {
        assert_eq!(header("X-A:  b: c "), Ok(("x-a".into(), "b: c".into())));
        for wrong in ["x-a", ": b", "x a: b", "x-a: b\nc"] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(rate("20/s"), Ok(20.0));
        for wrong in ["0/s", "-1", "x", "inf"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
