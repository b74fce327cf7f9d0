//! Builds schemes and sources from the settings, with all that is wrong with them as one error. It
//! verifies nothing.

use hookonce_scheme::{Catalog, SchemeError};

use crate::{intake::sources::Sources, settings::Settings, store::learnt::LearntSecret};

/// All that is wrong with sources or providers, as one text.
pub fn scheme_errors(errors: &[(String, SchemeError)]) -> String {
    errors
        .iter()
        .map(|(source, error)| format!("sources.{source}: {error}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The schemes that these settings know.
pub fn catalog_of(settings: &Settings) -> anyhow::Result<Catalog> {
    Catalog::new(&settings.providers).map_err(|errors| {
        anyhow::anyhow!(
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })
}

/// The sources of these settings.
pub fn sources_of(
    settings: &Settings,
    catalog: &Catalog,
    learnt: &[LearntSecret],
    look_back: bool,
) -> anyhow::Result<Sources> {
    Sources::build(settings, catalog, learnt, look_back)
        .map_err(|errors| anyhow::anyhow!(scheme_errors(&errors)))
}
