//! Results on standard output: a table for people, JSON for programs. Notes go to standard error,
//! so that a pipe gets results alone.

use std::{borrow::Cow, io::Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use super::{Format, Globals};
use crate::contract::{
    AttemptOutcome, ConflictId, ConflictKind, DeliveryId, DeliveryState, DestinationState,
    EffectKey, EventId, Mark, OnLost, RejectionId, ReplayId, Scope, SecretState, StepState, Time,
    TokenId,
};

/// A column of a table, or a field: its title, and what stands there; None where there is nothing.
pub type Column<T> = (&'static str, fn(&T) -> Option<String>);

/// Columns of a type by its members, or of a JSON value by their names.
macro_rules! columns {
    ($kind:ty; $($title:literal => $($member:ident).+),+ $(,)?) => {
        [$(($title, |row: &$kind| $crate::cli::output::Shown::shown(&row.$($member).+))),+]
    };
    ($kind:ty; $($title:literal => $name:literal),+ $(,)?) => {
        [$(($title, |row: &$kind| $crate::cli::output::Shown::shown(&row[$name]))),+]
    };
}

pub(super) use columns;

/// A value as people see it. Text from outside must not move the cursor or colour the terminal.
pub trait Shown {
    /// None where there is nothing to show.
    fn shown(&self) -> Option<String>;
}

macro_rules! shown_as_written {
    ($($kind:ty),+) => {$(
        impl Shown for $kind {
            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

shown_as_written!(
    i16,
    i32,
    i64,
    u64,
    usize,
    ConflictId,
    DeliveryId,
    EffectKey,
    EventId,
    RejectionId,
    ReplayId,
    TokenId
);
shown_as_written!(
    AttemptOutcome,
    ConflictKind,
    DeliveryState,
    DestinationState,
    Mark,
    OnLost,
    Scope,
    SecretState,
    StepState
);

/// An average: whole numbers say enough.
impl Shown for f64 {
    fn shown(&self) -> Option<String> {
        Some(format!("{self:.0}"))
    }
}

impl Shown for bool {
    fn shown(&self) -> Option<String> {
        Some(if *self { "yes" } else { "no" }.into())
    }
}

impl Shown for String {
    fn shown(&self) -> Option<String> {
        Some(printable(self))
    }
}

impl Shown for Cow<'_, str> {
    fn shown(&self) -> Option<String> {
        Some(printable(self))
    }
}

/// Times are shown to the second.
impl Shown for Time {
    fn shown(&self) -> Option<String> {
        self.0.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(T::shown)
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> Option<String> {
        if self.is_empty() {
            return Some("-".into());
        }
        Some(
            self.iter()
                .map(|value| value.shown().unwrap_or_else(|| "-".into()))
                .collect::<Vec<_>>()
                .join(", "),
        )
    }
}

impl Shown for Value {
    fn shown(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Bool(value) => value.shown(),
            Self::String(text) => text.shown(),
            Self::Array(values) => values.shown(),
            other => Some(other.to_string()),
        }
    }
}

/// Writes a list.
pub fn list<T: Serialize>(
    globals: &Globals,
    rows: &[T],
    columns: &[Column<T>],
) -> std::io::Result<()> {
    match globals.output {
        Format::Json => print(&pretty(rows)?),
        Format::Ndjson => rows.iter().try_for_each(line),
        Format::Table if rows.is_empty() => {
            globals.note("nothing found");
            Ok(())
        }
        Format::Table => print(&table(rows, columns)),
    }
}

/// Writes one thing. `text` makes what people see.
pub fn one<T: Serialize>(
    globals: &Globals,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> std::io::Result<()> {
    match globals.output {
        Format::Json => print(&pretty(value)?),
        Format::Ndjson => line(value),
        Format::Table => print(&text(value)),
    }
}

/// Writes one JSON value on one line, its members sorted by name, and flushes it.
pub fn line<T: Serialize>(value: &T) -> std::io::Result<()> {
    print(&serde_json::to_value(value)?.to_string())
}
/// Writes text and a line break, and flushes them.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    out.flush()
}

/// Indented JSON, its members sorted by name.
fn pretty(value: &(impl Serialize + ?Sized)) -> std::io::Result<String> {
    Ok(serde_json::to_string_pretty(&serde_json::to_value(value)?)?)
}

pub fn table<T>(rows: &[T], columns: &[Column<T>]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        table.add_row(
            columns
                .iter()
                .map(|(_, of)| of(row).unwrap_or_else(|| "-".into())),
        );
    }
    // The first column starts at the margin.
    table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
                + "\n"
        })
        .collect()
}

/// Lines of "title  value" for those that have one.
pub fn fields<T>(value: &T, columns: &[Column<T>]) -> String {
    let width = columns
        .iter()
        .map(|(title, _)| title.len())
        .max()
        .unwrap_or_default();
    columns
        .iter()
        .filter_map(|(title, of)| Some(format!("{title:<width$}  {}\n", of(value)?)))
        .collect()
}

/// The lines of a body, which is given either as text or as base64.
pub fn body(text: Option<&str>, base64: Option<&str>) -> String {
    let body = text.or(base64).unwrap_or_default();
    body.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Control characters made visible.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

impl Globals {
    /// Says something to the person at the terminal, on standard error.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            anstream::eprintln!("{text}");
        }
    }

    /// Like `note`, but only with -v.
    pub fn detail(&self, text: &str) {
        if self.verbose > 0 {
            anstream::eprintln!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Row = (i32, String, Time, Option<Mark>);

    #[test]
    fn a_table_starts_at_the_margin_and_escapes_what_came_from_outside() {
        let at = time::macros::datetime!(2026-01-01 00:00:00.123456 UTC);
        let rows = [(1_i32, "a\u{1b}[31m".to_owned(), Time(at), None::<Mark>)];
        let columns: [Column<Row>; 4] = [
            ("ID", |row| row.0.shown()),
            ("KEY", |row| row.1.shown()),
            ("RECEIVED", |row| row.2.shown()),
            ("NONE", |row| row.3.shown()),
        ];
        let text = table(&rows, &columns);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("ID "), "{text:?}");
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["1", "a\\u{1b}[31m", "2026-01-01T00:00:00Z", "-"]
        );
    }

    #[test]
    fn fields_leave_out_what_is_not_there() {
        let value = json!({ "a": 1, "b": null, "cc": ["x", "y"] });
        assert_eq!(
            fields(
                &value,
                &columns!(Value; "a" => "a", "b" => "b", "cc" => "cc")
            ),
            "a   1\ncc  x, y\n"
        );
    }
}
