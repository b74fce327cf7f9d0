//! Circles of imports in one crate. Files in a circle can only be understood together, however
//! far around it they lie; so can folders. What counts is which file uses what another one
//! defines: a name that a module only hands on (`pub use`) is followed to where it is defined,
//! declaring a module is no use of it, and tests may use whatever they like.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{File, Named, parsed};

/// A module's path from the root of its crate; the root's is empty.
type Module = Vec<String>;

/// The circles among the files and folders of a crate: each as a sentence that says where it is.
/// `files` are all of its sources, by their paths from `root`, which the paths start with.
pub fn circles(root: &str, crate_name: &str, files: &[(String, String)]) -> Vec<String> {
    let modules = modules(root, files);
    let edges = edges(crate_name, &modules);
    let folders: BTreeSet<Module> = modules
        .keys()
        .flat_map(|module| (0..=module.len()).map(|length| module[..length].to_vec()))
        .collect();
    folders
        .iter()
        .flat_map(|folder| circles_in(folder, &edges))
        .collect()
}

/// Where an entry of the crate's root uses one that stands above or beside it. `layers` are from
/// the lowest up; what is in none of them is the ground below all.
pub fn upward(
    root: &str,
    crate_name: &str,
    files: &[(String, String)],
    layers: &[&[&str]],
) -> Vec<String> {
    let layer = |module: &Module| {
        let entry = entry(&Vec::new(), module)?;
        Some((
            layers
                .iter()
                .position(|entries| entries.contains(&entry.as_str())),
            entry,
        ))
    };
    let fault = |(from, to): &(Module, Module)| {
        let ((own, from_entry), (theirs, to_entry)) = (layer(from)?, layer(to)?);
        let is_wrong = from_entry != to_entry && theirs.is_some() && theirs >= own;
        is_wrong.then(|| {
            format!(
                "{} uses {}, which is not below it",
                from.join("::"),
                to.join("::")
            )
        })
    };
    edges(crate_name, &modules(root, files))
        .iter()
        .filter_map(fault)
        .collect()
}

fn modules(root: &str, files: &[(String, String)]) -> BTreeMap<Module, File> {
    let module = |(path, text): &(String, String)| {
        Some((module_of(path.strip_prefix(root)?)?, parsed(text)))
    };
    let mut modules: BTreeMap<Module, File> = files.iter().filter_map(module).collect();
    without_tests(&mut modules);
    modules
}

/// `/a/b.rs` and `/a/b/mod.rs` → a, b. None for what is no module.
fn module_of(path: &str) -> Option<Module> {
    let mut parts: Module = path
        .strip_suffix(".rs")?
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    Some(parts)
}

fn without_tests(modules: &mut BTreeMap<Module, File>) {
    let declared: Vec<Module> = modules
        .iter()
        .flat_map(|(module, file)| {
            file.tests
                .iter()
                .map(|name| [module.as_slice(), std::slice::from_ref(name)].concat())
        })
        .collect();
    let is_test = |module: &Module| {
        let named = module
            .iter()
            .any(|part| part == "tests" || part.ends_with("_tests"));
        named || declared.iter().any(|tests| module.starts_with(tests))
    };
    modules.retain(|module, _| !is_test(module));
}

/// Who uses whom.
fn edges(crate_name: &str, modules: &BTreeMap<Module, File>) -> BTreeSet<(Module, Module)> {
    let mut edges = BTreeSet::new();
    for (module, file) in modules {
        for named in &file.named {
            let own = [module.as_slice(), &named.inside].concat();
            let Some(path) = absolute(crate_name, modules, module, &own, &named.path) else {
                continue;
            };
            let used = named
                .alias
                .as_ref()
                .is_none_or(|alias| file.words.contains(alias));
            if named.is_handed_on && path.starts_with(module) && !used {
                continue;
            }
            let to = definer(crate_name, modules, &path, 0);
            if to != *module {
                edges.insert((module.clone(), to));
            }
        }
    }
    edges
}

/// The path from the crate's root; None for what is of another crate, or a local name.
fn absolute(
    crate_name: &str,
    modules: &BTreeMap<Module, File>,
    file: &Module,
    own: &Module,
    path: &[String],
) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" => own.clone(),
        "super" => own[..own.len().checked_sub(1)?].to_vec(),
        name if name == crate_name => Vec::new(),
        name => {
            let child = [own.as_slice(), &[name.to_owned()]].concat();
            if modules.keys().any(|module| module.starts_with(&child)) {
                child
            } else {
                let imported =
                    |named: &&Named| named.alias.as_deref() == Some(name) && named.path.len() > 1;
                let named = modules[file].named.iter().find(imported)?;
                let from = [file.as_slice(), &named.inside].concat();
                (named.path[0] != name)
                    .then(|| absolute(crate_name, modules, file, &from, &named.path))??
            }
        }
    };
    for part in rest {
        if part == "super" {
            base.pop();
        } else {
            base.push(part.clone());
        }
    }
    Some(base)
}

/// The module in whose file this is defined, behind all that hand it on.
fn definer(
    crate_name: &str,
    modules: &BTreeMap<Module, File>,
    path: &[String],
    hops: usize,
) -> Module {
    let length = (0..=path.len())
        .rev()
        .find(|length| modules.contains_key(&path[..*length]))
        .unwrap_or(0);
    let (module, rest) = path.split_at(length);
    let module = module.to_vec();
    let handed_on = rest.first().and_then(|name| {
        let is_it = |named: &&Named| named.is_handed_on && named.alias.as_ref() == Some(name);
        let named = modules.get(&module)?.named.iter().find(is_it)?;
        absolute(crate_name, modules, &module, &module, &named.path)
    });
    match handed_on {
        Some(path) if hops < 8 => definer(
            crate_name,
            modules,
            &[path.as_slice(), &rest[1..]].concat(),
            hops + 1,
        ),
        _ => module,
    }
}

/// What a module is in a folder: a file, an inner folder, or the folder's own file.
fn entry(folder: &Module, module: &Module) -> Option<String> {
    let rest = module.strip_prefix(folder.as_slice())?;
    Some(rest.first().cloned().unwrap_or_else(|| "mod".to_owned()))
}

/// By entry the entries that it uses, each with an example.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// The circles among the entries of one folder: of each knot of them its members and one way round.
fn circles_in(folder: &Module, edges: &BTreeSet<(Module, Module)>) -> Vec<String> {
    let called = |module: &Module| {
        if module.is_empty() {
            "the root".to_owned()
        } else {
            module.join("::")
        }
    };
    let mut uses = Uses::new();
    for (from, to) in edges {
        let (Some(a), Some(b)) = (entry(folder, from), entry(folder, to)) else {
            continue;
        };
        if a != b {
            let example = format!("{} uses {}", called(from), called(to));
            uses.entry(a).or_default().entry(b).or_insert(example);
        }
    }
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for start in uses.keys() {
        let knot: BTreeSet<String> = reached(&uses, start)
            .into_iter()
            .filter(|other| reached(&uses, other).contains(start))
            .collect();
        let Some(way) = way_back(&uses, start).filter(|_| told.is_disjoint(&knot)) else {
            continue;
        };
        let steps = way
            .iter()
            .zip(way.iter().cycle().skip(1))
            .map(|(a, b)| uses[a][b].as_str());
        let (members, steps) = (
            knot.iter().map(String::as_str),
            steps.collect::<Vec<_>>().join(", "),
        );
        let members = members.collect::<Vec<_>>().join(", ");
        found.push(format!(
            "a circle of {members} in {}/: {steps}",
            folder.join("/")
        ));
        told.extend(knot);
    }
    found
}

/// The entries that one uses, however far away.
fn reached(uses: &Uses, start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![start.to_owned()];
    while let Some(entry) = open.pop() {
        let next = uses.get(&entry).into_iter().flat_map(BTreeMap::keys);
        open.extend(next.filter(|next| found.insert((*next).clone())).cloned());
    }
    found
}

/// The shortest way from an entry back to itself.
fn way_back(uses: &Uses, start: &str) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<String>> = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in uses.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: (&str, &str) = ("lib.rs", "mod a; mod b; pub use b::B;");

    fn sources(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files
            .iter()
            .map(|(path, text)| (format!("src/{path}"), (*text).to_owned()))
            .collect()
    }

    fn found(files: &[(&str, &str)]) -> usize {
        circles("src", "own", &sources(files)).len()
    }

    #[test]
    fn two_files_that_use_each_other_are_seen() {
        let two = |a: &str, b: &str| found(&[LIB, ("a.rs", a), ("b.rs", b)]);
        assert_eq!(two("use crate::b::B;", "pub struct B;"), 0);
        assert_eq!(two("use crate::b::B;", "use super::a::{self};"), 1);
        assert_eq!(
            two(
                "use own::b; fn f() { b::g() }",
                "pub fn g() { own::a::f() }"
            ),
            1
        );
        // Through a name that the root hands on.
        assert_eq!(
            two("fn f() { crate::B::g() }", "fn g() { super::a::f() }"),
            1
        );
        assert_eq!(two("use crate::{B};", "fn g() { crate::a::f() }"), 1);
    }

    #[test]
    fn circles_inside_a_folder_are_seen() {
        let x = ("a/x.rs", "use super::y::Y;");
        let (y, z) = (
            ("a/y.rs", "use super::z::Z;"),
            ("a/z.rs", "use crate::a::x::X;"),
        );
        assert_eq!(
            found(&[("lib.rs", "mod a;"), ("a/mod.rs", "mod x;"), x, y, z]),
            1
        );
        // Between the folder's own file and what is in it.
        let in_folder = |own: &str| {
            found(&[
                ("lib.rs", "mod a;"),
                ("a.rs", own),
                ("a/x.rs", "use super::f;"),
            ])
        };
        assert_eq!(in_folder("mod x; fn f() { x::g() }"), 1);
        assert_eq!(in_folder("mod x; pub fn f() {}"), 0);
    }

    #[test]
    fn circles_of_folders_are_seen_where_their_files_form_none() {
        let (x, y) = (
            ("a/x.rs", "use crate::b::x::X;"),
            ("b/y.rs", "use crate::a::y::Y;"),
        );
        assert_eq!(
            found(&[
                ("lib.rs", "mod a; mod b;"),
                x,
                ("b/x.rs", ""),
                y,
                ("a/y.rs", "")
            ]),
            1
        );
    }

    #[test]
    fn tests_comments_and_texts_are_no_use() {
        let quiet = "// crate::a\nconst T: &str = \"crate::a::f\";\n#[cfg(test)]\nmod tests { use crate::a::f; }";
        assert_eq!(
            found(&[LIB, ("a.rs", "use crate::b::B;"), ("b.rs", quiet)]),
            0
        );
        let declared = ("lib.rs", "#[cfg(test)] mod t;");
        assert_eq!(
            found(&[
                declared,
                ("a.rs", "use crate::t::T;"),
                ("t.rs", "use crate::a::f;")
            ]),
            0
        );
    }

    #[test]
    fn a_use_of_what_stands_above_or_beside_is_seen() {
        let faults = |text: &str| {
            let files = sources(&[
                ("lib.rs", "mod a; mod b; mod ground;"),
                ("a.rs", text),
                ("b.rs", ""),
                ("ground.rs", ""),
            ]);
            let layers = |layers: &[&[&str]]| upward("src", "own", &files, layers).len();
            (
                layers(&[&["a"], &["b"]]),
                layers(&[&["a", "b"]]),
                layers(&[&["b"], &["a"]]),
            )
        };
        assert_eq!(faults("use crate::b::B;"), (1, 1, 0));
        assert_eq!(faults("use crate::ground::G;"), (0, 0, 0));
    }
}
