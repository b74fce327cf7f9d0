//! The chores of this repository as one command: `cargo xtask NAME`. Each chore is a command that
//! also works without this program. Here it has a name and runs from the repository's root.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// The command that a chore runs, before the arguments that the caller gives, and what it is for.
struct Chore {
    name: &'static str,
    command: &'static [&'static str],
    what: &'static str,
}

const CHORES: [Chore; 8] = [
    Chore {
        name: "check",
        command: &[".ci/run", "lints", "documents", "dependencies"],
        what: "format, lints, documents and licences: all that .ci/run holds but the tests",
    },
    Chore {
        name: "test",
        command: &["cargo", "test", "--locked"],
        what: "all tests, or those that the arguments name",
    },
    Chore {
        name: "ci",
        command: &[".ci/run"],
        what: "what must pass; or some of its steps",
    },
    Chore {
        name: "docs",
        command: &[".ci/run", "documents"],
        what: "the crates' documents, into target/doc",
    },
    Chore {
        name: "storm",
        command: &[
            "cargo",
            "test",
            "--locked",
            "--test",
            "it",
            "--",
            "--ignored",
            "--nocapture",
            "of_5000_steps",
        ],
        what: "5,000 steps while workers, node and PostgreSQL are killed; takes minutes",
    },
    Chore {
        name: "fuzz",
        command: &[
            "env",
            "RUSTC_BOOTSTRAP=1",
            "cargo",
            "fuzz",
            "run",
            "-s",
            "none",
        ],
        what: "one target until it fails: scheme -- -max_total_time=120; needs cargo-fuzz (fuzz/README.md)",
    },
    Chore {
        name: "bench",
        command: &["bench/run"],
        what: "the benchmark, or some of it: --quick, --only NAME (bench/README.md)",
    },
    Chore {
        name: "instructions",
        command: &[".ci/instructions"],
        what: "instructions an event against the recorded ones; needs valgrind",
    },
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn usage() -> String {
    let lines = CHORES.map(|chore| format!("    {:<14}{}\n", chore.name, chore.what));
    format!("cargo xtask NAME [ARGUMENT]…\n\n{}", lines.concat())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some(chore) = CHORES.iter().find(|chore| name == chore.name) else {
        eprint!("{}", usage());
        let is_help = ["help", "--help", "-h"].iter().any(|help| name == *help);
        return ExitCode::from(if is_help { 0 } else { 2 });
    };
    let [program, rest @ ..] = chore.command else {
        return ExitCode::FAILURE;
    };
    // A script's path is from the root, and must not depend on where the process starts.
    let path = if program.contains('/') {
        root().join(program)
    } else {
        program.into()
    };
    match Command::new(path)
        .args(rest)
        .args(arguments)
        .current_dir(root())
        .status()
    {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chore_has_its_script_and_stands_in_the_usage() {
        for Chore { name, command, .. } in &CHORES {
            let program = command[0];
            assert!(
                !program.contains('/') || root().join(program).is_file(),
                "{name}: there is no {program}"
            );
            assert!(usage().contains(name), "{name}");
        }
    }
}
