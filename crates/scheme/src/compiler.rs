//! Gathers what is wrong while a scheme is compiled, so that every mistake is told at once. Each
//! part of a scheme is compiled in the file of that part.

use crate::error::SchemeError;

/// The mistakes that were found so far.
#[derive(Default)]
pub(crate) struct Compiler {
    pub(crate) errors: Vec<SchemeError>,
}

impl Compiler {
    /// The value. The message of an error is kept under this key.
    pub(crate) fn keep<T>(&mut self, key: &str, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|message| self.errors.push(SchemeError::new(key, &message)))
            .ok()
    }

    /// Keeps this message under this key, unless `holds` is true.
    pub(crate) fn demand(&mut self, holds: bool, key: &str, message: &str) {
        if !holds {
            self.errors.push(SchemeError::new(key, message));
        }
    }
}
