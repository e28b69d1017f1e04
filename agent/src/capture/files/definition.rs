//! Families of files as data: read from TOML, checked, and told apart by line when something is wrong.
//!
//! The families that Exhibit knows are in `families.toml` beside this file; an operator's own file has the same form
//! (docs/artifacts.md).

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::super::sensitive::Class;
use super::super::walk;
use super::super::{Spec, Volatility};
use crate::limits::{duration, size};

/// The smallest profile that has a family.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Quick,
    #[default]
    Triage,
    Full,
    /// Only with `--include`.
    Asked,
}

/// What of a file is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    #[default]
    Whole,
    /// Its SHA-256.
    Hash,
    /// That it is there, with its metadata.
    Metadata,
}

/// A family of files.
#[derive(Clone, Debug)]
pub struct Family {
    pub spec: &'static Spec,
    pub profile: Level,
    pub content: Content,
    /// Whether `--since` holds for it.
    pub since: bool,
    /// Whether only files that can be executed are meant.
    pub executables: bool,
    /// Largest file, in bytes.
    pub max_file: Option<u64>,
    pub globs: Vec<String>,
}

impl Family {
    /// Whether it wants files wherever they are, so that only a walk of everything finds all.
    pub(crate) fn is_anywhere(&self) -> bool {
        self.globs.iter().any(|glob| glob.starts_with("/**"))
    }
}

/// What is sensitive, wherever it is collected.
#[derive(Clone, Debug)]
pub struct Guarded {
    pub class: Class,
    pub globs: Vec<String>,
}

/// What a file of families says.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    pub families: Vec<Family>,
    pub guarded: Vec<Guarded>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    family: Vec<FamilyText>,
    #[serde(default)]
    sensitive: Vec<GuardedText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyText {
    name: Spanned<String>,
    what: Spanned<String>,
    why: Spanned<String>,
    globs: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    profile: Level,
    #[serde(default)]
    content: Content,
    #[serde(default)]
    volatile: bool,
    #[serde(default)]
    since: bool,
    #[serde(default)]
    executables: bool,
    max_bytes: Option<Spanned<String>>,
    max_file: Option<Spanned<String>>,
    deadline: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GuardedText {
    class: Spanned<Class>,
    globs: Spanned<Vec<Spanned<String>>>,
}

/// Why a file of families can not be used: where, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct DefinitionError {
    pub line: usize,
    pub why: String,
}

/// Longest name of a family: it stands in manifests and tables.
const MAX_NAME: usize = 40;
const MAX_BYTES: u64 = 64 << 30;
const DEADLINE: Duration = Duration::from_secs(1800);

const OWN: &str = include_str!("families.toml");

/// The families that Exhibit knows.
pub fn own() -> Definitions {
    // A test makes sure that they are sound.
    parse(OWN, &[]).unwrap_or_default()
}

/// Reads a file of families, whose names must differ from `taken`.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(text: &str, taken: &[&str]) -> Result<Definitions, DefinitionError> {
    let reader = Reader { text };
    let parsed: Text = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reader.error(at, error.message())
    })?;
    let mut families: Vec<Family> = Vec::new();
    for family in &parsed.family {
        let name = family.name.get_ref().as_str();
        let known = families.iter().any(|other| other.spec.name == name);
        if known || taken.contains(&name) {
            let why = format!("there is an artifact {name:?} already: choose another name");
            return Err(reader.error(family.name.span().start, &why));
        }
        families.push(reader.family(family)?);
    }
    let guarded = parsed.sensitive.iter().map(|guarded| {
        if *guarded.class.get_ref() == Class::Environment {
            let why = "environments are no files: give another class, or --sensitive environment=";
            return Err(reader.error(guarded.class.span().start, why));
        }
        Ok(Guarded {
            class: *guarded.class.get_ref(),
            globs: reader.globs(&guarded.globs)?,
        })
    });
    Ok(Definitions {
        guarded: guarded.collect::<Result<_, _>>()?,
        families,
    })
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, at: usize, why: &str) -> DefinitionError {
        let before = self.text.get(..at).unwrap_or(self.text);
        DefinitionError {
            line: before.matches('\n').count() + 1,
            why: why.to_owned(),
        }
    }

    fn family(&self, text: &FamilyText) -> Result<Family, DefinitionError> {
        let (size, duration) = (|text: &str| size(text), |text: &str| duration(text));
        let max_bytes = self.limit(text.max_bytes.as_ref(), size)?;
        let deadline = self.limit(text.deadline.as_ref(), duration)?;
        let spec = Spec {
            name: self.name(&text.name)?,
            volatility: match text.volatile {
                true => Volatility::VolatileFiles,
                false => Volatility::Files,
            },
            what: self.said(&text.what)?,
            why: self.said(&text.why)?,
            deadline_s: deadline.unwrap_or(DEADLINE).as_secs(),
            max_bytes: max_bytes.unwrap_or(MAX_BYTES),
        };
        Ok(Family {
            spec: Box::leak(Box::new(spec)),
            profile: text.profile,
            content: text.content,
            since: text.since,
            executables: text.executables,
            max_file: self.limit(text.max_file.as_ref(), size)?,
            globs: self.globs(&text.globs)?,
        })
    }

    fn name(&self, name: &Spanned<String>) -> Result<&'static str, DefinitionError> {
        let text = name.get_ref();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fits = !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(plain);
        match fits {
            true => Ok(text.clone().leak()),
            false => Err(self.error(
                name.span().start,
                &format!("the name {text:?} is not 1 to {MAX_NAME} of a-z, 0-9 and _"),
            )),
        }
    }

    fn said(&self, text: &Spanned<String>) -> Result<&'static str, DefinitionError> {
        match text.get_ref().trim() {
            "" => Err(self.error(text.span().start, "say it in a few words: it is empty")),
            some => Ok(some.to_owned().leak()),
        }
    }

    fn globs(&self, globs: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, DefinitionError> {
        if globs.get_ref().is_empty() {
            return Err(self.error(
                globs.span().start,
                "there is no glob: it would match nothing",
            ));
        }
        let each = globs.get_ref().iter().map(|glob| {
            let text = glob.get_ref();
            let why = |error| self.error(glob.span().start, &format!("glob {text:?}: {error}"));
            walk::check(text).map_err(why)?;
            Ok(text.clone())
        });
        each.collect()
    }

    fn limit<T>(
        &self,
        text: Option<&Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, DefinitionError> {
        let Some(text) = text else { return Ok(None) };
        let why = |why| self.error(text.span().start, &format!("{:?}: {why}", text.get_ref()));
        parse(text.get_ref()).map(Some).map_err(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[family]]
name = "site_app"
what = "the shop"
why = "it was attacked"
globs = ["/srv/shop/**", "~/.shop"]
max_file = "1M"
deadline = "2m"
since = true
"#;

    #[test]
    fn an_operators_family_is_read_with_its_limits() {
        let definitions = parse(GOOD, &[]).unwrap();
        let family = &definitions.families[0];
        assert_eq!(
            (family.spec.name, family.spec.deadline_s),
            ("site_app", 120)
        );
        assert_eq!((family.max_file, family.since), (Some(1 << 20), true));
        assert_eq!(family.profile, Level::Triage);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, line, why) in [
            ("\"/srv/shop/**\"", "\"srv\"", 6, "start with /"),
            ("~/.shop", "/a/**b", 6, "whole part"),
            ("site_app", "Site App", 3, "a-z"),
            ("site_app", "etc", 3, "already"),
            ("the shop", " ", 4, "empty"),
            ("\"1M\"", "\"1X\"", 7, "K, M, G"),
            ("\"2m\"", "\"soon\"", 8, "s, m, h or d"),
            ("since = true", "sinse = true", 9, "unknown field"),
            ("since = true", "since = ", 9, ""),
            ("[\"/srv/shop/**\", \"~/.shop\"]", "[]", 6, "no glob"),
        ] {
            let error = parse(&GOOD.replace(from, to), &["etc"]).unwrap_err();
            assert_eq!(error.line, line, "{to}: {error}");
            assert!(error.why.contains(why), "{to}: {error}");
        }
        let twice = format!("{GOOD}{GOOD}");
        assert!(parse(&twice, &[]).unwrap_err().why.contains("already"));
    }

    #[test]
    fn the_families_that_come_with_it_are_sound() {
        let own = parse(OWN, &[]).unwrap();
        assert!(own.families.len() > 30 && own.guarded.len() >= 3);
    }
}
