//! The preflight: what has to be in place before minutes count. It only asks.

mod account;
mod bucket;
mod disks;
mod estimate;
mod instance;
mod kernel;
mod way;

use evidence::Exit;
use serde::Serialize;

use crate::aws::Caller;
use crate::aws::ec2::Named;
use crate::aws::permission::{Answer, Permission};
use crate::collect::Targets;
use crate::config::Config;
use crate::failure::Failure;
use crate::run;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Light {
    Green,
    /// Works, with a loss; or nobody can tell from here.
    Amber,
    Red,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) light: Light,
    pub(crate) found: String,
    /// What to do; empty when it is green.
    pub(crate) to_do: String,
}

/// The table under construction.
#[derive(Debug, Default)]
struct Table(Vec<Check>);

impl Table {
    fn add(&mut self, light: Light, what: &str, found: impl ToString, to_do: &str) {
        let to_do = if light == Light::Green {
            String::new()
        } else {
            to_do.to_owned()
        };
        self.0.push(Check {
            what: what.to_owned(),
            light,
            found: found.to_string(),
            to_do,
        });
    }

    fn good(&mut self, what: &str, found: impl ToString) {
        self.add(Light::Green, what, found, "");
    }

    /// Red when it is not so.
    fn need(&mut self, what: &str, good: bool, found: impl ToString, to_do: &str) {
        self.add(
            if good { Light::Green } else { Light::Red },
            what,
            found,
            to_do,
        );
    }

    /// Amber when it is not so.
    fn want(&mut self, what: &str, good: bool, found: impl ToString, to_do: &str) {
        self.add(
            if good { Light::Green } else { Light::Amber },
            what,
            found,
            to_do,
        );
    }

    fn failed(&mut self, what: &str, failure: &Failure) {
        self.add(Light::Red, what, &failure.message, advice(failure));
    }

    /// What only the preflight asks for: without the answer nothing fails.
    fn unknown(&mut self, what: &str, failure: &Failure) {
        self.add(Light::Amber, what, &failure.message, advice(failure));
    }

    /// One line for all that is allowed, with `note` after them, and one for each action that is not, named after it.
    fn permissions(&mut self, place: &str, what: &str, asked: &[Permission], note: &str) {
        let mut allowed = Vec::new();
        for Permission { action, answer } in asked {
            let line = format!("{place}: {action}");
            match answer {
                Answer::Allowed => allowed.push(*action),
                Answer::Denied(failure) => self.failed(&line, failure),
                Answer::Open(failure) => self.unknown(&line, failure),
            }
        }
        if !allowed.is_empty() {
            self.good(
                &format!("{place}: {what}"),
                format!("{}{note}", allowed.join(", ")),
            );
        }
    }
}

fn advice(failure: &Failure) -> &'static str {
    match failure.exit {
        Exit::Denied => "add this statement to the policy of the role",
        _ => "mend what the message says",
    }
}

/// Checks the accounts (the one that is named, or all), and the instances that are named.
///
/// # Errors
/// When there are no credentials at all: then nothing can be asked.
pub(crate) async fn check(
    config: &Config,
    account: Option<&str>,
    targets: Option<&Targets>,
) -> Result<Vec<Check>, Failure> {
    let caller = Caller::load().await?;
    let mut table = Table::default();
    match run::evidence_account(config, &caller).await {
        Ok(account) => bucket::check(config, &account, &mut table).await,
        Err(failure) if failure.exit == Exit::Credentials => return Err(failure),
        Err(failure) => table.failed("evidence account", &failure),
    }
    disks::forensic(config, &caller, &mut table).await;
    let modules = kernel::store(config, &mut table);
    let accounts: Vec<&str> = match account {
        Some(name) => vec![config.account(Some(name))?.0],
        None => config.accounts.keys().map(String::as_str).collect(),
    };
    for name in accounts {
        let (_, entry) = config.account(Some(name))?;
        let Some(account) = account::check(config, &caller, name, &mut table).await else {
            continue;
        };
        if let Some(targets) = targets {
            let suspects = instance::Suspects {
                config,
                account: &account,
                name,
                entry,
                modules: modules.as_ref(),
            };
            instance::check(&suspects, targets, &mut table).await;
        }
    }
    Ok(table.0)
}

/// The targets of `doctor --instance`.
pub(crate) fn by_id(ids: &[String]) -> Option<Targets> {
    (!ids.is_empty()).then(|| Targets(Named::Ids(ids.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_that_is_denied_has_a_line_and_those_that_are_not_share_one() {
        let denied = Failure::new(Exit::Denied, "denied; this statement allows it: {}");
        let open = Failure::new(Exit::Aws, "Throttling");
        let asked = [
            ("a:One", Answer::Allowed),
            ("a:Two", Answer::Denied(denied)),
            ("a:Three", Answer::Allowed),
            ("a:Four", Answer::Open(open)),
        ];
        let asked = asked.map(|(action, answer)| Permission { action, answer });
        let mut table = Table::default();
        table.permissions("account x", "may collect", &asked, "; not asked: a:Five");
        let lines: Vec<_> = table
            .0
            .iter()
            .map(|check| (check.what.as_str(), check.light))
            .collect();
        assert_eq!(
            lines,
            [
                ("account x: a:Two", Light::Red),
                ("account x: a:Four", Light::Amber),
                ("account x: may collect", Light::Green)
            ]
        );
        assert_eq!(table.0[2].found, "a:One, a:Three; not asked: a:Five");
        assert!(table.0[0].to_do.contains("statement") && table.0[2].to_do.is_empty());
    }
}
