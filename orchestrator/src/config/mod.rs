//! `exhibit.toml`: which bucket, which accounts, which agent, which key.

mod check;
mod sections;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evidence::Exit;
use serde::Deserialize;

use crate::failure::Failure;
pub(crate) use check::{region, region_of_key};
pub use sections::Credentials;
pub(crate) use sections::{Account, Agent, Collect, Cost, Evidence, Forensic, Seal};

/// Name of the file, in the current directory unless `--config` says otherwise.
pub(crate) const FILE: &str = "exhibit.toml";

/// What `exhibit init` writes: every setting, with its meaning.
pub(crate) const TEMPLATE: &str = include_str!("exhibit.toml");

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Folder of the journals, seen from the file.
    #[serde(default = "cases")]
    pub(crate) cases: PathBuf,
    pub(crate) evidence: Evidence,
    pub(crate) agent: Agent,
    #[serde(default)]
    pub(crate) collect: Collect,
    #[serde(default)]
    pub(crate) seal: Seal,
    /// Prices for the estimate of `doctor`; without them it gives quantities.
    pub(crate) cost: Option<Cost>,
    /// Where copies of disks go; `exhibit snapshot` needs it.
    pub(crate) forensic: Option<Forensic>,
    /// Accounts with suspects, by the name that `--account` takes.
    pub(crate) accounts: BTreeMap<String, Account>,
}

fn cases() -> PathBuf {
    PathBuf::from("cases")
}

impl Config {
    /// Reads `path`; relative paths in it are seen from its folder.
    ///
    /// # Errors
    /// When it is not there, or a value in it can not be used: the message names it.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!(
                "{shown} can not be read: {error}; `exhibit init` writes one with comments"
            ))
        })?;
        let mut config =
            Self::parse(&text).map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.cases = folder.join(&config.cases);
        for file in [
            &mut config.seal.key_file,
            &mut config.seal.ssh_key,
            &mut config.seal.trusted_key,
            &mut config.seal.timestamp_certificates,
            &mut config.agent.module_store,
            &mut config.agent.module_key,
        ] {
            *file = file.take().map(|file| folder.join(file));
        }
        Ok(config)
    }

    /// Reads the text of a configuration.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        check::check(&config)?;
        Ok(config)
    }

    /// The account that gets copies of disks.
    ///
    /// # Errors
    /// When the configuration names none.
    pub(crate) fn forensic(&self) -> Result<&Forensic, Failure> {
        self.forensic.as_ref().ok_or_else(|| {
            Failure::usage("the configuration names no account for copies of disks: add [forensic], as `exhibit init` writes it")
        })
    }

    /// The account of this name, or the only one.
    ///
    /// # Errors
    /// When there is none, or the choice is open.
    pub(crate) fn account(&self, name: Option<&str>) -> Result<(&str, &Account), Failure> {
        let names = || {
            self.accounts
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match name {
            Some(name) => self
                .accounts
                .get_key_value(name)
                .map(|(name, account)| (name.as_str(), account))
                .ok_or_else(|| {
                    Failure::usage(format!(
                        "there is no account {name:?} in the configuration; there are {}",
                        names()
                    ))
                }),
            None => match self.accounts.iter().next() {
                Some((name, account)) if self.accounts.len() == 1 => Ok((name, account)),
                _ => Err(Failure::usage(format!(
                    "say which account with --account: {}",
                    names()
                ))),
            },
        }
    }

    /// The folder of a case's journal.
    pub(crate) fn case_folder(&self, case: &evidence::CaseId) -> PathBuf {
        self.cases.join(case.to_string())
    }

    /// The key in the bucket for a path below the evidence prefix.
    pub(crate) fn key(&self, path: &str) -> String {
        match self.evidence.prefix.as_str() {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        }
    }
}

/// Writes the template, and never over a file that is there.
///
/// # Errors
/// When there is one, or the folder can not be written.
pub(crate) fn init(path: &Path) -> Result<(), Failure> {
    use std::io::Write as _;
    let shown = path.display();
    let mut file = std::fs::File::create_new(path).map_err(|error| {
        Failure::new(Exit::Target, format!("{shown} can not be written: {error}"))
    })?;
    file.write_all(TEMPLATE.as_bytes())
        .map_err(|error| Failure::new(Exit::Target, format!("{shown} can not be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_configuration() {
        let config = Config::parse(TEMPLATE).unwrap();
        assert_eq!(config.account(None).unwrap().0, "production");
        assert_eq!(config.collect.document, Collect::default().document);
    }

    #[test]
    fn prices_are_optional_and_all_or_none() {
        assert!(Config::parse(TEMPLATE).unwrap().cost.is_none());
        let text = TEMPLATE.replace("# [cost]", "[cost]");
        assert!(Config::parse(&text).unwrap_err().contains("currency"));
    }
}
