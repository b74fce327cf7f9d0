//! What came of it: a row for each request, or a summary of many, and why some were refused.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::target::Target;
use crate::{
    cli::{
        Exit, Format, Globals,
        output::{self, Column, Shown as _},
    },
    contract::{Explained, RejectionId, Rejections},
    event::BodyDigest,
};

/// Of more requests a table shows the summary alone.
const ROWS_MAX: u64 = 20;
/// How many of the last rejections are looked at for one of ours.
const REJECTIONS_LOOKED_AT: usize = 20;
/// How many refusals are explained: they are mostly of one cause.
const EXPLAINED_MAX: usize = 3;

const COLUMNS: [Column<Value>; 6] = [
    ("ID", |row| row["id"].shown()),
    ("TYPE", |row| row["event_type"].shown()),
    ("HTTP", |row| row["http"].shown()),
    ("STATUS", |row| row["status"].shown()),
    ("EVENT", |row| row["event"].shown()),
    ("MS", |row| row["ms"].shown()),
];

/// What one request came to.
pub struct Posted {
    /// As it is shown.
    pub row: Value,
    /// None if there was no answer.
    pub http: Option<u16>,
    /// By which a refusal is found among others.
    pub digest: BodyDigest,
    pub elapsed: Duration,
}

/// What was sent, and what each came to.
pub struct Sent {
    total: u64,
    accepted: u64,
    /// As they came, if they are to be shown or explained.
    rows: Vec<Posted>,
    /// How often each outcome was.
    outcomes: BTreeMap<String, u64>,
    times: Vec<Duration>,
    pub took: Duration,
}

impl Sent {
    pub fn new(total: u64) -> Self {
        Self {
            total,
            accepted: 0,
            rows: Vec::new(),
            outcomes: BTreeMap::new(),
            times: Vec::new(),
            took: Duration::ZERO,
        }
    }

    pub fn add(&mut self, posted: Posted) {
        let is_taken = posted
            .http
            .is_some_and(|status| (200..300).contains(&status));
        self.accepted += u64::from(is_taken);
        let word = posted.row["status"].as_str();
        let outcome = match (posted.http, word) {
            (None, _) => "no answer".to_owned(),
            (Some(_), Some(word)) if is_taken => word.to_owned(),
            (Some(status), _) if is_taken => format!("HTTP {status}"),
            (Some(status), _) => format!("refused with {status}"),
        };
        *self.outcomes.entry(outcome).or_default() += 1;
        self.times.push(posted.elapsed);
        self.rows.push(posted);
    }

    pub fn exit(&self) -> Exit {
        match self.accepted {
            all if all == self.total => Exit::Done,
            0 => Exit::Failed,
            _ => Exit::Partly,
        }
    }

    /// The refusals whose causes may differ: the first of each status.
    fn refused(&self) -> Vec<&Posted> {
        let mut seen = Vec::new();
        let is_new = |posted: &&Posted| {
            let status = posted.http.filter(|status| !(200..300).contains(status));
            status.is_some() && !seen.contains(&status) && {
                seen.push(status);
                true
            }
        };
        self.rows
            .iter()
            .filter(is_new)
            .take(EXPLAINED_MAX)
            .collect()
    }

    fn summary(&self) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let ms = |share: f64| {
            let at = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1));
            let time = times.get(at - 1).copied().unwrap_or_default();
            format!("{:.1} ms", time.as_secs_f64() * 1000.0)
        };
        let outcomes: Vec<String> = self
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        let seconds = self.took.as_secs_f64();
        format!(
            "{} requests in {seconds:.1} s ({:.0} a second): {}\nanswered within: half {}, 95 % {}, 99 % {}, all {}",
            self.rows.len(),
            self.rows.len() as f64 / seconds.max(0.001),
            outcomes.join(", "),
            ms(0.5),
            ms(0.95),
            ms(0.99),
            ms(1.0)
        )
    }
}

/// Why requests were refused, a text for each cause: what the service wrote down of them, as far as
/// its admin API answers, else what the answer itself says.
pub async fn reasons(target: &Target, sent: &Sent, began_unix_ms: i64) -> Vec<String> {
    let mut reasons = Vec::new();
    for posted in sent.refused() {
        let explained = match looked_up(target, posted, began_unix_ms).await {
            Some(explained) => said(target, &explained),
            None => by_status(target, posted.http.unwrap_or_default()),
        };
        reasons.push(explained);
    }
    let unanswered = sent
        .rows
        .iter()
        .find_map(|posted| posted.row["error"].as_str());
    if let Some(error) = unanswered {
        let error = output::printable(error);
        reasons.push(format!(
            "{error}: does hookonce run there? `hookonce dev` or `hookonce serve` starts it"
        ));
    }
    reasons
}

/// The service's own record of a refusal: one of this source since we began, of this very body.
async fn looked_up(target: &Target, posted: &Posted, began_unix_ms: i64) -> Option<Explained> {
    let client = target.client.as_ref().filter(|_| target.is_here)?;
    // The clocks of two machines differ by some.
    let since = OffsetDateTime::from_unix_timestamp(began_unix_ms.div_euclid(1000) - 5).ok()?;
    let since = since.format(&Rfc3339).ok()?;
    let path = format!("/api/v1/rejections?since={since}&limit={REJECTIONS_LOOKED_AT}");
    let rejections: Rejections = client.get(&path).await.ok()?;
    for rejection in rejections.items {
        if rejection
            .source
            .as_deref()
            .is_some_and(|source| source != target.source)
        {
            continue;
        }
        let explained = explained(target, rejection.id).await?;
        let is_ours = match &explained.body_digest {
            Some(digest) => *digest == hex::encode(posted.digest.0),
            // Its body was not read to the end, so that its size or its path was the cause.
            None => matches!(posted.http, Some(404 | 405 | 413 | 415 | 429)),
        };
        if is_ours {
            return Some(explained);
        }
    }
    None
}

async fn explained(target: &Target, id: RejectionId) -> Option<Explained> {
    let path = format!("/api/v1/rejections/{id}/explain");
    target.client.as_ref()?.get(&path).await.ok()
}

fn said(target: &Target, explained: &Explained) -> String {
    let rejection = &explained.rejection;
    let mut text = format!("refused: {}", rejection.reason);
    if !rejection.detail.is_empty() {
        let _ = write!(text, ": {}", output::printable(&rejection.detail));
    }
    if rejection.reason == "unknown_source" {
        let _ = write!(text, ": there is no source {:?}", target.source);
    }
    for diagnosis in &explained.diagnoses {
        let _ = write!(text, "\n  {}", output::printable(&diagnosis.text));
    }
    if rejection.reason == "no_match" {
        let _ = write!(
            text,
            "\n  signed with the secret from: {}",
            target.secret_from
        );
    }
    let _ = write!(
        text,
        "\n  each check: hookonce rejections explain {}",
        rejection.id
    );
    text
}

/// What an answer means of which the service has written nothing down, or did not tell.
fn by_status(target: &Target, status: u16) -> String {
    let why = match status {
        404 => format!("there is no source {:?} at {}", target.source, target.url),
        401 => format!(
            "its signature, its time or its form is not right; it was signed with the secret from: {}. The service says which (hookonce rejections list), if its admin port and token are found: --server, --token",
            target.secret_from
        ),
        413 => "the body is larger than body_max of the source".into(),
        429 => "too many requests from this address: `[ingress] rate`, or send with --rate".into(),
        503 => "the service has no room or its database is away, and wants it again: `hookonce ready` and its log say which".into(),
        300..=399 => "that is a redirect, so hookonce is not what answers there".into(),
        _ => "what answers there did not say why: is it hookonce's public port?".into(),
    };
    format!("refused with {status}: {why}")
}

/// Rows, or a summary of many, and the reasons.
pub fn show(globals: &Globals, sent: &Sent, reasons: &[String]) -> anyhow::Result<()> {
    let is_many = sent.rows.len() as u64 > ROWS_MAX;
    match globals.output {
        Format::Table if is_many => output::print(&sent.summary())?,
        Format::Table | Format::Json => {
            let rows = sent.rows.iter().map(|posted| posted.row.clone());
            let rows: Vec<Value> = rows.collect();
            output::list(globals, &rows, &COLUMNS)?;
        }
        Format::Ndjson => {}
    }
    if is_many && globals.output != Format::Table {
        globals.note(&sent.summary());
    }
    for reason in reasons {
        anstream::eprintln!("\x1b[1;31merror:\x1b[0m {reason}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn posted(http: Option<u16>, status: &str, ms: u64) -> Posted {
        Posted {
            row: json!({ "status": status }),
            http,
            digest: BodyDigest::of(b""),
            elapsed: Duration::from_millis(ms),
        }
    }

    #[test]
    fn many_are_summed_up() {
        let mut sent = Sent::new(100);
        for ms in 1..=98 {
            sent.add(posted(Some(200), "accepted", ms));
        }
        sent.add(posted(Some(401), "refused", 99));
        sent.add(posted(None, "", 100));
        sent.took = Duration::from_secs(2);
        let summary = sent.summary();
        assert!(
            summary.starts_with("100 requests in 2.0 s (50 a second): "),
            "{summary}"
        );
        assert!(
            summary.contains("98 accepted, 1 no answer, 1 refused with 401"),
            "{summary}"
        );
        assert!(
            summary.ends_with("half 50.0 ms, 95 % 95.0 ms, 99 % 99.0 ms, all 100.0 ms"),
            "{summary}"
        );
        assert_eq!(sent.exit(), Exit::Partly);
        assert_eq!(sent.refused().len(), 1);
        assert_eq!(Sent::new(1).exit(), Exit::Failed);
    }
}
