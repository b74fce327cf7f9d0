//! What a run found: series of rounds, figures with their spread and the bound they are held to.
//! Kept as JSON; tables and plots are made of it.

use serde::Serialize;

use crate::round::Sample;

/// The rounds of one side.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub name: String,
    pub samples: Vec<Sample>,
}

impl Series {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            samples: Vec::new(),
        }
    }

    pub fn values(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(of).collect()
    }

    pub fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.values(of))
    }

    /// This side by the other, round by round.
    pub fn ratios(&self, other: &Self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let all = self
            .samples
            .iter()
            .zip(&other.samples)
            .map(|(own, other)| of(own) / of(other));
        // A round in which nothing was answered has no ratio.
        all.filter(|ratio| ratio.is_finite()).collect()
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// What a figure is held to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast { floor: f64, goal: f64 },
    AtMost { floor: f64, goal: f64 },
    None,
}

#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub values: Vec<f64>,
    pub bound: Bound,
}

impl Figure {
    pub fn new(name: &str, unit: &str, values: Vec<f64>, bound: Bound) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            median: median(&values),
            low: finite().fold(f64::INFINITY, f64::min),
            high: finite().fold(f64::NEG_INFINITY, f64::max),
            bound,
            values,
        }
    }

    /// "goal", "floor" or "missed".
    pub fn verdict(&self) -> &'static str {
        let (floor, goal) = match self.bound {
            Bound::None => return "",
            Bound::AtLeast { floor, goal } => (self.median >= floor, self.median >= goal),
            Bound::AtMost { floor, goal } => (self.median <= floor, self.median <= goal),
        };
        match (floor, goal) {
            (_, true) => "goal",
            (true, false) => "floor",
            (false, false) => "missed",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Case {
    pub name: String,
    pub about: String,
    /// How long it took to measure.
    pub seconds: f64,
    pub series: Vec<Series>,
    pub figures: Vec<Figure>,
}

impl Case {
    pub fn new(name: &str, about: &str) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            ..Self::default()
        }
    }

    pub fn find(&self, series: &str) -> Option<&Series> {
        self.series.iter().find(|known| known.name == series)
    }

    /// Round by round, one side's rate by another's; None where either was not measured.
    pub fn rates(&self, own: &str, other: &str) -> Option<Vec<f64>> {
        Some(
            self.find(own)?
                .ratios(self.find(other)?, |sample| sample.per_second),
        )
    }

    pub fn figure(&mut self, name: &str, unit: &str, values: Vec<f64>, bound: Bound) {
        let figure = Figure::new(name, unit, values, bound);
        eprintln!(
            "  = {} {:.3} {} ({:.3} to {:.3}) {}",
            figure.name,
            figure.median,
            figure.unit,
            figure.low,
            figure.high,
            figure.verdict()
        );
        self.figures.push(figure);
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub at: String,
    pub quick: bool,
    pub machine: String,
    pub hookonce: String,
    pub postgres: String,
    pub seconds: f64,
    pub cases: Vec<Case>,
    /// What was not measured, and why.
    pub missing: Vec<String>,
}
