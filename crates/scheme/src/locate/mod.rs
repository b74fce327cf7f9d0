//! Where values are in a request, and how the text of a signature is taken apart. Compares nothing
//! and knows no secret.

pub(crate) mod canonical;
mod cursor;
mod cut;
pub(crate) mod document;
pub(crate) mod json;
pub(crate) mod jws;
mod multipart;
mod path;
pub(crate) mod piece;
pub(crate) mod scan;
pub(crate) mod selector;
pub(crate) mod signature_text;
pub(crate) mod template;
