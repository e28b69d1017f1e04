//! What a run is to capture: the profile, what the operator asked for beside it, and the families of files.

use serde::Deserialize;

use super::files::{self, Definitions, Family, Guarded, Level};
use super::memory;
use super::process_memory;
use super::sensitive::Policies;
use crate::host::clocks;

/// A profile: how much is captured, and what the walk may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// For whom it is.
    pub what: String,
    pub level: Level,
    /// Artifacts that it does without, beside the families of files that a larger profile has.
    #[serde(default)]
    pub without: Vec<String>,
    /// Most names that the walk looks at.
    pub walk_names: u64,
}

/// The profiles that there are, the smallest first.
pub fn profiles() -> Vec<Profile> {
    #[derive(Deserialize)]
    struct Text {
        profile: Vec<Profile>,
    }
    let text: Result<Text, _> = toml::from_str(include_str!("profiles.toml"));
    text.map(|text| text.profile).unwrap_or_default()
}

/// The profile that holds unless another is asked for.
pub const DEFAULT_PROFILE: &str = "triage";

/// Which artifacts are captured.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of artifacts; empty for those of the profile.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    without: Vec<String>,
    level: Level,
}

impl Selection {
    pub fn new(profile: &Profile, include: Vec<String>, exclude: Vec<String>) -> Self {
        Self {
            include,
            exclude,
            without: profile.without.clone(),
            level: profile.level,
        }
    }

    /// Whether the operator's own words leave `name` in.
    pub fn names(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|one| one == name);
        (self.include.is_empty() || named(&self.include)) && !named(&self.exclude)
    }

    /// Whether a family of `level` is captured, when it is named at all.
    pub fn has(&self, level: Level) -> bool {
        !self.include.is_empty() || level <= self.level
    }

    /// Why `name` is left out.
    pub fn left_out(&self, name: &str) -> Option<&'static str> {
        let named = |names: &[String]| names.iter().any(|one| one == name);
        if !self.include.is_empty() && !named(&self.include) {
            Some("not among --include")
        } else if named(&self.exclude) {
            Some("named by --exclude")
        } else if self.include.is_empty() && named(&self.without) {
            Some("not in the profile")
        } else {
            None
        }
    }
}

/// Everything that decides what is captured.
#[derive(Clone)]
pub struct Plan {
    pub profile: Profile,
    pub selection: Selection,
    pub memory: memory::Plan,
    /// Whose memory is taken.
    pub process_memory: process_memory::Choice,
    pub policies: Policies,
    /// Families that say so take only what changed since, in nanoseconds of the host's clock.
    pub since_ns: Option<i64>,
    /// What changed since is listed as recent.
    pub recent_ns: i64,
    pub families: Vec<Family>,
    pub guarded: Vec<Guarded>,
}

/// How far back something is recent without `--since`, in nanoseconds: a week.
const RECENT_NS: i64 = 7 * 86_400 * 1_000_000_000;

impl Plan {
    /// What `profile` says, and nothing else.
    pub fn of(profile: Profile) -> Self {
        let Definitions { families, guarded } = files::own();
        Self {
            selection: Selection::new(&profile, Vec::new(), Vec::new()),
            profile,
            memory: memory::Plan::default(),
            process_memory: process_memory::Choice::default(),
            policies: Policies::default(),
            since_ns: None,
            recent_ns: clocks().utc_ns.saturating_sub(RECENT_NS),
            families,
            guarded,
        }
    }

    /// Adds what an operator's file of families says.
    pub fn add(&mut self, definitions: Definitions) {
        // The operator's come first: they know what they look for.
        self.families.splice(0..0, definitions.families);
        self.guarded.extend(definitions.guarded);
    }
}

impl Default for Plan {
    /// As [`DEFAULT_PROFILE`] says.
    fn default() -> Self {
        let mut profiles = profiles().into_iter();
        Self::of(
            profiles
                .find(|profile| profile.name == DEFAULT_PROFILE)
                .unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_name_artifacts_that_there_are() {
        let profiles = profiles();
        let names: Vec<&str> = profiles
            .iter()
            .map(|profile| profile.name.as_str())
            .collect();
        assert_eq!(names, ["quick", DEFAULT_PROFILE, "full"]);
        let known = super::super::artifacts(Plan::default());
        for name in profiles.iter().flat_map(|profile| &profile.without) {
            assert!(
                known.iter().any(|artifact| artifact.spec().name == name),
                "{name}"
            );
        }
    }

    #[test]
    fn each_artifact_has_a_name_of_its_own() {
        let artifacts = super::super::artifacts(Plan::default());
        let names: std::collections::BTreeSet<&str> = artifacts
            .iter()
            .map(|artifact| artifact.spec().name)
            .collect();
        assert_eq!(names.len(), artifacts.len());
    }

    #[test]
    fn what_is_included_needs_no_profile_and_what_is_excluded_stays_out() {
        let profile = profiles().remove(0);
        let select = |include: &[&str], exclude: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            Selection::new(&profile, words(include), words(exclude))
        };
        assert_eq!(
            select(&[], &[]).left_out("memory"),
            Some("not in the profile")
        );
        assert_eq!(select(&["memory"], &[]).left_out("memory"), None);
        assert!(
            select(&["browsers"], &[]).has(Level::Asked) && !select(&[], &[]).has(Level::Triage)
        );
        let both = select(&["etc", "ssh"], &["ssh"]);
        assert!(both.left_out("ssh").is_some() && both.left_out("etc").is_none());
        assert!(both.names("etc") && !both.names("ssh") && !both.names("logs"));
    }
}
