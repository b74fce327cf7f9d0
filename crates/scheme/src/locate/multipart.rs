//! A field of a multipart/form-data body (RFC 7578), for senders that put their JSON into one. The
//! body's first line is its boundary.

/// The field's value. None if the body is no such form or has the field twice.
pub(super) fn field<'a>(body: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let end = memchr::memmem::find(body, b"\r\n")?;
    let boundary = body[..end]
        .strip_prefix(b"--")
        .filter(|boundary| (1..=70).contains(&boundary.len()))?;
    let delimiter = [b"\r\n--", boundary].concat();
    let mut rest = &body[end..];
    let mut found = None;
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let length = memchr::memmem::find(part, &delimiter)?;
        let (head, value) = split(&part[..length], b"\r\n\r\n")?;
        if is_named(head, name) && found.replace(value).is_some() {
            return None;
        }
        rest = &part[length + delimiter.len()..];
    }
    found.filter(|_| rest.starts_with(b"--"))
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = memchr::memmem::find(bytes, at)?;
    Some((&bytes[..start], &bytes[start + at.len()..]))
}

/// Whether the part's Content-Disposition gives it this name.
fn is_named(head: &[u8], name: &str) -> bool {
    let Ok(head) = std::str::from_utf8(head) else {
        return false;
    };
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut dispositions =
        lines.filter(|(header, _)| header.trim().eq_ignore_ascii_case("content-disposition"));
    dispositions.any(|(_, value)| {
        let mut parameters = value.split(';').map(str::trim);
        parameters.any(|parameter| {
            parameter.split_once('=').is_some_and(|(key, value)| {
                key.eq_ignore_ascii_case("name") && value.trim_matches('"') == name
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_is_found_once() {
        let part = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = format!("{}{}--b--\r\n", part("x", "1"), part("json", "{\r\n}"));
        assert_eq!(field(body.as_bytes(), "json"), Some(&b"{\r\n}"[..]));
        assert_eq!(field(body.as_bytes(), "gone"), None);
        let twice = format!("{}{}--b--\r\n", part("json", "1"), part("json", "2"));
        assert_eq!(field(twice.as_bytes(), "json"), None);
        assert_eq!(
            field(part("json", "1").as_bytes(), "json"),
            None,
            "it does not end"
        );
        assert_eq!(field(b"{}", "json"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in "(--b|\r\n|[a-z\":;=]| |name=\"a\"){0,40}") {
            let _ = field(body.as_bytes(), "a");
        }
    }
}
