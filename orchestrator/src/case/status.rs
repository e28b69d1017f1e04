//! What SSM's statuses and the exit codes of the document mean.

use super::Invocation;

/// What a status says about the agent.
pub(super) enum Class {
    UnderWay,
    /// The command has ended, the agent with it.
    Over,
    /// SSM looks no longer; the agent may be at work.
    GivenUp,
}

/// By StatusDetails of SSM ("Understanding command statuses"), which spells some with spaces and some without.
pub(super) fn class(status: &str) -> Class {
    match plain(status).as_str() {
        "pending" | "inprogress" | "delayed" | "cancelling" => Class::UnderWay,
        "deliverytimedout" | "executiontimedout" | "timedout" | "cancelled" | "canceled"
        | "terminated" => Class::GivenUp,
        _ => Class::Over,
    }
}

/// A status in one spelling.
pub(super) fn plain(status: &str) -> String {
    status
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect::<String>()
        .to_lowercase()
}

/// Why nothing came, with what to do.
pub(super) fn nothing(invocation: &Invocation) -> String {
    let document = match invocation.code {
        Some(60) => Some("the agent is not where agent.source says"),
        Some(61) => Some("the agent there has another SHA-256 than agent.sha256: it was not run"),
        Some(62) => Some("the agent can not be fetched"),
        Some(63) => Some("the instance has no place in memory that allows execution"),
        Some(65) => Some("the instance lacks a program that the document needs"),
        Some(64) => Some("the configuration that was sent is malformed"),
        _ => None,
    };
    if let Some(why) = document {
        return why.to_owned();
    }
    let code = invocation.code.and_then(|code| u8::try_from(code).ok());
    let word = evidence::Exit::ALL
        .iter()
        .find(|exit| Some(exit.code()) == code && exit.code() != 0);
    match (plain(&invocation.status).as_str(), word) {
        ("failed", Some(exit)) => format!("the agent ended with {} ({})", exit.code(), exit.word()),
        ("undeliverable", _) => {
            "SSM could not deliver the command: is the instance up and its agent connected?"
                .to_owned()
        }
        _ => format!("SSM: {}", invocation.status),
    }
}
