//! A path into a JSON text, step by step: `a.b[0].c`, `a[].b`, or a JSON Pointer (RFC 6901). Looks
//! into no text itself.

use crate::locate::cursor::DEPTH_MAX;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Member(String),
    Index(usize),
    Each,
    /// A number in a JSON Pointer (RFC 6901): an index of a list, a name in an object.
    Either(usize),
}

/// Reads a path; the error names what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let path = match text.strip_prefix('/') {
        Some(pointer) => parse_pointer(pointer),
        None => parse_dotted(text)?,
    };
    if path.len() >= DEPTH_MAX {
        return Err(format!("body:{text} is deeper than {DEPTH_MAX}"));
    }
    Ok(path)
}

/// Reads a JSON Pointer (RFC 6901) without its leading slash.
fn parse_pointer(text: &str) -> Vec<Step> {
    let step = |segment: &str| match segment.parse() {
        Ok(index) if segment == "0" || !segment.starts_with(['0', '+']) => Step::Either(index),
        _ => Step::Member(segment.replace("~1", "/").replace("~0", "~")),
    };
    text.split('/').map(step).collect()
}

fn parse_dotted(text: &str) -> Result<Vec<Step>, String> {
    let mut path = Vec::new();
    for segment in text.split('.') {
        let (name, mut brackets) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
        if !name.is_empty() {
            path.push(Step::Member(name.into()));
        } else if brackets.is_empty() || !path.is_empty() {
            return Err(format!("body:{text} has an empty name"));
        }
        while !brackets.is_empty() {
            let (inside, rest) = brackets
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .ok_or_else(|| format!("body:{text}: write [] for each element or [0] for one"))?;
            path.push(match inside {
                "" => Step::Each,
                index => Step::Index(
                    index
                        .parse()
                        .map_err(|_| format!("body:{text}: [{index}] is no index"))?,
                ),
            });
            brackets = rest;
        }
    }
    Ok(path)
}

impl Step {
    /// Whether it leads to a member of this name.
    pub(crate) fn is_member(&self, name: &str) -> bool {
        match self {
            Self::Member(wanted) => wanted == name,
            Self::Either(index) => index.to_string() == name,
            Self::Index(_) | Self::Each => false,
        }
    }

    /// Whether it leads to the element at this place.
    pub(crate) fn is_element(&self, index: usize) -> bool {
        match self {
            Self::Index(wanted) | Self::Either(wanted) => *wanted == index,
            Self::Each => true,
            Self::Member(_) => false,
        }
    }
}
