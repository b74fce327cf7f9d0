//! Finds a few values in a JSON text in one pass, without building a tree or copying what it skips.
//! It is strict (RFC 8259) and its depth is bounded: a text that is no JSON or is nested too deep
//! has no values. Numbers keep their text. The last of repeated members counts, as in most parsers.
//! It is deliberately no parser, because nothing is ever encoded again.

use std::borrow::Cow;

use crate::locate::{
    cursor::{Cursor, decode},
    json::{Found, Pointers, bits},
    path::Step,
};

impl Pointers {
    /// None if the body is no JSON or is nested too deep.
    pub(crate) fn find<'a>(&self, body: &'a [u8]) -> Option<Found<'a>> {
        let text = std::str::from_utf8(body).ok()?;
        let all = self.all();
        let found = Found {
            values: vec![None; self.paths.len()],
            names: vec![None; self.names.len()],
        };
        let mut scan = Scan {
            cursor: Cursor::new(text),
            pointers: self,
            found,
        };
        scan.cursor.space();
        scan.value(0, all)?;
        scan.cursor.space();
        (scan.cursor.at == text.len()).then_some(scan.found)
    }
}

struct Scan<'a, 'p> {
    cursor: Cursor<'a>,
    pointers: &'p Pointers,
    found: Found<'a>,
}

impl<'a> Scan<'a, '_> {
    /// Reads one value. `active` has the paths whose first `depth` steps lead here.
    fn value(&mut self, depth: usize, active: u32) -> Option<()> {
        if active == 0 && depth > 0 {
            return self.cursor.pass_over(depth);
        }
        let start = self.cursor.at;
        match self.cursor.peek()? {
            b'{' => {
                self.object(depth, active)?;
                self.keep_raw(start, depth, active);
                Some(())
            }
            b'[' => {
                self.array(depth, active)?;
                self.keep_raw(start, depth, active);
                Some(())
            }
            b'"' => {
                let plain = self.cursor.string()?;
                if active != 0 {
                    let raw = &self.cursor.text[start..self.cursor.at];
                    self.record(depth, active, || decode(raw, plain));
                    self.keep_raw(start, depth, active);
                }
                Some(())
            }
            b'n' => self.cursor.word("null"),
            first => {
                match first {
                    b't' => self.cursor.word("true")?,
                    b'f' => self.cursor.word("false")?,
                    _ => self.cursor.number()?,
                }
                if active != 0 {
                    let raw = &self.cursor.text[start..self.cursor.at];
                    self.record(depth, active, || Some(raw.into()));
                    self.keep_raw(start, depth, active);
                }
                Some(())
            }
        }
    }

    fn object(&mut self, depth: usize, active: u32) -> Option<()> {
        self.cursor.open(depth)?;
        if self.cursor.expect(b'}').is_some() {
            return Some(());
        }
        for index in 0usize.. {
            let start = self.cursor.at;
            let plain = self.cursor.string()?;
            if depth == 0 && !self.pointers.names.is_empty() {
                self.keep_names(index, start, plain);
            }
            let inside = if active == 0 {
                0
            } else {
                self.member(depth, active, start, plain)
            };
            self.cursor.space();
            self.cursor.expect(b':')?;
            self.cursor.space();
            self.value(depth + 1, inside)?;
            self.cursor.space();
            if self.cursor.expect(b',').is_none() {
                break;
            }
            self.cursor.space();
        }
        self.cursor.expect(b'}')
    }

    fn array(&mut self, depth: usize, active: u32) -> Option<()> {
        self.cursor.open(depth)?;
        if self.cursor.expect(b']').is_some() {
            return Some(());
        }
        for index in 0usize.. {
            let inside = self
                .pointers
                .narrow(active, depth, |step| step.is_element(index));
            self.value(depth + 1, inside)?;
            self.cursor.space();
            if self.cursor.expect(b',').is_none() {
                break;
            }
            self.cursor.space();
        }
        self.cursor.expect(b']')
    }

    /// The paths that go on through this member. What an earlier member of the same name gave is
    /// forgotten, because the last one counts.
    fn member(&mut self, depth: usize, active: u32, start: usize, plain: bool) -> u32 {
        let Some(name) = decode(&self.cursor.text[start..self.cursor.at], plain) else {
            return 0;
        };
        let inside = self
            .pointers
            .narrow(active, depth, |step| step.is_member(&name));
        for path in bits(inside) {
            if !self.pointers.paths[path][..=depth].contains(&Step::Each) {
                self.found.values[path] = None;
            }
        }
        inside
    }

    fn record(&mut self, depth: usize, active: u32, value: impl Fn() -> Option<Cow<'a, str>>) {
        for path in bits(active & !self.pointers.raw)
            .filter(|path| self.pointers.paths[*path].len() == depth)
        {
            match &mut self.found.values[path] {
                Some(all) if self.pointers.paths[path].contains(&Step::Each) => {
                    let all = all.to_mut();
                    all.push(',');
                    all.push_str(&value().unwrap_or_default());
                }
                slot => *slot = value(),
            }
        }
    }

    fn keep_raw(&mut self, start: usize, depth: usize, active: u32) {
        for path in bits(active & self.pointers.raw)
            .filter(|path| self.pointers.paths[*path].len() == depth)
        {
            self.found.values[path] = Some(Cow::Borrowed(&self.cursor.text[start..self.cursor.at]));
        }
    }

    fn keep_names(&mut self, index: usize, start: usize, plain: bool) {
        let Some(member) = decode(&self.cursor.text[start..self.cursor.at], plain) else {
            return;
        };
        for (name, slot) in self.pointers.names.iter().zip(&mut self.found.names) {
            if slot.is_none() && name.is(index, &member) {
                *slot = Some(member.clone());
            }
        }
    }
}

/// The elements of a text that is one list, each as it is written. None if it is no list, is empty
/// or has more than `count_max`.
pub(crate) fn elements(text: &str, count_max: usize) -> Option<Vec<&str>> {
    let mut cursor = Cursor::new(text);
    cursor.space();
    cursor.expect(b'[')?;
    let mut elements = Vec::new();
    loop {
        cursor.space();
        let start = cursor.at;
        cursor.pass_over(1)?;
        if elements.len() == count_max {
            return None;
        }
        elements.push(&text[start..cursor.at]);
        cursor.space();
        if cursor.expect(b',').is_none() {
            break;
        }
    }
    cursor.expect(b']')?;
    cursor.space();
    (cursor.at == text.len()).then_some(elements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::locate::cursor::DEPTH_MAX;

    fn one(path: &str, body: &str) -> Option<String> {
        let mut pointers = Pointers::default();
        pointers.add(path).unwrap();
        pointers
            .find(body.as_bytes())?
            .value(0)
            .map(|value| value.clone().into_owned())
    }

    #[test]
    fn values_are_found_as_they_stand() {
        for (path, body, expected) in [
            ("id", r#"{"id":"evt_1"}"#, Some("evt_1")),
            (
                "id",
                r#" { "a" : [1, {"id": "x"}], "id" : 12345678901234567890.0 } "#,
                Some("12345678901234567890.0"),
            ),
            ("a.b", r#"{"a":{"b":true}}"#, Some("true")),
            ("a.b", r#"{"a.b":"x","a":{"c":1}}"#, None),
            ("id", r#"{"id":null}"#, None),
            ("id", r#"{"id":{"id":"x"}}"#, None),
            ("id", r#"{"id":"a","id":"b"}"#, Some("b")),
            ("a.id", r#"{"a":{"id":"a"},"a":{}}"#, None),
            ("id", r#"{"\u0069d":"q\"\ud83d\ude00\n"}"#, Some("q\"😀\n")),
            ("a[1].b", r#"{"a":[{"b":1},{"b":2},{"b":3}]}"#, Some("2")),
            ("a[].b", r#"{"a":[{"b":1},{"c":0},{"b":"x"}]}"#, Some("1,x")),
            ("[].id", r#"[{"id":1},{"id":2}]"#, Some("1,2")),
            ("[0].id", r#"[{"id":1},{"id":2}]"#, Some("1")),
            ("/a/b", r#"{"a":{"b":true}}"#, Some("true")),
            ("/a/1/b", r#"{"a":[{"b":1},{"b":2}]}"#, Some("2")),
            ("/a/1", r#"{"a":{"1":"x","01":"y"}}"#, Some("x")),
            ("/a/01", r#"{"a":{"1":"x","01":"y"}}"#, Some("y")),
            ("/a~1b/~0c", r#"{"a/b":{"~c":7}}"#, Some("7")),
            ("/a.b", r#"{"a.b":"x","a":{"b":"y"}}"#, Some("x")),
            (
                "id",
                r#"{"id":"ü – é","long text before":"…………………………………………………………"}"#,
                Some("ü – é"),
            ),
        ] {
            assert_eq!(one(path, body).as_deref(), expected, "{path} in {body}");
        }
    }

    #[test]
    fn what_is_no_json_has_no_values() {
        for body in [
            "",
            "id",
            r#"{"id":"x""#,
            r#"{"id":"x"} x"#,
            r#"{"id":"x",}"#,
            r#"{"id":01}"#,
            r#"{"id":1.}"#,
            r#"{"id":"x","b":+1}"#,
            r#"{'id':'x'}"#,
            "{\"id\":\"x\",\"b\":\"\u{1}\"}",
            r#"{"id":"x","b":"\x"}"#,
            r#"{"id":"x","b":"\u12g4"}"#,
            r#"{"id":"x","b":nul}"#,
        ] {
            assert_eq!(one("id", body), None, "{body}");
        }
        let mut pointers = Pointers::default();
        pointers.add("id").unwrap();
        assert!(pointers.find(b"{\"id\":\"\xff\"}").is_none());
    }

    #[test]
    fn depth_is_capped_and_never_overflows_the_stack() {
        let nested = |depth: usize| {
            format!(
                r#"{{"id":"x","a":{}{}}}"#,
                "[".repeat(depth),
                "]".repeat(depth)
            )
        };
        assert_eq!(one("id", &nested(DEPTH_MAX - 1)).as_deref(), Some("x"));
        assert_eq!(one("id", &nested(DEPTH_MAX)), None);
        assert_eq!(one("id", &nested(100_000)), None);
        assert_eq!(one("id", &"[".repeat(100_000)), None);
        assert_eq!(one("id", &"{\"a\":".repeat(100_000)), None);
    }

    #[test]
    fn several_paths_take_one_pass() {
        let mut pointers = Pointers::default();
        assert_eq!(
            (
                pointers.add("id"),
                pointers.add("event.type"),
                pointers.add("id")
            ),
            (Ok(0), Ok(1), Ok(0))
        );
        let found = pointers
            .find(br#"{"event":{"type":"t"},"id":"i"}"#)
            .unwrap();
        assert_eq!(
            (
                found.value(0).map(AsRef::as_ref),
                found.value(1).map(AsRef::as_ref)
            ),
            (Some("i"), Some("t"))
        );
        for wrong in ["", "a..b", "a[", "a[x]", ".a"] {
            assert!(pointers.add(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_raw_parts_are_found_as_they_stand() {
        let mut pointers = Pointers::default();
        for (index, name) in ["*_events", "[1]", "message", "edited_*", "*"]
            .into_iter()
            .enumerate()
        {
            assert_eq!(pointers.add_name(name), Ok(index));
        }
        for (index, path) in ["[0]", "a.b", "s", "n"].into_iter().enumerate() {
            assert_eq!(pointers.add_raw(path), Ok(index));
        }
        assert_eq!((pointers.add("s"), pointers.add_raw("s")), (Ok(4), Ok(2)));
        let names = |body: &'static str| {
            let found = pointers.find(body.as_bytes()).unwrap();
            (0..5)
                .map(|index| found.name(index).cloned().unwrap_or_default().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(r#"{"for_user_id":"1","tweet_create_events":[{"x_events":1}]}"#),
            [
                "tweet_create_events",
                "tweet_create_events",
                "",
                "",
                "for_user_id"
            ]
        );
        assert_eq!(
            names(r#"{"update_id":1,"edited_message":{"message":1}}"#),
            ["", "edited_message", "", "edited_message", "update_id"]
        );
        assert_eq!(names("[]"), ["", "", "", "", ""]);
        let raws = |body: &'static str| {
            let found = pointers.find(body.as_bytes()).unwrap();
            (0..5)
                .map(|index| found.value(index).cloned().unwrap_or_default().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            raws(r#"[{ "a" : [1] , "b":"é"}, 2]"#)[0],
            r#"{ "a" : [1] , "b":"é"}"#
        );
        assert_eq!(
            raws(r#"{"a":{"b":[1, 2]},"s":"q\"x","n": 1.0}"#),
            ["", "[1, 2]", r#""q\"x""#, "1.0", "q\"x"]
        );
        for wrong in ["[x]", "[1", "a*b*c"] {
            assert!(pointers.add_name(wrong).is_err(), "{wrong}");
        }
        assert!(pointers.add_raw("a[].b").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut pointers = Pointers::default();
            pointers.add("a.b").unwrap();
            let _ = pointers.find(&body);
        }

        #[test]
        fn accepts_what_serde_json_accepts(body in r#"[\[\]{}",:0-9eE+\-.ntrufalse\\ ]{0,24}"#) {
            let pointers = Pointers::default();
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
            prop_assert_eq!(pointers.find(body.as_bytes()).is_some(), expected);
        }

        #[test]
        fn strings_come_out_as_they_went_in(id in "\\PC*", filler in any::<String>()) {
            let body = serde_json::to_string(&serde_json::json!({"filler": filler, "id": id, "z": [filler]})).unwrap();
            prop_assert_eq!(one("id", &body), Some(id));
        }
    }
}
