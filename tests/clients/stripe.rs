//! Stripe's own libraries against an API behind a gateway: each is a script that is that API and
//! calls it through the gateway.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Failed;

use super::{
    NODE_VERSION, PYTHON_VERSION, against_service, has, once, root, run, tool, work_folder,
};

/// The gateways, one for each library.
const GATEWAYS: [&str; 2] = ["stripe-python", "stripe-node"];
const FOLDER: &str = "tests/clients/stripe";

/// A gateway's name, its port and that of the API behind it.
pub type Place = (&'static str, u16, u16);

pub fn places(free_port: impl Fn() -> u16) -> [Place; 2] {
    GATEWAYS.map(|name| (name, free_port(), free_port()))
}

/// Repeats don't wait, so that a library sees that the first is on its way.
pub fn config(places: &[Place]) -> String {
    places
        .iter()
        .map(|(name, bind, upstream)| {
            format!(
                "[gateways.{name}]\nbind = \"127.0.0.1:{bind}\"\nupstream = \"http://127.0.0.1:{upstream}\"\nwait = \"0s\"\n"
            )
        })
        .collect()
}

pub fn description(places: &[Place]) -> serde_json::Map<String, serde_json::Value> {
    let of = |(name, bind, upstream): &Place| {
        let url = format!("http://127.0.0.1:{bind}");
        (
            (*name).to_owned(),
            serde_json::json!({ "url": url, "upstream_port": upstream }),
        )
    };
    places.iter().map(of).collect()
}

/// A virtual environment with the library.
pub fn python() -> Result<PathBuf, String> {
    has("python3", &["-c", PYTHON_VERSION])?;
    let folder = work_folder().join("stripe-python");
    let program = folder.join("venv/bin/python");
    let file = format!("{FOLDER}/requirements.txt");
    once(&folder, &[&file], || {
        run(tool("python3", &["-m", "venv", "venv"]).current_dir(&folder))?;
        let wanted = root().join(&file);
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ];
        run(tool(&program, &install).arg(wanted)).map(drop)
    })?;
    Ok(program)
}

pub fn in_python(program: &Path) -> Result<(), Failed> {
    against_service(tool(program, &["stripe_python.py"]).current_dir(root().join(FOLDER)))
}

/// A folder with the script and its library beside it, where Node looks for one.
pub fn node() -> Result<PathBuf, String> {
    has("node", &["-e", NODE_VERSION])?;
    has("npm", &["--version"])?;
    let (from, to) = (root().join(FOLDER), work_folder().join("stripe-node"));
    let copy = |name: &str| {
        fs::copy(from.join(name), to.join(name))
            .map(drop)
            .map_err(|error| format!("{name}: {error}"))
    };
    let named = ["package.json", "package-lock.json", ".npmrc"];
    let files = named.map(|name| format!("{FOLDER}/{name}"));
    once(&to, &files.each_ref().map(String::as_str), || {
        named.iter().try_for_each(|name| copy(name))?;
        run(tool("npm", &["ci", "--ignore-scripts"]).current_dir(&to)).map(drop)
    })?;
    copy("stripe_node.mjs")?;
    Ok(to)
}

pub fn in_node(folder: &Path) -> Result<(), Failed> {
    against_service(tool("node", &["stripe_node.mjs"]).current_dir(folder))
}
