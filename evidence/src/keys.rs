//! Names of objects. A key never contains a string that comes from the host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of the object that lists all segments.
pub const CHAIN: &str = "CHAIN";
/// Name of the object that ends a run.
pub const MANIFEST: &str = "manifest.json";
/// Most segments that one stream can have: their numbers are five digits.
pub const MAX_SEGMENTS: u32 = 100_000;

/// Why a text can not be part of a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("{what} is empty: give 1 to 64 letters, digits, dots, dashes or underscores")]
    Empty { what: &'static str },
    #[error("{what} has {length} characters: at most 64 are allowed")]
    TooLong { what: &'static str, length: usize },
    #[error(
        "{what} contains {character:?}: only letters, digits, dots, dashes and underscores are allowed"
    )]
    Character { what: &'static str, character: char },
    #[error("{what} must not start with a dot or a dash")]
    Start { what: &'static str },
    #[error("{0:?} is not a collection prefix: want <case>/<host>/<collection>")]
    Prefix(String),
}

fn check(what: &'static str, text: &str) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty { what });
    }
    if let Some(character) = text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)))
    {
        return Err(KeyError::Character { what, character });
    }
    if text.starts_with(['.', '-']) {
        return Err(KeyError::Start { what });
    }
    if text.len() > 64 {
        return Err(KeyError::TooLong {
            what,
            length: text.len(),
        });
    }
    Ok(())
}

macro_rules! key_part {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                check($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = KeyError;

            fn try_from(text: String) -> Result<Self, KeyError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(part: $name) -> Self {
                part.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

key_part!(
    /// The responder's name of the investigation.
    CaseId, "the case id"
);
key_part!(
    /// The host in keys: an EC2 instance id, or `h-` and 16 hexadecimal digits derived from the machine id.
    HostKey, "the host key"
);
key_part!(
    /// One run on one host: UTC time and a random part.
    CollectionId, "the collection id"
);

/// Where a collection lives, relative to the target: `<case>/<host>/<collection>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    pub case: CaseId,
    pub host: HostKey,
    pub collection: CollectionId,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.case, self.host, self.collection)
    }
}

impl FromStr for Prefix {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let parts: Vec<&str> = text.split('/').collect();
        let [case, host, collection] = parts.as_slice() else {
            return Err(KeyError::Prefix(text.to_owned()));
        };
        Ok(Self {
            case: case.parse()?,
            host: host.parse()?,
            collection: collection.parse()?,
        })
    }
}

impl TryFrom<String> for Prefix {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

/// A stream of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// One tar, in order of volatility.
    Evidence,
    /// Physical memory in LiME format.
    Memory,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 2] = [Self::Evidence, Self::Memory];

    fn folder_and_ending(self) -> (&'static str, &'static str) {
        match self {
            Self::Evidence => ("evidence", ".tar.zst"),
            Self::Memory => ("memory", ".lime.zst"),
        }
    }

    /// Key of the segment with this number, relative to the collection.
    pub fn segment_key(self, number: u32) -> String {
        let (folder, ending) = self.folder_and_ending();
        format!("{folder}/{number:05}{ending}")
    }

    /// The stream and number that a segment's key stands for.
    pub fn of_key(key: &str) -> Option<(Self, u32)> {
        Self::ALL.into_iter().find_map(|stream| {
            let (folder, ending) = stream.folder_and_ending();
            let digits = key
                .strip_prefix(folder)?
                .strip_prefix('/')?
                .strip_suffix(ending)?;
            let number = digits
                .parse()
                .ok()
                .filter(|number| *number < MAX_SEGMENTS)?;
            (stream.segment_key(number) == key).then_some((stream, number))
        })
    }
}

/// Whether `key` is one that the seal adds after the agent is done.
pub fn is_of_the_seal(key: &str) -> bool {
    matches!(
        key,
        "SHA256SUMS" | "SHA256SUMS.sig" | "SHA256SUMS.tsr" | "pubkey.pem" | "custody/000000.json"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_ids_that_could_leave_their_folder_are_refused() {
        for (wrong, why) in [
            ("", "empty"),
            ("a/b", "contains '/'"),
            ("..", "start with a dot"),
            ("-rf", "start with a dot or a dash"),
            ("a\nb", "contains '\\n'"),
            ("\u{1b}[31m", "contains '\\u{1b}'"),
            ("caf\u{e9}", "contains '\u{e9}'"),
        ] {
            let error = wrong.parse::<CaseId>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
        assert!("x".repeat(65).parse::<CaseId>().is_err());
        assert!("IR-7_2026.a".parse::<CaseId>().is_ok());
    }

    #[test]
    fn segment_keys_read_back_and_near_misses_do_not() {
        assert_eq!(Stream::Evidence.segment_key(7), "evidence/00007.tar.zst");
        assert_eq!(
            Stream::of_key("memory/99999.lime.zst"),
            Some((Stream::Memory, 99_999))
        );
        for wrong in [
            "evidence/7.tar.zst",
            "evidence/+0007.tar.zst",
            "evidence/00007.lime.zst",
            "evidence00007.tar.zst",
            "evidence/100000.tar.zst",
        ] {
            assert_eq!(Stream::of_key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_seal_has_fixed_names() {
        assert!(is_of_the_seal("custody/000000.json") && is_of_the_seal("SHA256SUMS"));
        assert!(!is_of_the_seal("custody/0.json") && !is_of_the_seal("custody/000001.json"));
    }
}
