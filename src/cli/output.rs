//! Results on standard output: a table for people, JSON for programs. Notes go to standard error, so that a pipe gets results alone.

use std::io::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::{Format, Globals};

/// A column: its title, and the key of its value.
pub type Column = (&'static str, &'static str);

/// Writes a list.
pub fn list(globals: &Globals, rows: &[Value], columns: &[Column]) -> std::io::Result<()> {
    match globals.output {
        Format::Json => print(&pretty(rows)),
        Format::Ndjson => rows.iter().try_for_each(line),
        Format::Table if rows.is_empty() => {
            globals.note("nothing found");
            Ok(())
        }
        Format::Table => print(&table(rows, columns)),
    }
}

/// Writes one thing. `text` makes what people see.
pub fn one(globals: &Globals, value: &Value, text: impl FnOnce(&Value) -> String) -> std::io::Result<()> {
    match globals.output {
        Format::Json => print(&pretty(value)),
        Format::Ndjson => line(value),
        Format::Table => print(&text(value)),
    }
}

/// One JSON value on one line, written through at once.
pub fn line(value: &Value) -> std::io::Result<()> {
    print(&value.to_string())
}

/// Writes text and a line break.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    out.flush()
}

fn pretty(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

pub fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        table.add_row(columns.iter().map(|(_, key)| cell(key, &row[*key])));
    }
    // The first column starts at the margin.
    table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned() + "\n").collect()
}

/// Lines of "title  value" for those keys that have one.
pub fn fields(value: &Value, columns: &[Column]) -> String {
    let width = columns.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
    columns
        .iter()
        .filter(|(_, key)| !value[*key].is_null())
        .map(|(title, key)| format!("{title:<width$}  {}\n", cell(key, &value[*key])))
        .collect()
}

/// A value for people. What came from outside can't move the cursor or colour the terminal.
fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) if key.ends_with("_at") => to_the_second(text),
        Value::String(text) => printable(text),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(|value| cell(key, value)).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn to_the_second(rfc3339: &str) -> String {
    match rfc3339.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}{}", fraction.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => rfc3339.to_owned(),
    }
}

/// Control characters made visible.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

impl Globals {
    /// A word to the person at the terminal, on standard error.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            anstream::eprintln!("{text}");
        }
    }

    /// As `note`, with -v.
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

    #[test]
    fn a_table_starts_at_the_margin_and_escapes_what_came_from_outside() {
        let rows = [json!({ "id": 1, "key": "a\u{1b}[31m", "received_at": "2026-01-01T00:00:00.123456Z", "none": null })];
        let text = table(&rows, &[("ID", "id"), ("KEY", "key"), ("RECEIVED", "received_at"), ("NONE", "none")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("ID "), "{text:?}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["1", "a\\u{1b}[31m", "2026-01-01T00:00:00Z", "-"]);
    }

    #[test]
    fn fields_leave_out_what_is_not_there() {
        assert_eq!(fields(&json!({ "a": 1, "b": null, "cc": ["x", "y"] }), &[("a", "a"), ("b", "b"), ("cc", "cc")]), "a   1\ncc  x, y\n");
    }
}
