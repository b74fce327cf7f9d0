//! What a file of Rust names: its imports and the paths in its code. A reading of its words alone,
//! good enough for code that compiles.

use std::collections::BTreeSet;

use crate::{code_only, is_word};

/// A path in the code, and whether it is handed on as a name of the module itself.
pub struct Named {
    pub path: Vec<String>,
    /// What it is called here, where it is imported.
    pub alias: Option<String>,
    pub is_handed_on: bool,
    /// The module that `self` is at this place; another than the file's in a module in braces.
    pub inside: Vec<String>,
}

pub struct File {
    pub named: Vec<Named>,
    /// All words outside of imports.
    pub words: BTreeSet<String>,
    /// Modules that are compiled for tests alone.
    pub tests: Vec<String>,
}

/// Names, `::` and single characters.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let length = match chars[at] {
            c if is_word(c) => chars[at..].iter().take_while(|c| is_word(**c)).count(),
            ':' if chars.get(at + 1) == Some(&':') => 2,
            _ => 1,
        };
        if !chars[at].is_whitespace() {
            found.push(chars[at..at + length].iter().collect());
        }
        at += length;
    }
    found
}

fn is_at(tokens: &[String], at: usize, expected: &[&str]) -> bool {
    tokens
        .get(at..at + expected.len())
        .is_some_and(|found| found.iter().eq(expected))
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where the bracket that opens here is closed, one behind.
fn closed(tokens: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The end of the item that starts here, with its attributes.
fn item_end(tokens: &[String], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => return closed(tokens, at),
            "(" | "[" => at = closed(tokens, at),
            ";" => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// What a file of Rust names, but for its tests.
pub fn parsed(text: &str) -> File {
    let tokens = tokens(&code_only(text));
    let mut file = File {
        named: Vec::new(),
        words: BTreeSet::new(),
        tests: Vec::new(),
    };
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        inside.retain(|(_, end)| at < *end);
        let module: Vec<String> = inside.iter().map(|(name, _)| name.clone()).collect();
        if is_at(&tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            let end = item_end(&tokens, at + 7);
            file.tests.extend(
                (at..end)
                    .find(|at| is_at(&tokens, *at, &["mod"]))
                    .map(|at| tokens[at + 1].clone()),
            );
            at = end;
        } else if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<") {
            let end = item_end_of_use(&tokens, at);
            let is_handed_on = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
            let mut names = |path: Vec<String>, alias: Option<String>| {
                file.named.push(Named {
                    path,
                    alias,
                    is_handed_on,
                    inside: module.clone(),
                });
            };
            tree(&tokens[at + 1..end], &[], &mut names);
            at = end;
        } else if tokens[at] == "mod" && tokens.get(at + 2).is_some_and(|next| next == "{") {
            inside.push((tokens[at + 1].clone(), closed(&tokens, at + 2)));
            at += 3;
        } else if is_name(&tokens[at]) {
            let mut path = vec![tokens[at].clone()];
            while is_at(&tokens, at + 1, &["::"])
                && tokens.get(at + 2).is_some_and(|next| is_name(next))
            {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            file.words.extend(path.first().cloned());
            if path.len() > 1 {
                file.named.push(Named {
                    path,
                    alias: None,
                    is_handed_on: false,
                    inside: module,
                });
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    file
}

fn item_end_of_use(tokens: &[String], at: usize) -> usize {
    (at..tokens.len())
        .find(|at| tokens[*at] == ";")
        .unwrap_or(tokens.len())
}

/// The paths of a `use` tree: `a::{b, c as d}` → a::b, a::c (as d).
fn tree(tokens: &[String], before: &[String], names: &mut impl FnMut(Vec<String>, Option<String>)) {
    let mut path = before.to_vec();
    let mut alias = None;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                let end = closed(tokens, at);
                let inner = &tokens[at + 1..end - 1];
                split(inner)
                    .into_iter()
                    .for_each(|part| tree(part, &path, names));
                return;
            }
            "as" => {
                alias = tokens.get(at + 1).cloned();
                at += 1;
            }
            "self" if !path.is_empty() => {}
            name if is_name(name) || name == "*" => path.push(name.to_owned()),
            _ => {}
        }
        at += 1;
    }
    let alias = alias.or_else(|| path.last().cloned());
    names(path, alias);
}

/// The parts between commas that are in no inner braces.
fn split(tokens: &[String]) -> Vec<&[String]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => at = closed(tokens, at),
            "," => {
                parts.push(&tokens[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}
