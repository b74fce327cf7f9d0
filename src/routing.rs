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
