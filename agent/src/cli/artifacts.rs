//! `artifacts`: what can be captured, as text, as JSON, and as docs/artifacts.md.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use evidence::Exit;

use super::selection::definitions;
use super::{Failure, print};
use crate::capture::files::{Content, Family, Level};
use crate::capture::plan::profiles;
use crate::capture::sensitive::{Class, Policies};
use crate::capture::{self, Plan, Spec};

const EXAMPLES: &str = "\
Examples:
  What there is, and why:
    exhibit-agent artifacts
  Is a file of families right, and what does it add?
    exhibit-agent artifacts --artifacts shop.toml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// One JSON array instead of text
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The reference of docs/artifacts.md, all globs included
    #[arg(long)]
    markdown: bool,
    /// Check this file of families, and list them too
    #[arg(long, value_name = "FILE")]
    artifacts: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut plan = Plan::default();
    if let Some(path) = &arguments.artifacts {
        plan.add(definitions(path)?);
    }
    let artifacts = capture::artifacts(plan.clone());
    let specs: Vec<&'static Spec> = artifacts.iter().map(|artifact| artifact.spec()).collect();
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&specs);
        json.map_err(|error| Failure::new(Exit::Internal, error))? + "\n"
    } else if arguments.markdown {
        markdown(&plan, &specs)
    } else {
        text(&plan, &specs)
    };
    print(&text).map(|()| Exit::Complete)
}

fn text(plan: &Plan, specs: &[&Spec]) -> String {
    let mut text = String::from("In this order, the most volatile first:\n");
    for (number, spec) in specs.iter().enumerate() {
        text.push_str(&format!(
            "\n{:2}. {}  ({}; {}; at most {} s{})\n    {}\n    Why: {}\n",
            number + 1,
            spec.name,
            class(spec),
            profile_of(plan, spec),
            spec.deadline_s,
            cap(spec),
            spec.what,
            spec.why
        ));
    }
    text.push_str("\nProfiles (--profile):\n");
    for profile in profiles() {
        let _ = writeln!(text, "  {:<7} {}", profile.name, profile.what);
    }
    text
}

fn class(spec: &Spec) -> String {
    let word = serde_json::to_value(spec.volatility).ok();
    let word = word.and_then(|value| value.as_str().map(str::to_owned));
    word.unwrap_or_default().replace('_', " ")
}

/// The profiles that have it, in words.
fn profile_of(plan: &Plan, spec: &Spec) -> String {
    let family = plan
        .families
        .iter()
        .find(|family| family.spec.name == spec.name);
    if family.is_some_and(|family| family.profile == Level::Asked) {
        return "only with --include".to_owned();
    }
    let has = |profile: &capture::plan::Profile| {
        family.is_none_or(|family| family.profile <= profile.level)
            && !profile.without.iter().any(|name| name == spec.name)
    };
    let names = profiles().into_iter().filter(has);
    names
        .map(|profile| profile.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn cap(spec: &Spec) -> String {
    match spec.max_bytes {
        u64::MAX => String::new(),
        bytes => format!(" and {} MiB", bytes >> 20),
    }
}

const HEAD: &str = include_str!("artifacts_head.md");

fn markdown(plan: &Plan, specs: &[&Spec]) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Profiles\n\n| Profile | What | Without | Names that the walk looks at |\n|---|---|---|---|\n");
    for profile in profiles() {
        let (name, what, names) = (profile.name, profile.what, profile.walk_names);
        let _ = writeln!(
            text,
            "| `{name}` | {what} | {} | {names} |",
            profile.without.join(", ")
        );
    }
    text.push_str("\n## Artifacts, the most volatile first\n\n| Artifact | Class | Profiles | What | Why |\n|---|---|---|---|---|\n");
    for spec in specs {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            spec.name,
            class(spec),
            profile_of(plan, spec),
            spec.what,
            spec.why
        );
    }
    text.push_str("\n## Families of files\n");
    plan.families
        .iter()
        .for_each(|family| section(family, &mut text));
    text.push_str(
        "\n## What is sensitive\n\n`--sensitive CLASS=POLICY` decides; the default stands here.\n",
    );
    let policies = Policies::default();
    for class in Class::ALL {
        let _ = writeln!(
            text,
            "\n### `{}`: {}\n",
            class.word(),
            policies.of(class).word()
        );
        let globs = plan.guarded.iter().filter(|guarded| guarded.class == class);
        let globs: Vec<String> = globs
            .flat_map(|guarded| &guarded.globs)
            .map(|glob| format!("`{glob}`"))
            .collect();
        let said = match globs.is_empty() {
            true => "`environ` of each process.".to_owned(),
            false => globs.join(" "),
        };
        let _ = writeln!(text, "{said}");
    }
    text
}

fn section(family: &Family, text: &mut String) {
    let spec = family.spec;
    let content = match (family.content, family.executables) {
        (Content::Whole, _) => "whole files",
        (Content::Hash, true) => "SHA-256 of what can be executed",
        (Content::Hash, false) => "SHA-256",
        (Content::Metadata, _) => "metadata",
    };
    let size = |bytes: u64| format!("{} MiB", bytes >> 20);
    let file = family.max_file.map_or(String::new(), |most| {
        format!("; a file at most {}", size(most))
    });
    let since = if family.since {
        "; `--since` holds"
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "\n### `{}`\n\n{}. {content}; at most {} s and {}{file}{since}.\n",
        spec.name,
        spec.what,
        spec.deadline_s,
        size(spec.max_bytes)
    );
    let globs: Vec<String> = family
        .globs
        .iter()
        .map(|glob| format!("`{glob}`"))
        .collect();
    let _ = writeln!(text, "{}", globs.join(" "));
}
