//! `send`: signs as the provider does and posts, as often as asked. Where to and with which secret
//! is `target`, what is sent is `outgoing`, how it is posted is `post`, what came of it is `report`.

mod again;
mod arguments;
mod fresh;
mod outgoing;
mod post;
mod report;
mod target;

use hookonce_scheme::{Samples, near};

pub use again::command_for;
pub use arguments::Arguments;
use outgoing::Outgoing;
use target::Target;

use crate::{
    cli::{Exit, Globals, output, verify_files},
    clock::Clock,
};

pub async fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<Exit> {
    let target = Target::find(globals, &arguments).await?;
    let data = arguments
        .data
        .as_deref()
        .map(verify_files::read)
        .transpose()?;
    doubt_type(&target, &arguments);
    let mut outgoing = Outgoing::new(&target, &arguments, data)?;
    if let Some(note) = outgoing.note()? {
        globals.note(&note);
    }
    let began_ms = Clock::System.unix_ms();
    let sent = post::all(globals, &arguments, &target, &mut outgoing).await?;
    let why = report::reasons(&target, &sent, began_ms).await;
    report::show(globals, &sent, &why)?;
    Ok(sent.exit())
}

/// Warns of a type that is not known of the provider: it may be new, and it may be mistyped.
fn doubt_type(target: &Target, arguments: &Arguments) {
    let known = &target.scheme.spec.events;
    let Some(event_type) = arguments.r#type.as_deref().filter(|_| !known.is_empty()) else {
        return;
    };
    let samples = Samples::of(&target.scheme.name);
    let sampled = samples.into_iter().flat_map(Samples::all);
    let names: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .chain(sampled.flat_map(|sample| {
            let event_type = sample.event_type.as_deref();
            event_type.into_iter().chain([sample.name()])
        }))
        .collect();
    if names.contains(&event_type) {
        return;
    }
    let mut nearest = near(event_type, names);
    nearest.truncate(3);
    let nearest = match nearest.as_slice() {
        [] => String::new(),
        names => format!(": did you mean {}?", names.join(", ")),
    };
    let shape = samples
        .and_then(|samples| samples.nearest_shape(event_type))
        .filter(|_| arguments.data.is_none())
        .map(|sample| format!("; it is sent with the body of {}", sample.name()));
    anstream::eprintln!(
        "\x1b[1;33mwarning:\x1b[0m {} is no type of {} that is known here{nearest}{}",
        output::printable(event_type),
        target.scheme.name,
        shape.unwrap_or_default()
    );
}
