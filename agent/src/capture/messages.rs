//! *kernel_messages*: the kernel's ring buffer, read with syslog(2) without clearing it.

use serde::Serialize;

use super::processes::parse::text;
use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::{Host, kernel_messages};

/// What `dmesg` would show.
pub struct KernelMessages;

static SPEC: Spec = Spec {
    name: "kernel_messages",
    volatility: Volatility::Kernel,
    what: "the kernel's message buffer",
    why: "module loads, crashes and exploits leave lines there, and the buffer is short",
    deadline_s: 30,
    max_bytes: 64 << 20,
};

/// A line of the buffer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Severity from 0 (emergency) to 7 (debug).
    level: u32,
    facility: u32,
    /// Seconds since boot, as the kernel writes them.
    at: Option<String>,
    message: String,
}

impl Artifact for KernelMessages {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree has no kernel".to_owned(),
            ));
        }
        let bytes = kernel_messages().map_err(CaptureError::host("syslog(2)"))?;
        for message in text(&bytes).lines().filter_map(message) {
            sink.record("kernel/messages", &message)?;
        }
        Ok(sink.own("live_response/kernel/dmesg.txt", &bytes)?)
    }
}

/// A line `<priority>[  seconds] text`.
pub fn message(line: &str) -> Option<Message> {
    let (priority, rest) = line.strip_prefix('<')?.split_once('>')?;
    let priority: u32 = priority.parse().ok()?;
    let (at, message) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((at, message)) => (Some(at.trim().to_owned()), message.trim_start()),
        None => (None, rest),
    };
    Some(Message {
        level: priority & 7,
        facility: priority >> 3,
        at,
        message: message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_split_into_level_and_facility() {
        let got = message("<14>[   12.345678] evil: module loaded").unwrap();
        assert_eq!(
            (got.level, got.facility, got.at.as_deref()),
            (6, 1, Some("12.345678"))
        );
        assert_eq!(message("<4>plain").unwrap().message, "plain");
        assert_eq!(message("no priority"), None);
    }
}
