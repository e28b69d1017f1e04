//! What to capture, as the command line says it: profile, artifacts, families of the operator, what is sensitive.

use std::path::PathBuf;

use clap::Args;
use evidence::Exit;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::Failure;
use crate::capture::files::{self, Definitions};
use crate::capture::plan::{DEFAULT_PROFILE, Profile, Selection, profiles};
use crate::capture::process_memory::{Choice, Word};
use crate::capture::sensitive::{Class, Policies, Policy};
use crate::capture::{self, Plan};
use crate::host::clocks;
use crate::limits::duration;

#[derive(Debug, Args)]
#[command(next_help_heading = "What to capture")]
pub(super) struct SelectionArguments {
    /// How much: quick (under a minute), triage, or full; see `exhibit-agent artifacts`
    #[arg(long, value_name = "NAME", default_value = DEFAULT_PROFILE, value_parser = profile)]
    profile: Profile,
    /// Capture only these artifacts; see `exhibit-agent artifacts`
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    include: Vec<String>,
    /// Leave these artifacts out
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    exclude: Vec<String>,
    /// More families of files, in TOML, which are captured first; docs/artifacts.md has the form
    #[arg(long, value_name = "FILE")]
    artifacts: Option<PathBuf>,
    /// Of logs and what else grows, only files that changed since: 7d, 12h, 2026-11-01 or 2026-11-01T06:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// What becomes of secrets: password_hashes, private_keys, environment or cloud_credentials = collect, mask or hash
    /// [default: password_hashes=mask,private_keys=hash,environment=collect,cloud_credentials=hash]
    #[arg(long, value_name = "CLASS=POLICY", value_delimiter = ',', value_parser = sensitive)]
    sensitive: Vec<(Class, Policy)>,
    /// Memory of these processes, as ELF cores, secrets and all: their numbers, `all`, or `suspicious` for those that run
    /// deleted or hidden programs, code in writable memory and the like [default: of none]
    #[arg(long, value_name = "PID|all|suspicious", value_delimiter = ',')]
    process_memory: Vec<Word>,
}

impl SelectionArguments {
    /// The plan of a run, its memory apart.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        let mut plan = Plan::of(self.profile.clone());
        if let Some(path) = &self.artifacts {
            plan.add(definitions(path)?);
        }
        plan.selection = Selection::new(&self.profile, self.include.clone(), self.exclude.clone());
        plan.policies = Policies::with(&self.sensitive);
        plan.process_memory = Choice::of(&self.process_memory);
        plan.since_ns = self.since;
        plan.recent_ns = self.since.unwrap_or(plan.recent_ns);
        self.known(&plan)?;
        Ok(plan)
    }

    fn known(&self, plan: &Plan) -> Result<(), Failure> {
        let artifacts = capture::artifacts(plan.clone());
        let mut names = artifacts.iter().map(|artifact| artifact.spec().name);
        let mut asked = self.include.iter().chain(&self.exclude);
        match asked.find(|name| !names.clone().any(|known| known == name.as_str())) {
            Some(name) => Err(Failure::usage(format!(
                "there is no artifact {name:?}; there are {}",
                names.by_ref().collect::<Vec<_>>().join(", ")
            ))),
            None => Ok(()),
        }
    }
}

/// The families in an operator's file.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of the operator's, not of the host's evidence"
)]
pub(super) fn definitions(path: &std::path::Path) -> Result<Definitions, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("--artifacts {shown} can not be read: {error}")))?;
    let artifacts = capture::artifacts(Plan::default());
    let taken: Vec<&str> = artifacts
        .iter()
        .map(|artifact| artifact.spec().name)
        .collect();
    files::parse(&text, &taken)
        .map_err(|error| Failure::new(Exit::Usage, format!("--artifacts {shown}: {error}")))
}

fn profile(text: &str) -> Result<Profile, String> {
    let profiles = profiles();
    let names: Vec<String> = profiles
        .iter()
        .map(|profile| profile.name.clone())
        .collect();
    let found = profiles.into_iter().find(|profile| profile.name == text);
    found.ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn since(text: &str) -> Result<i64, String> {
    let wanted =
        "want a time such as 7d or 12h, or a date such as 2026-11-01 or 2026-11-01T06:00:00Z";
    if let Ok(ago) = duration(text) {
        let ago = i64::try_from(ago.as_nanos()).map_err(|_| "too long ago".to_owned())?;
        return Ok(clocks().utc_ns.saturating_sub(ago));
    }
    let format = format_description!("[year]-[month]-[day]");
    let time = match Date::parse(text, &format) {
        Ok(date) => date.midnight().assume_utc(),
        Err(_) => OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
            .map_err(|_| wanted.to_owned())?,
    };
    i64::try_from(time.unix_timestamp_nanos()).map_err(|_| wanted.to_owned())
}

fn sensitive(text: &str) -> Result<(Class, Policy), String> {
    let by = |word: &str| {
        let (class, policy) = word.split_once('=')?;
        let class = Class::ALL.into_iter().find(|known| known.word() == class)?;
        let policies = [Policy::Collect, Policy::Mask, Policy::Hash];
        let policy = policies.into_iter().find(|known| known.word() == policy)?;
        Some((class, policy))
    };
    by(text).ok_or_else(|| {
        let classes: Vec<&str> = Class::ALL.into_iter().map(Class::word).collect();
        format!("want one of {} = collect, mask or hash", classes.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_dates_are_understood() {
        assert_eq!(since("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        let day = clocks().utc_ns - since("1d").unwrap();
        assert!((86_300_000_000_000..86_500_000_000_000).contains(&day));
        assert!(since("yesterday").is_err() && since("2026-13-01").is_err());
    }

    #[test]
    fn policies_name_a_class_and_what_becomes_of_it() {
        assert_eq!(
            sensitive("private_keys=collect"),
            Ok((Class::PrivateKeys, Policy::Collect))
        );
        for wrong in ["private_keys", "keys=hash", "private_keys=keep"] {
            assert!(
                sensitive(wrong).unwrap_err().contains("cloud_credentials"),
                "{wrong}"
            );
        }
        assert!(profile("triage").is_ok() && profile("all").unwrap_err().contains("quick"));
    }
}
