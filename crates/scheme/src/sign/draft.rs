//! What a sender has before and after it signs.

/// What is to be sent.
pub struct Draft<'a> {
    /// Of the event, as the provider would name it.
    pub id: &'a str,
    /// Headers that are already set, by lower-case names: the id and the type, say.
    pub headers: &'a [(String, String)],
    /// The event type, which is put where the scheme has it in a header.
    pub event_type: Option<&'a str>,
    /// When it is signed.
    pub unix_seconds: i64,
    /// The body; what the provider signs in it is added.
    pub body: &'a [u8],
    /// Where it is sent; needed if the provider signs the URL.
    pub url: Option<&'a str>,
    /// In capitals.
    pub method: &'a str,
}

/// What the provider would send. Header names are lower-case.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Content type, signature, time, id and type, if they are in headers.
    pub headers: Vec<(String, String)>,
    /// As in the draft, but for what the provider puts into it: a signature, a time, a token.
    pub body: Vec<u8>,
    /// As in the draft, with the signature if that is in the query.
    pub url: Option<String>,
}
