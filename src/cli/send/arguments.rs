//! What `send` is asked for.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

#[derive(Debug, Args)]
pub struct Arguments {
    /// `hookonce providers list` shows them; the name of a source does as well
    pub provider: String,
    /// The event's type, or the name of a sample; default: the first that the provider is known for
    #[arg(long, value_name = "T")]
    pub r#type: Option<String>,
    /// Several events that are about the same things, one after the other: `hookonce providers
    /// show PROVIDER` names them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["type", "data", "id"])]
    pub scenario: Option<String>,
    /// The body, instead of a sample. A time and a signature that the provider has in it are made
    /// anew
    #[arg(long, value_name = "FILE|-")]
    pub data: Option<PathBuf>,
    /// The event's id, put where the provider has it; default: a fresh one, but --data keeps its
    /// own. With --count it is counted on, or "-1", "-2", … are added
    #[arg(long)]
    pub id: Option<String>,
    /// A fresh id for each event of --data; more than one get one anyway
    #[arg(long, requires = "data", conflicts_with = "id")]
    pub fresh_id: bool,
    /// "name: value", beside or instead of one that the provider sends
    #[arg(long, value_name = "HEADER", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// Which of the service's sources; default: that of the provider's name, else its only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Default: the source's URL of the service that runs with this data folder
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// How many events, or how many times the scenario
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// How often each is sent again
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub duplicates: u32,
    /// At most so many requests a second: "20/s"
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<f64>,
    /// So many at once; the events of a scenario and their repeats stay in order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: u32,
    /// Default: that of the source in the service's settings, else the one that dev made
    #[arg(long, env = "HOOKONCE_SECRET", hide_env_values = true)]
    pub secret: Option<SecretString>,
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
