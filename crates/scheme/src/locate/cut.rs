//! A JSON text without the values at some of its places. Two texts whose values change there are
//! compared by it. What is kept is not rewritten.

use crate::locate::{
    cursor::{Cursor, decode},
    json::Pointers,
};

impl Pointers {
    /// The text without the members and elements at these paths, and without the white space around
    /// what is looked into. None if it is no JSON or is nested too deep.
    pub(crate) fn without(&self, text: &str) -> Option<String> {
        let mut cut = Cut {
            cursor: Cursor::new(text),
            pointers: self,
            out: String::with_capacity(text.len()),
        };
        cut.cursor.space();
        cut.value(0, self.all())?;
        cut.cursor.space();
        (cut.cursor.at == text.len()).then_some(cut.out)
    }
}

/// Copies a text without the values at its paths.
struct Cut<'a, 'p> {
    cursor: Cursor<'a>,
    pointers: &'p Pointers,
    out: String,
}

impl Cut<'_, '_> {
    /// Copies one value. `active` has the paths whose first `depth` steps lead here and that go on.
    fn value(&mut self, depth: usize, active: u32) -> Option<()> {
        match self.cursor.peek()? {
            b'{' if active != 0 => self.container(depth, active, b'}'),
            b'[' if active != 0 => self.container(depth, active, b']'),
            _ => {
                let start = self.cursor.at;
                self.cursor.pass_over(depth)?;
                self.out.push_str(&self.cursor.text[start..self.cursor.at]);
                Some(())
            }
        }
    }

    fn container(&mut self, depth: usize, active: u32, close: u8) -> Option<()> {
        let is_object = close == b'}';
        self.cursor.open(depth)?;
        self.out.push(if is_object { '{' } else { '[' });
        let (mut index, mut is_first) = (0, true);
        while self.cursor.expect(close).is_none() {
            if index > 0 {
                self.cursor.expect(b',')?;
                self.cursor.space();
            }
            let before = self.out.len();
            if !is_first {
                self.out.push(',');
            }
            let inside = match is_object {
                true => self.name(depth, active)?,
                false => self
                    .pointers
                    .narrow(active, depth, |step| step.is_element(index)),
            };
            let is_cut = self.pointers.ends(inside, depth + 1);
            if is_cut {
                self.out.truncate(before);
                self.cursor.pass_over(depth + 1)?;
            } else {
                is_first = false;
                self.value(depth + 1, inside)?;
            }
            self.cursor.space();
            index += 1;
        }
        self.out.push(char::from(close));
        Some(())
    }

    /// Copies a member's name and the colon. Gives the paths that go on through it.
    fn name(&mut self, depth: usize, active: u32) -> Option<u32> {
        let start = self.cursor.at;
        let plain = self.cursor.string()?;
        let raw = &self.cursor.text[start..self.cursor.at];
        self.out.push_str(raw);
        self.out.push(':');
        self.cursor.space();
        self.cursor.expect(b':')?;
        self.cursor.space();
        let name = decode(raw, plain);
        Some(name.map_or(0, |name| {
            self.pointers
                .narrow(active, depth, |step| step.is_member(&name))
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_out_leaves_the_rest_as_it_stands() {
        let without = |paths: &[&str], text: &str| {
            let mut pointers = Pointers::default();
            paths.iter().for_each(|path| drop(pointers.add(path)));
            pointers.without(text)
        };
        for (paths, text, expected) in [
            (&["a"][..], r#"{"a":1,"b":2}"#, Some(r#"{"b":2}"#)),
            (&["b"], r#"{ "a" : 1 , "b" : [2] }"#, Some(r#"{"a":1}"#)),
            (&["a"], r#"{"a":1}"#, Some("{}")),
            (
                &["a", "b"],
                r#"{"a":1,"c":{ "a": 1 },"b":2}"#,
                Some(r#"{"c":{ "a": 1 }}"#),
            ),
            (
                &["a[].n", "a[].m"],
                r#"{"a":[{"n":1,"x":1},{"m":2}]}"#,
                Some(r#"{"a":[{"x":1},{}]}"#),
            ),
            (&["a[0]"], r#"{"a":[1,2,3]}"#, Some(r#"{"a":[2,3]}"#)),
            (&["a", "a.b"], r#"{"a":{"b":1}}"#, Some("{}")),
            (&["none"], r#"[1, 2]"#, Some("[1,2]")),
            (&["a"], r#"{"a":1,}"#, None),
            (&["a"], r#"{"a":1"#, None),
            (&["a"], "text", None),
        ] {
            assert_eq!(
                without(paths, text).as_deref(),
                expected,
                "{paths:?} {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn without_nothing_any_json_means_the_same(text in r#"[\[\]{}",:0-9eE+\-.ntrufalse\\ ]{0,24}"#) {
            let without = Pointers::default().without(&text).map(|kept| serde_json::from_str::<serde_json::Value>(&kept).unwrap());
            prop_assert_eq!(without, serde_json::from_str::<serde_json::Value>(&text).ok());
        }
    }
}
