//! The plots of a report, as SVG: latency by percentile, throughput by connections, rate by table
//! size.

use std::{ops::Range, path::Path};

use anyhow::anyhow;
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
        Palette as _, Palette99, PathElement, SVGBackend,
    },
    style::{BLACK, Color as _, WHITE},
};

use crate::report::{Report, Series};

const SIZE: (u32, u32) = (760, 420);

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Chart<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    x_label: fn(&f64) -> String,
}

pub fn draw(report: &Report, folder: &Path) -> anyhow::Result<()> {
    for case in &report.cases {
        let path = |kind: &str| {
            folder.join(format!(
                "{}-{kind}.svg",
                case.name
                    .to_lowercase()
                    .replace([' ', ':', ','], "-")
                    .replace("--", "-")
            ))
        };
        let chart = Chart {
            title: &format!("{}: latency", case.name),
            x: "percentile",
            y: "ms",
            x_label: percentile,
        };
        write(&path("latency"), &chart, &latencies(&case.series))?;
        let lines = by_connections(&case.series);
        let chart = Chart {
            title: &format!("{}: answers a second", case.name),
            x: "connections",
            y: "a second",
            x_label: whole,
        };
        write(&path("rate"), &chart, &lines)?;
        let lines = by_keys(&case.series);
        let chart = Chart {
            title: &format!("{}: answers a second", case.name),
            x: "keys already there (a thousand is none)",
            y: "a second",
            x_label: whole,
        };
        write(&path("size"), &chart, &lines)?;
    }
    Ok(())
}

/// 1/(1 - percentile): 10 is the 90th, 100 the 99th.
fn percentile(x: &f64) -> String {
    format!("{}", 100.0 - 100.0 / x)
}

fn whole(x: &f64) -> String {
    format!("{x:.0}")
}

/// The round of median rate stands for its side.
fn latencies(series: &[Series]) -> Vec<Line> {
    let lines = series.iter().filter_map(|series| {
        let mut samples: Vec<_> = series.samples.iter().collect();
        samples.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let curve = &samples.get(samples.len() / 2)?.latency.curve;
        let points: Vec<(f64, f64)> = curve
            .iter()
            .filter(|(percentile, _)| (10.0..100.0).contains(percentile))
            .map(|(percentile, micros)| {
                (
                    1.0 / (1.0 - percentile / 100.0),
                    (*micros).max(1) as f64 / 1000.0,
                )
            })
            .collect();
        (!points.is_empty()).then(|| Line {
            name: series.name.clone(),
            points,
        })
    });
    lines.collect()
}

/// Series named "side, connections".
fn by_connections(series: &[Series]) -> Vec<Line> {
    grouped(series, |name| {
        let (side, connections) = name.rsplit_once(", ")?;
        Some((side.to_owned(), connections.parse().ok()?))
    })
}

/// Series named "side, N million keys".
fn by_keys(series: &[Series]) -> Vec<Line> {
    grouped(series, |name| {
        let (side, rest) = name.rsplit_once(", ")?;
        let millions: f64 = rest.strip_suffix(" million keys")?.parse().ok()?;
        Some((side.to_owned(), (millions * 1e6).max(1e3)))
    })
}

fn grouped(series: &[Series], split: impl Fn(&str) -> Option<(String, f64)>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for one in series {
        let Some((name, x)) = split(&one.name) else {
            continue;
        };
        let point = (x, one.median(|sample| sample.per_second));
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name,
                points: vec![point],
            }),
        }
    }
    lines.retain(|line| line.points.len() > 1);
    lines
}

fn span(values: impl Iterator<Item = f64> + Clone) -> Option<Range<f64>> {
    let (low, high) = (
        values.clone().fold(f64::INFINITY, f64::min),
        values.fold(0.0, f64::max),
    );
    // Less than a decade is drawn from its power of ten on, else it might have no number at all.
    let start = if high < low * 10.0 {
        10_f64.powf(low.log10().floor()).min(low * 0.8)
    } else {
        low * 0.8
    };
    (low.is_finite() && low > 0.0 && high > 0.0).then_some(start..high * 1.3)
}

fn write(path: &Path, chart: &Chart<'_>, lines: &[Line]) -> anyhow::Result<()> {
    let points = lines.iter().flat_map(|line| line.points.iter().copied());
    let (Some(x), Some(y)) = (
        span(points.clone().map(|(x, _)| x)),
        span(points.map(|(_, y)| y)),
    ) else {
        return Ok(());
    };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    drawn(&area, chart, lines, x, y)
        .map_err(|error| anyhow!("can't draw {}: {error}", path.display()))
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn drawn(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    chart: &Chart<'_>,
    lines: &[Line],
    x: Range<f64>,
    y: Range<f64>,
) -> Result<(), Failure> {
    let text = |error: &dyn std::fmt::Display| Failure::from(error.to_string());
    area.fill(&WHITE).map_err(|error| text(&error))?;
    let mut context = ChartBuilder::on(area)
        .caption(chart.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(x.log_scale(), y.log_scale())
        .map_err(|error| text(&error))?;
    let mut mesh = context.configure_mesh();
    mesh.x_desc(chart.x)
        .y_desc(chart.y)
        .x_label_formatter(&chart.x_label)
        .light_line_style(BLACK.mix(0.05));
    mesh.draw().map_err(|error| text(&error))?;
    for (at, line) in lines.iter().enumerate() {
        let color = Palette99::pick(at).to_rgba();
        let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2));
        let legend =
            move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2));
        context
            .draw_series(series)
            .map_err(|error| text(&error))?
            .label(&line.name)
            .legend(legend);
        let dots = line
            .points
            .iter()
            .map(|point| Circle::new(*point, 3, color.filled()));
        context.draw_series(dots).map_err(|error| text(&error))?;
    }
    let mut labels = context.configure_series_labels();
    labels
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 12));
    labels.draw().map_err(|error| text(&error))?;
    area.present().map_err(|error| text(&error))
}
