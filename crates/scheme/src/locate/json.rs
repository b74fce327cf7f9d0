//! Which values of a JSON text are looked for, and those that were found. `scan` finds them.

use std::borrow::Cow;

use crate::locate::path::{self, Step};

/// Paths in one set. The bound is that each is one bit of the active mask.
const PATHS_MAX: usize = 32;

/// Which member of the outermost object is meant, if its name itself is the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `*` at either end stands for any run.
    Like {
        start: String,
        end: String,
        whole: bool,
    },
    At(usize),
}

/// A set of places to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pointers {
    pub(super) paths: Vec<Vec<Step>>,
    /// One bit for each path whose value is wanted as it is written: containers too, and strings
    /// with their quotes.
    pub(super) raw: u32,
    pub(super) names: Vec<Name>,
}

/// What was found, by the indices that `Pointers` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(super) values: Vec<Option<Cow<'a, str>>>,
    pub(super) names: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Found<'a> {
    /// The value at the path of this index. None if there is none, or if it is null.
    pub(crate) fn value(&self, index: usize) -> Option<&Cow<'a, str>> {
        self.values.get(index)?.as_ref()
    }

    /// The name of the member of this index.
    pub(crate) fn name(&self, index: usize) -> Option<&Cow<'a, str>> {
        self.names.get(index)?.as_ref()
    }
}

impl Pointers {
    /// Whether nothing is looked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.names.is_empty()
    }

    /// Adds `a.b[0].c`, `a[].b` or a JSON Pointer, `/a/b/0/c`; equal paths share an index.
    pub(crate) fn add(&mut self, text: &str) -> Result<usize, String> {
        self.add_path(text, false)
    }

    /// Like `add`, for a value of any kind as it is written.
    pub(crate) fn add_raw(&mut self, text: &str) -> Result<usize, String> {
        self.add_path(text, true)
    }

    fn add_path(&mut self, text: &str, raw: bool) -> Result<usize, String> {
        let path = path::parse(text)?;
        if raw && path.contains(&Step::Each) {
            return Err(format!("raw:{text} is of many parts: name one"));
        }
        let known = |(index, known): &(usize, &Vec<Step>)| {
            **known == path && (self.raw & 1 << index != 0) == raw
        };
        if let Some((index, _)) = self.paths.iter().enumerate().find(known) {
            return Ok(index);
        }
        if self.paths.len() == PATHS_MAX {
            return Err(format!("more than {PATHS_MAX} places in one body"));
        }
        self.raw |= u32::from(raw) << self.paths.len();
        self.paths.push(path);
        Ok(self.paths.len() - 1)
    }

    /// Adds the name of a member of the outermost object: `GLOB`, the first that fits it, or `[1]`,
    /// the one at that place.
    pub(crate) fn add_name(&mut self, text: &str) -> Result<usize, String> {
        let wrong = || {
            format!(
                "member:{text}: write a name, one with * at its start or end, or a place as [1]"
            )
        };
        let name = match text.strip_prefix('[') {
            Some(index) => Name::At(
                index
                    .strip_suffix(']')
                    .and_then(|index| index.parse().ok())
                    .ok_or_else(wrong)?,
            ),
            None => {
                let (start, end) = text.split_once('*').unwrap_or((text, ""));
                if end.contains('*') {
                    return Err(wrong());
                }
                Name::Like {
                    start: start.into(),
                    end: end.into(),
                    whole: !text.contains('*'),
                }
            }
        };
        if self.names.len() == PATHS_MAX {
            return Err(format!("more than {PATHS_MAX} names in one body"));
        }
        self.names.push(name);
        Ok(self.names.len() - 1)
    }

    /// Whether this path names a value in each element of some list.
    pub(crate) fn is_of_list(&self, index: usize) -> bool {
        self.paths
            .get(index)
            .is_some_and(|path| path.contains(&Step::Each))
    }

    /// One bit for each path.
    pub(crate) fn all(&self) -> u32 {
        u32::MAX
            .checked_shr(32 - self.paths.len() as u32)
            .unwrap_or(0)
    }

    /// Whether one of the active paths ends here.
    pub(crate) fn ends(&self, active: u32, depth: usize) -> bool {
        bits(active).any(|path| self.paths[path].len() == depth)
    }

    /// Those of the active paths whose next step fits.
    pub(crate) fn narrow(&self, active: u32, depth: usize, fits: impl Fn(&Step) -> bool) -> u32 {
        bits(active)
            .filter(|path| self.paths[*path].get(depth).is_some_and(&fits))
            .fold(0, |mask, path| mask | 1 << path)
    }
}

impl Name {
    /// Whether the member at this place and of this name is meant.
    pub(super) fn is(&self, index: usize, name: &str) -> bool {
        match self {
            Self::At(wanted) => *wanted == index,
            Self::Like {
                start, whole: true, ..
            } => name == start,
            Self::Like { start, end, .. } => {
                name.len() >= start.len() + end.len()
                    && name.starts_with(start)
                    && name.ends_with(end)
            }
        }
    }
}

/// The bits that are set, lowest first. Most values of a body are on no path, so an empty mask
/// costs one comparison.
pub(super) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        bit
    })
}
