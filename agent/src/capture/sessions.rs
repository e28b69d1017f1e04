//! *sessions*: who is and was logged in: utmp, wtmp, btmp and lastlog, parsed and as they are.

use std::path::Path;

use serde::Serialize;

use super::processes::parse::text;
use super::users::Users;
use super::walk::matches;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Host, HostError};
use crate::text::rfc3339;

/// Logins, by the system's own records.
pub struct Sessions;

static SPEC: Spec = Spec {
    name: "sessions",
    volatility: Volatility::System,
    what: "utmp, wtmp, btmp with their rotated copies, and lastlog",
    why: "who came in, from where, and which attempts failed; a zeroed record is a trace too",
    deadline_s: 120,
    max_bytes: 8 << 30,
};

/// Length of a `struct utmp` of glibc on Linux (utmp(5)).
pub const UTMP: usize = 384;
/// Length of a `struct lastlog` of glibc.
pub const LASTLOG: usize = 292;
const FILES: &[&str] = &[
    "/run/utmp",
    "/var/run/utmp",
    "/var/log/wtmp*",
    "/var/log/btmp*",
];
const LAST: &str = "/var/log/lastlog";

/// A record of utmp, wtmp or btmp.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub pid: i32,
    pub line: String,
    pub id: String,
    pub user: String,
    pub host: String,
    pub address: Option<String>,
    pub session: i32,
    pub time: String,
    #[serde(skip)]
    pub time_us: i64,
}

#[derive(Serialize)]
struct Row<'a> {
    file: String,
    offset: u64,
    /// All bytes are zero: a record that was wiped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    zeroed: bool,
    #[serde(flatten)]
    login: Option<&'a Login>,
}

impl Artifact for Sessions {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let mut found = false;
        let paths = matches(host, FILES, &mut |failed| match failed {
            Some((path, error)) => sink.lost(path, &error),
            None => sink.check(),
        })?;
        for path in paths {
            found |= logins(host, &path, sink)?;
        }
        found |= last_logins(host, sink)?;
        if found {
            Ok(())
        } else {
            Err(CaptureError::Absent(
                "no utmp, wtmp, btmp or lastlog".to_owned(),
            ))
        }
    }
}

/// The records of one file, then the file itself. False when it is not there.
fn logins(host: &Host, path: &Path, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    let mut failure = None;
    let there = records(host, path, UTMP, sink, |sink, offset, bytes| {
        let login = login(bytes);
        let row = Row {
            file: path.display().to_string(),
            offset,
            zeroed: login.is_none(),
            login: login.as_ref(),
        };
        if let Err(halt) = sink
            .record("system/logins", &row)
            .and_then(|()| event(path, login.as_ref(), sink))
        {
            failure = Some(halt);
        }
        failure.is_none()
    })?;
    failure.map_or(Ok(()), Err)?;
    if there && let Ok(file) = host.root().open(path) {
        sink.file(path, file)?;
    }
    Ok(there)
}

#[derive(Serialize)]
struct Event<'a> {
    message: String,
    datetime: &'a str,
    timestamp: i64,
    timestamp_desc: &'static str,
}

fn event(path: &Path, login: Option<&Login>, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let Some(login) = login.filter(|login| login.time_us != 0) else {
        return Ok(());
    };
    let message = format!(
        "{}: {} {} on {} from {:?}",
        path.display(),
        login.kind,
        login.user,
        login.line,
        login.host
    );
    sink.event(&Event {
        message,
        datetime: &login.time,
        timestamp: login.time_us,
        timestamp_desc: "Login Record",
    })
}

#[derive(Serialize)]
struct LastLogin {
    uid: u64,
    user: Option<String>,
    line: String,
    host: String,
    time: String,
}

fn last_logins(host: &Host, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    let users = Users::read(host);
    let path = Path::new(LAST);
    let mut failure = None;
    let there = records(host, path, LASTLOG, sink, |sink, offset, bytes| {
        let Some((time, line, from)) = last_login(bytes) else {
            return true;
        };
        let uid = offset / LASTLOG as u64;
        let user = u32::try_from(uid).ok().and_then(|uid| users.name(uid));
        let record = LastLogin {
            uid,
            user,
            line,
            host: from,
            time: rfc3339(i64::from(time) * 1_000_000_000),
        };
        failure = sink.record("system/lastlog", &record).err();
        failure.is_none()
    })?;
    failure.map_or(Ok(()), Err)?;
    if there && let Ok(file) = host.root().open(path) {
        sink.file(path, file)?;
    }
    Ok(there)
}

/// Hands each record of `size` bytes to `take` until that says false; passes over holes, which lastlog is full of.
fn records(
    host: &Host,
    path: &Path,
    size: usize,
    sink: &mut Sink<'_>,
    mut take: impl FnMut(&mut Sink<'_>, u64, &[u8]) -> bool,
) -> Result<bool, Halt> {
    let file = match host.root().open(path) {
        Ok(file) => file,
        Err(error) => return no_file(path, &error, sink).map(|()| false),
    };
    let size_u64 = size as u64;
    let mut offset = 0;
    loop {
        sink.check()?;
        // The first record that has data, from where we are.
        match file.next_data(offset) {
            Ok(Some(start)) => offset = offset.max(start / size_u64 * size_u64),
            Ok(None) => return Ok(true),
            Err(error) => return sink.lost(path, &error).map(|()| true),
        }
        let piece = match file.read_at(offset, size * 512, Vec::new()) {
            Ok(piece) => piece,
            Err(error) => return sink.lost(path, &error).map(|()| true),
        };
        for record in piece.chunks_exact(size) {
            if !take(sink, offset, record) {
                return Ok(true);
            }
            offset += size_u64;
        }
        if piece.len() < size {
            // A length that is no multiple of a record's is itself a sign of tampering; the raw file keeps the rest.
            if !piece.is_empty() {
                sink.note(format!(
                    "{} ends with {} bytes of a record of {size}",
                    path.display(),
                    piece.len()
                ));
            }
            return Ok(true);
        }
    }
}

fn no_file(path: &Path, error: &HostError, sink: &mut Sink<'_>) -> Result<(), Halt> {
    if error.is_gone() || *error == HostError::Link {
        Ok(())
    } else {
        sink.lost(path, error)
    }
}

/// A `struct utmp`; `None` when all of it is zero.
pub fn login(bytes: &[u8]) -> Option<Login> {
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let int = |at: usize| {
        let raw = bytes
            .get(at..at + 4)
            .and_then(|raw| raw.try_into().ok())
            .unwrap_or_default();
        i32::from_le_bytes(raw)
    };
    let field =
        |at: usize, length: usize| text_field(bytes.get(at..at + length).unwrap_or_default());
    let kind = i16::from_le_bytes(
        bytes
            .get(..2)
            .and_then(|raw| raw.try_into().ok())
            .unwrap_or_default(),
    );
    let time_us = i64::from(int(340)) * 1_000_000 + i64::from(int(344));
    Some(Login {
        kind: kind_name(kind),
        pid: int(4),
        line: field(8, 32),
        id: field(40, 4),
        user: field(44, 32),
        host: field(76, 256),
        session: int(336),
        time: rfc3339(time_us.saturating_mul(1000)),
        time_us,
        address: address(bytes.get(348..364).unwrap_or_default()),
    })
}

fn kind_name(kind: i16) -> &'static str {
    match kind {
        0 => "empty",
        1 => "run_level",
        2 => "boot_time",
        3 => "new_time",
        4 => "old_time",
        5 => "init_process",
        6 => "login_process",
        7 => "user_process",
        8 => "dead_process",
        9 => "accounting",
        _ => "unknown",
    }
}

/// `ut_addr_v6`: IPv4 in the first word when the others are zero.
fn address(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    if bytes == [0; 16] {
        return None;
    }
    let [a, b, c, d, rest @ ..] = bytes;
    if rest == [0; 12] {
        return Some(std::net::Ipv4Addr::new(a, b, c, d).to_string());
    }
    Some(std::net::Ipv6Addr::from(bytes).to_string())
}

/// A `struct lastlog`; `None` for a user who never logged in.
pub fn last_login(bytes: &[u8]) -> Option<(i32, String, String)> {
    let time = i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    (time != 0).then(|| {
        (
            time,
            text_field(bytes.get(4..36).unwrap_or_default()),
            text_field(bytes.get(36..).unwrap_or_default()),
        )
    })
}

fn text_field(bytes: &[u8]) -> String {
    text(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utmp(kind: i16, user: &[u8], address: [u8; 16]) -> Vec<u8> {
        let mut record = vec![0; UTMP];
        record[..2].copy_from_slice(&kind.to_le_bytes());
        record[4..8].copy_from_slice(&812_i32.to_le_bytes());
        record[8..13].copy_from_slice(b"pts/0");
        record[44..44 + user.len()].copy_from_slice(user);
        record[340..344].copy_from_slice(&1_700_000_000_i32.to_le_bytes());
        record[348..364].copy_from_slice(&address);
        record
    }

    #[test]
    fn logins_are_read_and_wiped_records_are_none() {
        let mut v4 = [0; 16];
        v4[..4].copy_from_slice(&[192, 0, 2, 7]);
        let got = login(&utmp(7, &[b'u'; 32], v4)).unwrap();
        assert_eq!(
            (got.kind, got.pid, got.line.as_str(), got.user.len()),
            ("user_process", 812, "pts/0", 32)
        );
        assert_eq!(
            (got.address.as_deref(), got.time.as_str()),
            (Some("192.0.2.7"), "2023-11-14T22:13:20Z")
        );
        assert_eq!(login(&[0; UTMP]), None);
        assert_eq!(login(&utmp(99, b"\xff", [1; 16])).unwrap().kind, "unknown");
    }

    #[test]
    fn cut_records_never_panic() {
        let record = utmp(7, b"root", [1; 16]);
        for end in 0..UTMP {
            let _ = login(&record[..end]);
            let _ = last_login(&record[..end.min(LASTLOG)]);
        }
    }
}
