//! Which destinations an event goes to. This is pure: no I/O, no clock.

use std::sync::Arc;

use crate::{event::TypeGlob, settings::Settings};

/// One source's routes.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<(Vec<TypeGlob>, Arc<str>)>);

impl Routes {
    pub fn of(settings: &Settings, source: &str) -> Self {
        let routes = settings
            .routes
            .iter()
            .filter(|route| route.source == source);
        Self(
            routes
                .map(|route| {
                    (
                        route.types.iter().map(TypeGlob::new).collect(),
                        route.destination.as_str().into(),
                    )
                })
                .collect(),
        )
    }

    /// Each destination once, in the order of the routes. A route without types takes every event,
    /// including one without a type.
    pub fn destinations(&self, event_type: Option<&str>) -> Vec<&Arc<str>> {
        let mut destinations: Vec<&Arc<str>> = Vec::new();
        for (types, destination) in &self.0 {
            let takes = types.is_empty()
                || types
                    .iter()
                    .any(|glob| glob.matches(event_type.unwrap_or_default()));
            if takes && !destinations.contains(&destination) {
                destinations.push(destination);
            }
        }
        destinations
    }
}

/// The routes of all sources, column by column, for a statement that routes by itself. A route has
/// a row for each of its patterns, in the words of LIKE, or one without a pattern.
#[derive(Debug, Default)]
pub struct LikeRoutes {
    pub sources: Vec<String>,
    pub patterns: Vec<Option<String>>,
    pub destinations: Vec<String>,
}

impl LikeRoutes {
    pub fn of(settings: &Settings) -> Self {
        let mut rows = Self::default();
        for route in &settings.routes {
            let types = route.types.iter();
            let mut patterns: Vec<Option<String>> = types
                .map(|pattern| Some(TypeGlob::new(pattern).to_like()))
                .collect();
            if patterns.is_empty() {
                patterns.push(None);
            }
            for pattern in patterns {
                rows.sources.push(route.source.clone());
                rows.patterns.push(pattern);
                rows.destinations.push(route.destination.clone());
            }
        }
        rows
    }
}
