//! `man`: one page, every command in it.

use super::{exit::Exit, output};

pub fn run(command: clap::Command) -> anyhow::Result<Exit> {
    output::print(&String::from_utf8_lossy(&page(command)?))?;
    Ok(Exit::Done)
}

fn page(mut command: clap::Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    commands(&command, &mut page)?;
    Ok(page)
}

/// The synopsis, description and options of each command below this one.
fn commands(parent: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for command in parent
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        let name = command
            .get_bin_name()
            .unwrap_or(command.get_name())
            .to_uppercase();
        page.extend(format!(".SH \"{name}\"\n").into_bytes());
        let own = command.clone().mut_args(|arg| {
            let is_global = arg.is_global_set();
            arg.hide(is_global)
        });
        let man = clap_mangen::Man::new(own);
        let mut section = Vec::new();
        man.render_description_section(&mut section)?;
        man.render_synopsis_section(&mut section)?;
        man.render_options_section(&mut section)?;
        // Below a command's own heading its sections are subsections.
        page.extend(
            String::from_utf8_lossy(&section)
                .replace(".SH ", ".SS ")
                .into_bytes(),
        );
        commands(command, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_page_has_every_command() {
        let page = String::from_utf8(super::page(crate::cli::Cli::command()).unwrap()).unwrap();
        for heading in ["HOOKONCE SEND", "HOOKONCE EVENTS TAIL", "HOOKONCE DB PRUNE"] {
            assert!(page.contains(&format!(".SH \"{heading}\"")), "{heading}");
        }
    }
}
