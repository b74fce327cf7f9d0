//! The Markdown of a report.

use std::fmt::Write as _;

use crate::{
    report::{Bound, Case, Figure, Report},
    round::DISTURBED,
};

pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# hookonce's benchmark\n\n{}{}. {}. {}. {}. {:.0} s in all.\n\n\
         Medians of rounds measured in turn, with the lowest and highest; ratios are taken round by round.\n",
        report.at,
        if report.quick { ", a quick run" } else { "" },
        report.machine,
        report.hookonce,
        report.postgres,
        report.seconds
    );
    let bounded: Vec<&Figure> = report
        .cases
        .iter()
        .flat_map(|case| &case.figures)
        .filter(|figure| !matches!(figure.bound, Bound::None))
        .collect();
    if !bounded.is_empty() {
        text += "\n## Where it stands\n\n| Figure | Measured | Spread | Floor | Goal | |\n|---|---|---|---|---|---|\n";
        for figure in bounded {
            let (floor, goal) = match figure.bound {
                Bound::AtLeast { floor, goal } => (format!("≥ {floor}"), format!("≥ {goal}")),
                Bound::AtMost { floor, goal } => (format!("≤ {floor}"), format!("≤ {goal}")),
                Bound::None => Default::default(),
            };
            let (median, spread) = (number(figure.median), spread(figure));
            let _ = writeln!(
                text,
                "| {} | {median} {} | {spread} | {floor} | {goal} | {} |",
                figure.name,
                figure.unit,
                figure.verdict()
            );
        }
    }
    for case in &report.cases {
        text += &section(case);
    }
    if !report.missing.is_empty() {
        text += "\n## Not measured\n\n";
        for line in &report.missing {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

fn section(case: &Case) -> String {
    let mut text = format!("\n## {}\n\n{}\n", case.name, case.about);
    if !case.series.is_empty() {
        text += "\n| Side | /s | p50 µs | p99 µs | corrected | Postgres µs | server µs | client µs | WAL bytes | MiB | others |\n\
                 |---|---|---|---|---|---|---|---|---|---|---|\n";
    }
    for series in &case.series {
        let median = |of: fn(&crate::round::Sample) -> f64| number(series.median(of));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} %{} |",
            series.name,
            median(|sample| sample.per_second),
            median(|sample| sample.latency.p50 as f64),
            median(|sample| sample.latency.p99 as f64),
            median(|sample| sample.latency.p99_corrected as f64),
            median(|sample| sample.postgres_us),
            median(|sample| sample.server_us),
            median(|sample| sample.client_us),
            median(|sample| sample.wal_bytes),
            median(|sample| sample.memory_bytes as f64 / 1_048_576.0),
            series.median(|sample| sample.others) * 100.0,
            if series.median(|sample| sample.others) > DISTURBED {
                " disturbed"
            } else {
                ""
            }
        );
    }
    let plain: Vec<&Figure> = case.figures.iter().collect();
    if !plain.is_empty() {
        text += "\n| Figure | Median | Spread |\n|---|---|---|\n";
        for figure in plain {
            let _ = writeln!(
                text,
                "| {} | {} {} | {} |",
                figure.name,
                number(figure.median),
                figure.unit,
                spread(figure)
            );
        }
    }
    text
}

fn spread(figure: &Figure) -> String {
    if figure.values.len() < 2 {
        String::new()
    } else {
        format!("{} to {}", number(figure.low), number(figure.high))
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at) % 3 == 0 {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
