//! A request as it arrived, and the few questions about its text that need no scheme.

use bytes::Bytes;

/// One request as it arrived. Header names are lower-case; a repeated header stands as often as it
/// was sent.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// In capitals, as HTTP has it (RFC 9110, section 9.1).
    pub method: &'a str,
    /// The URL that the provider called, if it is known.
    pub url: Option<&'a str>,
    /// The query that came; None for that of the URL.
    pub query: Option<&'a str>,
    /// Names and values in the order in which they came.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The exact bytes, without transfer encoding.
    pub body: &'a Bytes,
}

impl<'a> Request<'a> {
    /// The query as it came, else that of the URL.
    pub(crate) fn query_text(&self) -> Option<&'a str> {
        self.query.or_else(|| self.url.and_then(query_of))
    }
}

/// A header, or a member of the signature, that appears more than once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeated(pub(crate) String);

/// What is between the question mark and the fragment.
pub(crate) fn query_of(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    Some(query.split_once('#').map_or(query, |(query, _)| query))
}

/// Whether a body may be a form. A JSON body is none, even if something in it looks like a form.
#[inline]
pub fn is_form(body: &[u8]) -> bool {
    !matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}
