//! How far an installation is.

use std::path::PathBuf;

/// What an installation is doing, for a progress bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A route is begun: which client, and what it is asked for.
    Trying {
        route: &'static str,
        package: String,
    },
    /// Bytes on disk so far, and how many there will be, where known.
    Downloading {
        bytes: u64,
        total: Option<u64>,
    },
    /// The download is complete: its digest is checked, then it is unpacked.
    Unpacking,
    /// This route failed; the next is tried.
    Failed {
        route: &'static str,
        why: String,
    },
    Done {
        folder: PathBuf,
    },
}
