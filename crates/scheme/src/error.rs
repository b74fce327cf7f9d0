//! What is wrong in a scheme or a secret.

/// What is wrong in a scheme or a secret, and under which key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct SchemeError {
    /// The key's path in the table of the scheme or of the source: `signature.from`, `secrets[0]`.
    pub key: String,
    /// What is wrong, as the rest of a sentence that begins with the key.
    pub message: String,
}

impl SchemeError {
    /// This message under this key.
    pub(crate) fn new(key: &str, message: &str) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }

    /// The same error under the key of the table around it.
    pub(crate) fn within(self, table: &str) -> Self {
        let key = match self.key.as_str() {
            "" => table.into(),
            key => format!("{table}.{key}"),
        };
        Self { key, ..self }
    }
}
