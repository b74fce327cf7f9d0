//! A place in a JSON text (RFC 8259), and the steps over the values there. It is strict, and its
//! depth is bounded: None means that this is no JSON. It keeps nothing of what it passes; `scan`
//! does.

use std::borrow::Cow;

/// How deep containers may be nested. A deeper text is opaque.
pub(super) const DEPTH_MAX: usize = 64;

/// A text, and how far it is read (in bytes).
pub(super) struct Cursor<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of the text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte that comes next.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over white space.
    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Passes over this byte.
    pub(super) fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Passes over this word.
    pub(super) fn word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes()[self.at..]
            .starts_with(word.as_bytes())
            .then(|| self.at += word.len())
    }

    /// Passes over a value that no path leads into, as strictly as over others. Most of a body is
    /// such a value, so this does not recurse.
    pub(super) fn pass_over(&mut self, depth: usize) -> Option<()> {
        // One bit for each container that is open here, the innermost lowest. The bit of an object
        // is set.
        let mut objects = 0u64;
        let mut open = 0;
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                first @ (b'{' | b'[') => {
                    self.open(depth + open)?;
                    let is_object = first == b'{';
                    // The code of the closing bracket is two above that of the opening one.
                    if self.expect(first + 2).is_none() {
                        objects = objects << 1 | u64::from(is_object);
                        open += 1;
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => self.number()?,
            }
            loop {
                if open == 0 {
                    return Some(());
                }
                self.space();
                let is_object = objects & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        self.space();
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                self.at += 1;
                objects >>= 1;
                open -= 1;
            }
        }
    }

    /// Passes over a member's name and the colon.
    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Some(())
    }

    /// Passes over an opening bracket and the white space behind it. None if it is too deep.
    pub(super) fn open(&mut self, depth: usize) -> Option<()> {
        if depth >= DEPTH_MAX {
            return None;
        }
        self.at += 1;
        self.space();
        Some(())
    }

    /// Passes over a string. Says whether it is free of escapes.
    pub(super) fn string(&mut self) -> Option<bool> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let mut plain = true;
        loop {
            self.at += plain_run(&bytes[self.at..]);
            match *bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(plain);
                }
                b'\\' => {
                    plain = false;
                    self.at += match *bytes.get(self.at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes
                            .get(self.at + 2..self.at + 6)?
                            .iter()
                            .all(u8::is_ascii_hexdigit) =>
                        {
                            6
                        }
                        _ => return None,
                    };
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    /// Passes over a number.
    pub(super) fn number(&mut self) -> Option<()> {
        let _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// The text of a raw string with its quotes. None if its escapes are no Unicode.
pub(super) fn decode(raw: &str, plain: bool) -> Option<Cow<'_, str>> {
    if plain {
        Some(Cow::Borrowed(&raw[1..raw.len() - 1]))
    } else {
        serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
    }
}

/// How many bytes from the start are neither a quote, a backslash nor a control character. It looks
/// at eight at a time.
fn plain_run(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_in = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(LOW * 0x20) & !word & HIGH;
        let stop = control
            | zero_in(word ^ (LOW * u64::from(b'"')))
            | zero_in(word ^ (LOW * u64::from(b'\\')));
        if stop != 0 {
            // The lowest flag is exact, because a borrow can only set flags above a true one.
            return at + stop.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..]
        .iter()
        .take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\')
        .count()
}
