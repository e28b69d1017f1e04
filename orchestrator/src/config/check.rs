//! Whether the values of `exhibit.toml` can be used. It looks at nothing but them.

use super::{Account, Agent, Collect, Config, Credentials, Evidence, Forensic, Seal};

/// Checks each section.
///
/// # Errors
/// For the first value that can not be used: the message names it.
pub(super) fn check(config: &Config) -> Result<(), String> {
    evidence(&config.evidence)?;
    agent(&config.agent)?;
    seal(&config.seal)?;
    accounts(config)?;
    if let Some(section) = &config.forensic {
        forensic(section)?;
    }
    collect(&config.collect, &config.evidence)
}

fn evidence(evidence: &Evidence) -> Result<(), String> {
    account_id("evidence.account", &evidence.account)?;
    region(&evidence.region).map_err(|why| format!("evidence.region: {why}"))?;
    let prefix = &evidence.prefix;
    if prefix.split('/').any(|part| part == "..")
        || prefix.starts_with('/')
        || prefix.ends_with('/')
    {
        return Err("evidence.prefix must not start or end with a slash".to_owned());
    }
    Ok(())
}

fn agent(agent: &Agent) -> Result<(), String> {
    let source = &agent.source;
    if !source.starts_with('/') && !source.starts_with("https://") {
        return Err(format!(
            "agent.source = {source:?} is neither an absolute path nor https://"
        ));
    }
    if agent.module_store.is_some() != agent.module_key.is_some() {
        return Err(
            "agent.module_store and agent.module_key belong together: an index counts only with its signature"
                .to_owned(),
        );
    }
    Ok(())
}

fn collect(collect: &Collect, evidence: &Evidence) -> Result<(), String> {
    if collect.credentials == Credentials::Session && evidence.collector_role.is_none() {
        return Err("collect.credentials = \"session\" needs evidence.collector_role".to_owned());
    }
    if !(900..=43_200).contains(&collect.session_seconds) {
        return Err("collect.session_seconds must be 900 to 43200".to_owned());
    }
    Ok(())
}

fn seal(seal: &Seal) -> Result<(), String> {
    let keys = [
        seal.kms_key.is_some(),
        seal.key_file.is_some(),
        seal.ssh_key.is_some(),
    ];
    if keys.into_iter().filter(|given| *given).count() > 1 {
        return Err(
            "[seal] names more than one key: keep one of kms_key, key_file, ssh_key".to_owned(),
        );
    }
    match &seal.timestamp_url {
        Some(address) => web_address(address).map_err(|why| format!("seal.timestamp_url {why}")),
        None => Ok(()),
    }
}

fn accounts(config: &Config) -> Result<(), String> {
    if config.accounts.is_empty() {
        return Err("there is no account with suspects: add [accounts.<name>]".to_owned());
    }
    config
        .accounts
        .iter()
        .try_for_each(|(name, entry)| account(name, entry))
}

fn account(name: &str, account: &Account) -> Result<(), String> {
    account_id(&format!("accounts.{name}.id"), &account.id)?;
    region(&account.region).map_err(|why| format!("accounts.{name}.region: {why}"))?;
    match &account.snapshot_key {
        Some(key) => key_arn(&format!("accounts.{name}.snapshot_key"), key).map(|_| ()),
        None => Ok(()),
    }
}

fn forensic(forensic: &Forensic) -> Result<(), String> {
    account_id("forensic.account", &forensic.account)?;
    if key_arn("forensic.key", &forensic.key)? != forensic.region {
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

fn account_id(name: &str, id: &str) -> Result<(), String> {
    match id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(()),
        false => Err(format!("{name} = {id:?} is not an account id of 12 digits")),
    }
}

/// The region of a key. A copy is compared with its key, and EC2 names keys by ARN.
fn key_arn<'a>(name: &str, key: &'a str) -> Result<&'a str, String> {
    region_of_key(key).ok_or_else(|| {
        format!("{name} = {key:?} is not the ARN of a key: arn:aws:kms:<region>:<account>:key/<id>")
    })
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

#[cfg(test)]
mod tests {
    use super::super::TEMPLATE;
    use super::*;

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
