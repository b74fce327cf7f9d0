//! Follows a connection's bytes from message to message (RFC 9112), for two reasons. It refuses
//! what the server's parser lets through: a line that ends in LF alone, which a proxy in front may
//! read differently, and chunk extensions and trailers without end. And it knows whether a message
//! has come whole.
//!
//! It decides nothing else. It finds a message's length just as the parser does, and what the
//! parser refuses ends the connection.

use memchr::{memchr, memchr_iter};

/// Bytes of chunk extensions, trailers and needless zeros that one message may have. None of them
/// is used.
pub const EXTRAS_MAX: usize = 8 << 10;
/// The digits that a chunk's size needs at most.
const SIZE_DIGITS: usize = 16;
/// The longest name of a header. Real names are far shorter, and the parser does not survive one of
/// 64 KiB.
const NAME_MAX: usize = 8 << 10;
/// The longest line. The parser's own limit of a head is lower, so by then it has refused.
const LINE_MAX: usize = 256 << 10;

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a head's first byte; empty lines may come.
    Start,
    Head,
    /// This many bytes of a body are left.
    Body(u64),
    ChunkSize,
    /// This many bytes of a chunk are left, including its line end.
    Chunk(u64),
    Trailer,
    /// In another protocol, whose end is unknown.
    Tunnel,
}

/// What a head says about its body's length.
#[derive(Clone, Copy, Debug, Default)]
struct Announced {
    length: Option<u64>,
    is_chunked: bool,
    is_tunnel: bool,
    is_connect: bool,
}

/// Something is wrong, beginning at this byte of those given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence(pub usize);

/// The state of one connection within its messages.
#[derive(Debug)]
pub struct Framing {
    at: At,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    announced: Announced,
    extras: usize,
    heads: u64,
    blank: usize,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            at: At::Start,
            line: Vec::new(),
            announced: Announced::default(),
            extras: 0,
            heads: 0,
            blank: 0,
        }
    }
}

impl Framing {
    /// How many heads have come whole.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the last head's body, or a part of it, is still to come.
    pub fn is_in_body(&self) -> bool {
        !matches!(self.at, At::Start | At::Head)
    }

    /// Whether nothing of a next message has come.
    pub fn is_between(&self) -> bool {
        self.at == At::Start && self.line.is_empty()
    }

    /// How many of the bytes that were taken last are empty lines at the end, after a message. The
    /// caller drops them: the server's parser takes them for the beginning of a head, and then its
    /// time between requests does not run.
    pub fn blank(&self) -> usize {
        if self.is_between() { self.blank } else { 0 }
    }

    /// Takes the bytes that came next.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        let mut from = 0;
        self.blank = 0;
        while from < bytes.len() {
            let rest = &bytes[from..];
            from += match self.at {
                At::Tunnel => rest.len(),
                At::Body(left) => self.skip(left, rest.len(), At::Body, At::Start),
                At::Chunk(left) => self.skip(left, rest.len(), At::Chunk, At::ChunkSize),
                At::Start | At::Head => {
                    self.head(rest).map_err(|Offence(at)| Offence(from + at))?
                }
                At::ChunkSize | At::Trailer => self
                    .chunk_line(rest)
                    .map_err(|Offence(at)| Offence(from + at))?,
            };
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, here: usize, more: fn(u64) -> At, then: At) -> usize {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        let left = left - step as u64;
        self.at = if left == 0 { then } else { more(left) };
        step
    }

    /// Takes the head's lines, as far as they have come.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Offence> {
        let mut from = 0;
        for end in memchr_iter(b'\n', bytes) {
            let is_pieced = !self.line.is_empty();
            let ended = self
                .ended(&bytes[from..end])
                .filter(|line| !self.has_long_name(line))
                .ok_or(Offence(end))?;
            let length = end + 1 - from;
            from = end + 1;
            match ended {
                // Empty lines before a request are skipped (section 2.2).
                Line::Empty if self.at == At::Start => {
                    self.blank += if is_pieced { 0 } else { length }
                }
                Line::Empty => {
                    self.begin_body();
                    return Ok(from);
                }
                Line::Whole(line) => self.announced.note(self.at == At::Start, line),
                Line::Pieced => {
                    let line = std::mem::take(&mut self.line);
                    self.announced
                        .note(self.at == At::Start, &line[..line.len() - 1]);
                    self.line = line;
                }
            }
            if ended != Line::Empty {
                self.at = At::Head;
            }
            self.line.clear();
        }
        self.keep(&bytes[from..]);
        if self.has_long_name(&Line::Pieced) {
            Err(Offence(from))
        } else {
            Ok(bytes.len())
        }
    }

    fn has_long_name(&self, line: &Line<'_>) -> bool {
        let line = match line {
            Line::Empty => return false,
            Line::Whole(line) => line,
            Line::Pieced => self.line.as_slice(),
        };
        self.at == At::Head && line.len() > NAME_MAX && memchr(b':', &line[..NAME_MAX]).is_none()
    }

    /// The line that ends with these bytes, which have lost their LF. None if no CR was before the
    /// LF.
    fn ended<'b>(&mut self, bytes: &'b [u8]) -> Option<Line<'b>> {
        if self.line.is_empty() {
            let line = bytes.strip_suffix(b"\r")?;
            return Some(if line.is_empty() {
                Line::Empty
            } else {
                Line::Whole(line)
            });
        }
        self.keep(bytes);
        match self.line.strip_suffix(b"\r")? {
            [] => {
                self.line.clear();
                Some(Line::Empty)
            }
            _ => Some(Line::Pieced),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn begin_body(&mut self) {
        let Announced {
            length,
            is_chunked,
            is_tunnel,
            is_connect,
        } = std::mem::take(&mut self.announced);
        let length = length.unwrap_or(0);
        self.heads += 1;
        (self.extras, self.blank) = (0, 0);
        self.at = match length {
            _ if is_chunked => At::ChunkSize,
            _ if is_tunnel || (is_connect && length == 0) => At::Tunnel,
            0 => At::Start,
            length => At::Body(length),
        };
    }

    /// Takes one line of a chunked body: a chunk's size, or a trailer.
    fn chunk_line(&mut self, bytes: &[u8]) -> Result<usize, Offence> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.keep(bytes);
            let so_far = self.extras + self.line.len();
            return if so_far > EXTRAS_MAX + SIZE_DIGITS {
                Err(Offence(0))
            } else {
                Ok(bytes.len())
            };
        };
        self.keep(&bytes[..end]);
        let line = self.line.strip_suffix(b"\r").ok_or(Offence(end))?;
        if self.at == At::Trailer {
            self.extras += line.len();
            if line.is_empty() {
                self.at = At::Start;
            }
        } else {
            let digits = line
                .iter()
                .take_while(|byte| byte.is_ascii_hexdigit())
                .count();
            let size = line[..digits].iter().fold(0_u64, |size, digit| {
                size.saturating_mul(16)
                    .saturating_add(u64::from(char::from(*digit).to_digit(16).unwrap_or(0)))
            });
            self.extras += line.len() - digits.min(SIZE_DIGITS);
            self.at = if size == 0 {
                At::Trailer
            } else {
                At::Chunk(size.saturating_add(2))
            };
        }
        self.line.clear();
        if self.extras > EXTRAS_MAX {
            Err(Offence(end))
        } else {
            Ok(end + 1)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line<'b> {
    Empty,
    Whole(&'b [u8]),
    /// The line came in pieces, and is in `Framing::line` with its CR.
    Pieced,
}

impl Announced {
    fn note(&mut self, is_first: bool, line: &[u8]) {
        if is_first {
            self.is_connect = line.starts_with(b"CONNECT ");
            return;
        }
        if let Some(value) = value_of(line, "content-length:") {
            self.length = std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.parse().ok());
        } else if value_of(line, "transfer-encoding:").is_some() {
            // The parser accepts no other coding than chunked.
            self.is_chunked = true;
        } else if let Some(value) = value_of(line, "upgrade:") {
            self.is_tunnel |= value.eq_ignore_ascii_case(b"websocket");
        }
    }
}

fn value_of<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let (head, value) = line.split_at_checked(name.len())?;
    // Hardly any other name has its colon at this place, so that is checked first.
    (head.ends_with(b":") && head.eq_ignore_ascii_case(name.as_bytes())).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the text whole and byte by byte, which must give the same state or offence.
    fn taken(text: &str) -> Result<Framing, Offence> {
        let mut whole = Framing::default();
        let said = whole.take(text.as_bytes());
        let mut pieced = Framing::default();
        let pieces = text
            .bytes()
            .enumerate()
            .find_map(|(at, byte)| pieced.take(&[byte]).err().map(|Offence(_)| at));
        assert_eq!(said.is_err(), pieces.is_some(), "{text:?}");
        if said.is_ok() {
            assert_eq!(
                (whole.at, whole.heads),
                (pieced.at, pieced.heads),
                "{text:?}"
            );
        }
        said.map(|()| whole)
    }

    #[test]
    fn it_knows_where_a_message_ends() {
        for (text, heads, is_in_body, is_between) in [
            ("", 0, false, true),
            ("\r\n\r\nGET /", 0, false, false),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, false, true),
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
                1,
                true,
                false,
            ),
            (
                "POST / HTTP/1.1\r\ncontent-length:\t3 \r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
                2,
                false,
                true,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\n\n\n",
                1,
                false,
                true,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n\n\n\r\n0",
                1,
                true,
                false,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0A\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
                1,
                false,
                true,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
                1,
                false,
                false,
            ),
            (
                "GET / HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n\n",
                1,
                true,
                false,
            ),
            ("CONNECT a HTTP/1.1\r\n\r\n\n", 1, true, false),
            ("GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", 1, false, true),
        ] {
            let framing = taken(text).unwrap_or_else(|offence| panic!("{text:?}: {offence:?}"));
            assert_eq!(
                (framing.heads(), framing.is_in_body(), framing.is_between()),
                (heads, is_in_body, is_between),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_lone_line_feed_is_an_offence_wherever_lines_are() {
        for (before, after) in [
            ("", "\nGET / HTTP/1.1\r\n\r\n"),
            ("GET / HTTP/1.1", "\nHost: a\r\n\r\n"),
            ("GET / HTTP/1.1\r\nHost: a", "\n\r\n"),
            ("GET / HTTP/1.1\r\nHost: a\r\n", "\n"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1",
                "\na\r\n0\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: y",
                "\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
                "\n",
            ),
        ] {
            let offence = taken(&format!("{before}{after}")).expect_err(after);
            assert_eq!(offence, Offence(before.len()), "{before:?} {after:?}");
        }
    }

    #[test]
    fn empty_lines_after_a_message_are_told() {
        let blank = |text: &str| {
            let mut framing = Framing::default();
            framing.take(text.as_bytes()).unwrap();
            framing.blank()
        };
        let whole = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(
            [
                whole,
                &format!("{whole}\r\n"),
                &format!("{whole}\r\n\r\n"),
                "\r\n"
            ]
            .map(blank),
            [0, 2, 4, 2]
        );
        assert_eq!(
            [
                &format!("{whole}\r\nGET"),
                &format!("{whole}\r\n\r"),
                "\r\nGET / HTTP/1.1\r\n\r\n"
            ]
            .map(blank),
            [0, 0, 0]
        );
    }

    #[test]
    fn a_name_without_an_end_is_an_offence() {
        let head = |line: &str| {
            taken(&format!(
                "GET /{} HTTP/1.1\r\n{line}\r\n\r\n",
                "u".repeat(2 * NAME_MAX)
            ))
        };
        assert!(head(&format!("x: {}", "y".repeat(2 * NAME_MAX))).is_ok());
        assert!(
            head(&"x".repeat(NAME_MAX + 1)).is_err()
                && head(&format!("{}: y", "x".repeat(NAME_MAX + 1))).is_err()
        );
    }

    #[test]
    fn what_nobody_uses_of_a_chunked_body_is_bounded() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = "x".repeat(EXTRAS_MAX / 2);
        assert!(taken(&format!("{head}1;{long}\r\na\r\n0\r\n\r\n")).is_ok());
        for body in [
            format!("1;{long}\r\na\r\n1;{long}\r\na\r\n"),
            format!("0\r\na: {long}\r\nb: {long}\r\n"),
            format!("1;{long}{long}{long}"),
            format!("{}1\r\na", "0".repeat(EXTRAS_MAX + SIZE_DIGITS)),
        ] {
            assert!(taken(&format!("{head}{body}")).is_err(), "{body:.20}");
        }
        // Many small chunks are not extras.
        assert!(taken(&format!("{head}{}", "1\r\na\r\n".repeat(2 * EXTRAS_MAX))).is_ok());
    }
}
