//! Kernels against the module store: which releases have a LiME module that the responder's key has signed.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::{Light, Table};
use crate::aws::inventory::Kernels;
use crate::config::Config;
use crate::failure::Failure;
use crate::seal;

/// Longest index that is read, in bytes: a row has some 400.
const MAX_INDEX: u64 = 16 << 20;

/// The releases that have a module.
#[derive(Clone, Debug, Default)]
pub(super) struct Modules(BTreeSet<String>);

/// `index.json` of packaging/lime, as far as it is needed here.
#[derive(Deserialize)]
struct Index {
    index_version: u32,
    modules: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    release: String,
}

/// The store of the configuration, and its line; `None` when there is none that counts.
pub(super) fn store(config: &Config, table: &mut Table) -> Option<Modules> {
    let agent = &config.agent;
    let (store, key) = (agent.module_store.as_ref()?, agent.module_key.as_ref()?);
    match read(store, key) {
        Ok(modules) => {
            table.good(
                "module store",
                format!("{} kernels, signed", modules.0.len()),
            );
            Some(modules)
        }
        Err(why) => {
            let to_do = "build and sign the store again (packaging/lime/); do not use one whose signature is wrong";
            table.add(Light::Red, "module store", why, to_do);
            None
        }
    }
}

fn read(store: &Path, key: &Path) -> Result<Modules, Failure> {
    let key = seal::public_key_of(key)?;
    let index = bytes(&store.join("index.json"))?;
    let signature = bytes(&store.join("index.json.sig"))?;
    let named = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("{}: {why}", store.join("index.json").display()))
    };
    key.verify(&index, &signature)
        .map_err(|error| named(&error))?;
    parse(&index).map_err(|why| named(&why))
}

fn parse(index: &[u8]) -> Result<Modules, String> {
    let index: Index = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    match index.index_version {
        1 => Ok(Modules(
            index.modules.into_iter().map(|row| row.release).collect(),
        )),
        other => Err(format!("index_version {other} is not known")),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| unreadable(&error))?
        .len();
    if length > MAX_INDEX {
        return Err(unreadable(&"is too long"));
    }
    std::fs::read(path).map_err(|error| unreadable(&error))
}

/// The line of an instance. Which kernel runs, and how much memory is free, AWS does not know: only what is installed,
/// and that only where the inventory is on.
pub(super) fn line(
    what: &str,
    kernels: &Kernels,
    modules: Option<&Modules>,
    ask: &str,
    table: &mut Table,
) {
    if kernels.releases.is_empty() {
        return table.add(
            Light::Amber,
            what,
            "not known from outside: SSM's inventory has no kernel of it",
            ask,
        );
    }
    let installed = format!(
        "installed, says the inventory of {}: {}",
        kernels.told,
        kernels.releases.join(", ")
    );
    let Some(modules) = modules else {
        return table.add(
            Light::Amber,
            what,
            format!("{installed}; there is no agent.module_store to compare with"),
            ask,
        );
    };
    let missing: Vec<&str> = kernels
        .releases
        .iter()
        .map(String::as_str)
        .filter(|release| !modules.0.contains(*release))
        .collect();
    match missing.as_slice() {
        [] => table.good(what, format!("{installed}; each has a module")),
        missing => table.add(
            Light::Amber,
            what,
            format!("{installed}; no module for {}", missing.join(", ")),
            &format!("build it (packaging/lime/), or rely on /proc/kcore: {ask}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn light(installed: &[&str], modules: Option<&[&str]>) -> (Light, String) {
        let kernels = Kernels {
            releases: installed.iter().map(ToString::to_string).collect(),
            told: "2026-01-01T00:00:00Z".into(),
        };
        let modules =
            modules.map(|releases| Modules(releases.iter().map(ToString::to_string).collect()));
        let mut table = Table::default();
        line(
            "kernel",
            &kernels,
            modules.as_ref(),
            "ask the host",
            &mut table,
        );
        let check = table.0.remove(0);
        (check.light, check.found)
    }

    #[test]
    fn only_a_module_for_each_installed_kernel_is_green() {
        assert_eq!(light(&[], Some(&["1"])).0, Light::Amber);
        assert_eq!(light(&["1"], None).0, Light::Amber);
        assert_eq!(light(&["1"], Some(&["1", "2"])).0, Light::Green);
        let (colour, found) = light(&["1", "3"], Some(&["1", "2"]));
        assert_eq!(colour, Light::Amber);
        assert!(found.ends_with("no module for 3"), "{found}");
    }

    #[test]
    fn an_index_of_another_version_is_no_index() {
        let index = |version| {
            let text = format!(
                r#"{{"index_version":{version},"modules":[{{"release":"6.1.0-56-amd64","sha256":"00"}}]}}"#
            );
            parse(text.as_bytes())
        };
        assert!(index(1).unwrap().0.contains("6.1.0-56-amd64"));
        assert!(index(2).unwrap_err().contains("index_version 2"));
        assert!(parse(b"{").is_err());
    }
}
