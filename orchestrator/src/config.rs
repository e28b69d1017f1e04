//! `exhibit.toml`: which bucket, which accounts, which agent, which key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evidence::Exit;
use evidence::digest::Digest;
use serde::Deserialize;

use crate::failure::Failure;

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

/// The bucket that takes the evidence.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    pub(crate) bucket: String,
    #[serde(default)]
    pub(crate) prefix: String,
    pub(crate) region: String,
    /// Account that owns it; a request to another's bucket of the same name is refused.
    pub(crate) account: String,
    /// Role that reads, seals and keeps the custody records; without it the caller's own credentials do.
    pub(crate) role: Option<String>,
    /// Role of which each suspect gets a put-only session.
    pub(crate) collector_role: Option<String>,
    /// Days that an object has to be locked for, from the seal on.
    #[serde(default = "retention_days")]
    pub(crate) retention_days: u32,
}

/// The agent that a suspect has to run, and nothing else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    /// SHA-256 of the released binary.
    pub(crate) sha256: Digest,
    /// Other releases that `verify` accepts.
    #[serde(default)]
    pub(crate) also_released: Vec<Digest>,
    /// Absolute path in the image, or `https://` address.
    pub(crate) source: String,
    /// A copy of the store that `packaging/lime/build` made, and the public key of who signed it: `doctor` compares
    /// kernels with it.
    pub(crate) module_store: Option<PathBuf>,
    pub(crate) module_key: Option<PathBuf>,
}

/// Prices of the region of the evidence, in one currency. They change, so there are none here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    /// Its name, as it is printed.
    pub(crate) currency: String,
    /// A GiB in the bucket for a month.
    pub(crate) s3_gib_month: f64,
    /// A thousand PUT requests.
    pub(crate) s3_thousand_puts: f64,
    /// A GiB of snapshots for a month.
    pub(crate) snapshot_gib_month: f64,
}

/// How collections run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Collect {
    /// Name of the SSM document, and the SHA-256 of its content that SSM has to confirm.
    pub(crate) document: String,
    pub(crate) document_sha256: Option<Digest>,
    /// `session`: a put-only session for each suspect. `instance-role`: what the instance has anyway.
    pub(crate) credentials: Credentials,
    /// Seconds of a session; chained roles get an hour at most.
    pub(crate) session_seconds: u32,
    /// Instances at a time, and failures after which no more are started, as SSM takes them: `50`, `10%`.
    pub(crate) max_concurrency: String,
    pub(crate) max_errors: String,
    /// Seconds that a command may wait for its start, and run; 0: estimated.
    pub(crate) start_within_seconds: u32,
    pub(crate) run_within_seconds: u32,
    /// Seconds between two looks.
    pub(crate) poll_seconds: u64,
    /// Seconds without a new segment after which a run that SSM gave up counts as cut.
    pub(crate) silence_seconds: i64,
    /// More arguments of `exhibit-agent collect`.
    pub(crate) arguments: Vec<String>,
}

/// Where a suspect's credentials come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    #[default]
    Session,
    InstanceRole,
}

/// Who signs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// KMS key: ECC_NIST_P256, SIGN_VERIFY.
    pub(crate) kms_key: Option<String>,
    pub(crate) kms_region: Option<String>,
    /// PEM file with a P-256 private key.
    pub(crate) key_file: Option<PathBuf>,
    /// Public half of a P-256 key in ssh-agent, as in `id_ecdsa.pub`.
    pub(crate) ssh_key: Option<PathBuf>,
    /// Public key that `verify` trusts; without it the key that signs.
    pub(crate) trusted_key: Option<PathBuf>,
    /// Address of an authority for time stamps (RFC 3161); without it a seal has none.
    pub(crate) timestamp_url: Option<String>,
    /// PEM file with the certificates of who issues the authority's: for the command that checks who signed a time stamp.
    pub(crate) timestamp_certificates: Option<PathBuf>,
}

/// The account that gets copies of disks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forensic {
    pub(crate) account: String,
    pub(crate) role: Option<String>,
    pub(crate) region: String,
    /// ARN of the KMS key of the copies.
    pub(crate) key: String,
    /// Lock of the copies.
    #[serde(default)]
    pub(crate) lock_mode: SnapshotLock,
    #[serde(default = "retention_days")]
    pub(crate) lock_days: u32,
    /// Days for which an original is locked, unless its copy is locked before.
    #[serde(default = "original_lock_days")]
    pub(crate) original_lock_days: u32,
}

/// Who can take the lock off a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SnapshotLock {
    /// Whoever may call ec2:UnlockSnapshot.
    #[default]
    Governance,
    /// Nobody.
    Compliance,
}

impl SnapshotLock {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// An account with suspects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) role: Option<String>,
    pub(crate) region: String,
    /// ARN of a KMS key that snapshots under the account's default key get, so that they can be shared.
    pub(crate) snapshot_key: Option<String>,
}

fn cases() -> PathBuf {
    PathBuf::from("cases")
}

fn retention_days() -> u32 {
    365
}

fn original_lock_days() -> u32 {
    30
}

impl Default for Collect {
    fn default() -> Self {
        Self {
            document: "Exhibit-Collect".to_owned(),
            document_sha256: None,
            credentials: Credentials::Session,
            session_seconds: 3600,
            max_concurrency: "50".to_owned(),
            max_errors: "100%".to_owned(),
            start_within_seconds: 600,
            run_within_seconds: 0,
            poll_seconds: 5,
            silence_seconds: 180,
            arguments: Vec::new(),
        }
    }
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
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let accounts = self
            .accounts
            .iter()
            .map(|(name, account)| (format!("accounts.{name}.id"), &account.id));
        let own = std::iter::once(("evidence.account".to_owned(), &self.evidence.account));
        let forensic = self
            .forensic
            .iter()
            .map(|it| ("forensic.account".to_owned(), &it.account));
        for (name, id) in accounts.chain(own).chain(forensic) {
            if id.len() != 12 || !id.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("{name} = {id:?} is not an account id of 12 digits"));
            }
        }
        if self.accounts.is_empty() {
            return Err("there is no account with suspects: add [accounts.<name>]".to_owned());
        }
        if !self.agent.source.starts_with('/') && !self.agent.source.starts_with("https://") {
            let source = &self.agent.source;
            return Err(format!(
                "agent.source = {source:?} is neither an absolute path nor https://"
            ));
        }
        if self.evidence.prefix.split('/').any(|part| part == "..")
            || self.evidence.prefix.starts_with('/')
            || self.evidence.prefix.ends_with('/')
        {
            return Err("evidence.prefix must not start or end with a slash".to_owned());
        }
        let keys = [
            self.seal.kms_key.is_some(),
            self.seal.key_file.is_some(),
            self.seal.ssh_key.is_some(),
        ];
        if keys.into_iter().filter(|given| *given).count() > 1 {
            return Err(
                "[seal] names more than one key: keep one of kms_key, key_file, ssh_key".to_owned(),
            );
        }
        if let Some(address) = &self.seal.timestamp_url {
            web_address(address).map_err(|why| format!("seal.timestamp_url {why}"))?;
        }
        if self.agent.module_store.is_some() != self.agent.module_key.is_some() {
            return Err(
                "agent.module_store and agent.module_key belong together: an index counts only with its signature"
                    .to_owned(),
            );
        }
        for (name, account) in &self.accounts {
            region(&account.region).map_err(|why| format!("accounts.{name}.region: {why}"))?;
        }
        region(&self.evidence.region).map_err(|why| format!("evidence.region: {why}"))?;
        if self.collect.credentials == Credentials::Session
            && self.evidence.collector_role.is_none()
        {
            return Err(
                "collect.credentials = \"session\" needs evidence.collector_role".to_owned(),
            );
        }
        self.check_snapshots()?;
        if !(900..=43_200).contains(&self.collect.session_seconds) {
            return Err("collect.session_seconds must be 900 to 43200".to_owned());
        }
        Ok(())
    }

    fn check_snapshots(&self) -> Result<(), String> {
        // A copy is compared with its key, and EC2 names keys by ARN.
        let keys = self.accounts.iter().filter_map(|(name, account)| {
            Some((
                format!("accounts.{name}.snapshot_key"),
                account.snapshot_key.as_ref()?,
            ))
        });
        let forensic = self
            .forensic
            .iter()
            .map(|it| ("forensic.key".to_owned(), &it.key));
        for (name, key) in keys.chain(forensic) {
            if region_of_key(key).is_none() {
                return Err(format!(
                    "{name} = {key:?} is not the ARN of a key: arn:aws:kms:<region>:<account>:key/<id>"
                ));
            }
        }
        let Some(forensic) = &self.forensic else {
            return Ok(());
        };
        if region_of_key(&forensic.key) != Some(&forensic.region) {
            return Err(format!(
                "forensic.key is of another region than {}",
                forensic.region
            ));
        }
        for (name, days) in [
            ("lock_days", forensic.lock_days),
            ("original_lock_days", forensic.original_lock_days),
        ] {
            if !(1..=36_500).contains(&days) {
                return Err(format!("forensic.{name} must be 1 to 36500"));
            }
        }
        Ok(())
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

/// Whether `text` has the form of a region: `eu-central-1`, `us-gov-west-1`. Whether there is one, only AWS knows.
///
/// # Errors
/// When it has not: the message says so.
pub(crate) fn region(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('-').collect();
    let lower = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let good = match parts.as_slice() {
        [names @ .., number] if (2..=3).contains(&names.len()) => {
            names.iter().all(lower)
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    };
    match good {
        true => Ok(()),
        false => Err(format!("{text:?} is not a region such as eu-central-1")),
    }
}

/// Whether `text` can be asked over HTTP: without credentials, which do not belong in the file.
///
/// # Errors
/// When it can not: the message says so.
fn web_address(text: &str) -> Result<(), String> {
    let rest = ["https://", "http://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next());
    let good = host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match good {
        true => Ok(()),
        false => Err(format!(
            "= {text:?} is no address such as https://tsa.example.org/tsr"
        )),
    }
}

/// The region of a key that is named by its ARN.
pub(crate) fn region_of_key(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "kms", region, _, key] if key.starts_with("key/") => Some(region),
        _ => None,
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
    fn a_region_is_known_by_its_form() {
        for good in ["eu-central-1", "us-gov-west-1", "ap-southeast-10"] {
            region(good).unwrap();
        }
        for bad in [
            "",
            "eu",
            "eu-central",
            "EU-central-1",
            "eu-central-1a",
            "eu-central-1/",
            "a-b-c-d-1",
            "eu--1",
        ] {
            assert!(region(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_for_time_stamps_is_one_of_the_web() {
        for good in [
            "http://127.0.0.1:318",
            "https://tsa.example.org/tsr?x=1",
            "http://[::1]:80/",
        ] {
            web_address(good).unwrap();
        }
        for bad in [
            "",
            "tsa.example.org",
            "https://",
            "https:///tsr",
            "https://user:secret@tsa.example.org",
            "https://tsa.example.org/ x",
            "https://tsa.example.org/#x",
            "file:///etc/passwd",
        ] {
            assert!(web_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prices_are_optional_and_all_or_none() {
        assert!(Config::parse(TEMPLATE).unwrap().cost.is_none());
        let text = TEMPLATE.replace("# [cost]", "[cost]");
        assert!(Config::parse(&text).unwrap_err().contains("currency"));
    }

    #[test]
    fn what_can_not_be_is_named() {
        for (from, to, why) in [
            (
                "id = \"222222222222\"",
                "id = \"2222\"",
                "accounts.production.id",
            ),
            ("bucket =", "bukket =", "bukket"),
            ("source = \"/", "source = \"s3://", "agent.source"),
            ("collector_role =", "# collector_role =", "collector_role"),
            ("# key_file =", "key_file =", "more than one key"),
            ("# module_store =", "module_store =", "belong together"),
            (
                "# timestamp_url = \"https://",
                "timestamp_url = \"ftp://",
                "seal.timestamp_url",
            ),
            (
                "region = \"eu-central-1\"",
                "region = \"Frankfurt\"",
                "is not a region",
            ),
            (
                "account = \"333333333333\"",
                "account = \"3\"",
                "forensic.account",
            ),
            (
                "key = \"arn:aws:kms:eu-central-1:333333333333:key/",
                "key = \"alias/",
                "forensic.key",
            ),
            (
                "key = \"arn:aws:kms:eu-central-1:333",
                "key = \"arn:aws:kms:us-east-1:333",
                "another region",
            ),
            ("lock_days = 365", "lock_days = 0", "forensic.lock_days"),
            (
                "# snapshot_key = \"arn:aws:kms:",
                "snapshot_key = \"alias:",
                "accounts.production.snapshot_key",
            ),
        ] {
            let text = TEMPLATE.replacen(from, to, 1);
            assert_ne!(text, TEMPLATE, "{from}");
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(why), "{from}: {error}");
        }
    }
}
