//! Whose memory is taken: the operator's words.

use std::collections::BTreeSet;
use std::str::FromStr;

/// Highest number that a process can have (`PID_MAX_LIMIT`, include/linux/threads.h).
const PID_LIMIT: i32 = 4 << 20;

/// A word of `--process-memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Pid(i32),
    All,
    Suspicious,
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "suspicious" => Ok(Self::Suspicious),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let pid = digits.parse().ok();
                let pid = pid.filter(|pid| (1..=PID_LIMIT).contains(pid));
                pid.map(Self::Pid)
                    .ok_or_else(|| format!("no process has this number; want 1 to {PID_LIMIT}"))
            }
            _ => Err("want the number of a process, all or suspicious".to_owned()),
        }
    }
}

/// Whose memory is taken; nobody's unless it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub pids: BTreeSet<i32>,
    pub all: bool,
    pub suspicious: bool,
}

impl Choice {
    pub fn of(words: &[Word]) -> Self {
        let mut choice = Self::default();
        for word in words {
            match word {
                Word::Pid(pid) => {
                    choice.pids.insert(*pid);
                }
                Word::All => choice.all = true,
                Word::Suspicious => choice.suspicious = true,
            }
        }
        choice
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbers_or_one_of_two() {
        assert_eq!("1".parse(), Ok(Word::Pid(1)));
        assert_eq!("4194304".parse(), Ok(Word::Pid(4_194_304)));
        assert_eq!("all".parse(), Ok(Word::All));
        assert_eq!("suspicious".parse(), Ok(Word::Suspicious));
        for wrong in [
            "",
            "0",
            "-1",
            "+1",
            "4194305",
            "99999999999",
            "All",
            "1 2",
            "1-5",
            "self",
        ] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_add_up() {
        assert!(Choice::of(&[]).is_empty());
        let choice = Choice::of(&[Word::Pid(7), Word::Suspicious, Word::Pid(7)]);
        assert!(choice.pids.len() == 1 && choice.suspicious && !choice.all);
    }
}
