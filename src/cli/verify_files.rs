//! `verify`: reads a request from files and says whether a source would accept it. `verify.rs` does
//! the checking.

use std::{
    fs,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use secrecy::SecretString;

use super::{
    Exit, Failure, Globals, config, output,
    verify::{Case, Verdict, Verifiers, verify_jsonl, verify_one},
};
use crate::clock::Clock;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Many: one JSON object a line in, one verdict a line out
    #[arg(
        long,
        value_name = "FILE|-",
        conflicts_with_all = ["provider", "headers", "body", "keys", "now", "url"],
        required_unless_present = "provider"
    )]
    jsonl: Option<PathBuf>,
    #[arg(long, requires_all = ["secret", "headers", "body"])]
    provider: Option<String>,
    /// As the provider's page shows it; again for several
    #[arg(long, env = "HOOKONCE_SECRET", hide_env_values = true)]
    secret: Vec<SecretString>,
    /// What the handshake is asked for, where the provider has one (Meta)
    #[arg(long, env = "HOOKONCE_VERIFY_TOKEN", hide_env_values = true)]
    verify_token: Option<SecretString>,
    /// The headers, as "name: value" lines
    #[arg(long, value_name = "FILE")]
    headers: Option<PathBuf>,
    /// The body's exact bytes
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The provider's keys, where it publishes them: a certificate in PEM, or a set of keys (JWKS)
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The clock to verify with, in unix seconds
    #[arg(long, value_name = "UNIX")]
    now: Option<i64>,
    /// The URL that was called, for providers that sign it
    #[arg(long)]
    url: Option<String>,
    #[arg(long, default_value = "POST")]
    method: String,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<Exit> {
    let catalog = config::catalog(globals)?;
    if let Some(file) = &arguments.jsonl {
        let input: Box<dyn std::io::Read> = if is_stdin(file) {
            Box::new(std::io::stdin())
        } else {
            Box::new(open(file)?)
        };
        verify_jsonl(BufReader::new(input), std::io::stdout().lock(), &catalog)?;
        return Ok(Exit::Done);
    }
    let (Some(provider), Some(headers), Some(body)) =
        (arguments.provider, arguments.headers, arguments.body)
    else {
        return Err(Failure::usage("--provider, --headers and --body are needed").into());
    };
    let headers = String::from_utf8_lossy(&read(&headers)?).into_owned();
    let case = Case {
        provider,
        secrets: arguments.secret,
        verify_token: arguments.verify_token,
        method: arguments.method,
        url: arguments.url,
        headers: parse_headers(&headers).map_err(|line| {
            Failure::usage(format!("--headers: {line:?} is no \"name: value\" line"))
        })?,
        body: read(&body)?.into(),
        keys: arguments
            .keys
            .map(|file| read(&file).map(|text| String::from_utf8_lossy(&text).into_owned()))
            .transpose()?,
        ..Case::default()
    };
    let now_unix_ms = arguments.now.map_or_else(
        || Clock::System.unix_ms(),
        |seconds| seconds.saturating_mul(1000),
    );
    let verdict = verify_one(&case, now_unix_ms, &mut Verifiers::new(&catalog));
    output::one(globals, &serde_json::to_value(&verdict)?, |_| {
        text(&verdict)
    })?;
    Ok(if verdict.is_accepted() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn text(verdict: &Verdict) -> String {
    let reason = verdict
        .reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    let detail = verdict
        .detail
        .as_deref()
        .map(|detail| format!("\n{}", output::printable(detail)))
        .unwrap_or_default();
    let event_type = match verdict.type_dropped {
        Some(why) => Some(format!(
            "- (what the request says is {why}: it is left out)"
        )),
        None => verdict.event_type.clone(),
    };
    let fields = [
        ("event key", &verdict.event_key),
        ("event type", &event_type),
        ("answer", &verdict.challenge_answer),
    ];
    let fields = fields.iter().filter_map(|(name, value)| {
        Some(format!(
            "\n{name:<10}  {}",
            output::printable(value.as_deref()?)
        ))
    });
    format!(
        "{}{reason}{detail}{}",
        verdict.verdict,
        fields.collect::<String>()
    )
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn open(path: &Path) -> anyhow::Result<fs::File> {
    fs::File::open(path).with_context(|| format!("can't read {}", path.display()))
}

/// The bytes of a file, or of standard input for "-".
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if is_stdin(path) {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("can't read standard input")?;
    } else {
        open(path)?
            .read_to_end(&mut bytes)
            .with_context(|| format!("can't read {}", path.display()))?;
    }
    Ok(bytes)
}

/// Reads "name: value" lines, as curl and browsers show them. A request line before them is
/// skipped. The error is the line that is no header.
fn parse_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let is_passed_over =
        |at: usize, line: &str| line.trim().is_empty() || (at == 0 && line.contains(" HTTP/"));
    let lines = text
        .lines()
        .enumerate()
        .filter(|(at, line)| !is_passed_over(*at, line));
    lines
        .map(|(_, line)| match line.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(line.to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_tools_show_them() {
        let expected = vec![
            ("Host".to_owned(), "x:1".to_owned()),
            ("A".to_owned(), "b".to_owned()),
        ];
        assert_eq!(
            parse_headers("POST / HTTP/1.1\r\nHost: x:1\r\nA:b\r\n\r\n"),
            Ok(expected)
        );
        assert_eq!(parse_headers("A: b\nnonsense"), Err("nonsense".into()));
    }
}
