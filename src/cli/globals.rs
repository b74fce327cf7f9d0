//! What holds for every command.

use std::path::PathBuf;

use clap::ValueEnum;
use secrecy::SecretString;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    /// An array for a list, an object for one
    Json,
    /// One JSON object a line
    Ndjson,
}

/// What holds for every command, ready to use.
#[derive(Clone, Debug)]
pub struct Globals {
    pub config: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub output: Format,
    pub server: Option<String>,
    pub token: Option<SecretString>,
    pub quiet: bool,
    pub verbose: u8,
}
