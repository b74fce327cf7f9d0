//! How bytes are written as text: base64 as senders and people write it, digests, credentials.

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig,
        general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    },
};

use crate::spec::Encoding;

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// The standard alphabet (RFC 4648, section 4), padded or not, as tools of all kinds write it.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, ANY_PADDING);
/// For what people paste. The spare bits of the last character may be set: strict decoders refuse
/// that, but senders do not look at them.
pub(crate) const PASTED: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    ANY_PADDING.with_decode_allow_trailing_bits(true),
);
/// Like [`PASTED`], with the URL-safe alphabet.
pub(crate) const PASTED_URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    ANY_PADDING.with_decode_allow_trailing_bits(true),
);
/// The URL-safe alphabet (RFC 4648, section 5), padded or not.
pub(crate) const BASE64_URL: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, ANY_PADDING);

/// Appends a character as JSON escapes it: `\u` and four digits for each of its units of UTF-16
/// (RFC 8259, section 7).
pub fn push_escaped(text: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        text.push_str(&format!("\\u{unit:04x}"));
    }
}

/// A digest's text.
pub(crate) fn encoded(digest: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Hex => hex::encode(digest),
        Encoding::Base64 => STANDARD.encode(digest),
        Encoding::Base64url => URL_SAFE_NO_PAD.encode(digest),
        Encoding::Plain => String::from_utf8_lossy(digest).into_owned(),
        Encoding::Credentials if digest.contains(&b':') => {
            format!("Basic {}", STANDARD.encode(digest))
        }
        Encoding::Credentials => format!("Bearer {}", String::from_utf8_lossy(digest)),
    }
}

/// What an Authorization header holds (RFC 9110, section 11.4). None if it says that it is base64
/// and is not.
pub(crate) fn credentials(text: &str) -> Option<Cow<'_, [u8]>> {
    match text.split_once(' ') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("basic") => {
            BASE64.decode(rest.trim_ascii()).ok().map(Cow::Owned)
        }
        Some((kind, rest)) if kind.eq_ignore_ascii_case("bearer") => {
            Some(Cow::Borrowed(rest.trim_ascii().as_bytes()))
        }
        _ => Some(Cow::Borrowed(text.as_bytes())),
    }
}
