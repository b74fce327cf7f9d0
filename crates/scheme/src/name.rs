//! What may be a name: of an event, of a type, of a key.

/// A longer key or type is no name.
const NAME_BYTES_MAX: usize = 255;

/// A value that is short and clean enough to be a name.
pub(crate) fn name(value: &[u8]) -> Option<&str> {
    name_or_why(value).ok().filter(|text| !text.is_empty())
}

/// The text, or why it can be no name. An empty text is allowed here, and says nothing.
pub(crate) fn name_or_why(value: &[u8]) -> Result<&str, &'static str> {
    if value.len() > NAME_BYTES_MAX {
        return Err("longer than 255 bytes");
    }
    let text = std::str::from_utf8(value).map_err(|_| "no UTF-8")?;
    if text.chars().any(char::is_control) {
        Err("with control characters")
    } else {
        Ok(text)
    }
}
