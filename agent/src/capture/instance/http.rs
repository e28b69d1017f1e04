//! One request of HTTP/1.1 to an address, on a connection of its own, in a time and a size that are bounded.
//!
//! `aws_config::imds` reads answers without a bound and only as UTF-8, and user data is mostly compressed: so this is read
//! here. No name is looked up, no proxy is asked, no redirection followed, and nothing is tried twice.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Time for a request, from the connection to the last byte.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer, head included. User data has 16 KiB at most.
pub const LONGEST: usize = 256 << 10;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("nothing is there: {0}")]
    Unreachable(String),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the answer is longer than {LONGEST} bytes")]
    TooLong,
    #[error("the answer ends too early")]
    Cut,
    #[error("the answer is no HTTP")]
    Malformed,
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Sends `method` for `path`, with headers that each end with CR and LF.
///
/// # Errors
/// When there is no whole answer in time. Whatever status an answer has, it is one.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> Result<Answer, Error> {
    let end = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|error| Error::Unreachable(error.to_string()))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
    );
    stream.set_write_timeout(Some(left(end)?)).map_err(broken)?;
    stream.write_all(head.as_bytes()).map_err(broken)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        stream.set_read_timeout(Some(left(end)?)).map_err(broken)?;
        let count = stream.read(&mut piece).map_err(broken)?;
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if bytes.len() > LONGEST {
            return Err(Error::TooLong);
        }
        // A server that keeps the connection open has said how long its answer is.
        match parse(&bytes, count == 0)? {
            Some(answer) => return Ok(answer),
            None if count == 0 => return Err(Error::Cut),
            None => {}
        }
    }
}

fn left(end: Instant) -> Result<Duration, Error> {
    let left = end.saturating_duration_since(Instant::now());
    // Zero would mean to wait for ever.
    if left.is_zero() {
        Err(Error::Late)
    } else {
        Ok(left)
    }
}

fn broken(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Late,
        _ => Error::Broken(error.to_string()),
    }
}

/// The answer in `bytes`, when it is whole; with `ended`, no more will come.
///
/// # Errors
/// When it is none, or too long.
pub fn parse(bytes: &[u8], ended: bool) -> Result<Option<Answer>, Error> {
    let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body) = bytes.split_at(at);
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| Error::Malformed)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(status).ok_or(Error::Malformed)?;
    let header = |wanted: &str| {
        let mut lines = lines.clone().filter_map(|line| line.split_once(':'));
        lines
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    let body = if header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        chunks(body)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| Error::Malformed)?;
        if length > LONGEST {
            return Err(Error::TooLong);
        }
        body.get(..length).map(<[u8]>::to_vec)
    } else {
        ended.then(|| body.to_vec())
    };
    Ok(body.map(|body| Answer { status, body }))
}

fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let status = rest.split(' ').nth(1)?.parse().ok()?;
    (100..600).contains(&status).then_some(status)
}

/// A body in chunks (RFC 9112, section 7.1), when its last one is there.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut body = Vec::new();
    loop {
        let Some(at) = rest.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let (line, after) = rest.split_at(at);
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).map_err(|_| Error::Malformed)?;
        let size = usize::from_str_radix(digits.trim(), 16).map_err(|_| Error::Malformed)?;
        if size == 0 {
            return Ok(Some(body));
        }
        if size > LONGEST {
            return Err(Error::TooLong);
        }
        let Some(chunk) = after.get(2..2 + size) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = after.get(2 + size + 2..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Option<(u16, String)> {
        let answer = parse(text.as_bytes(), true).unwrap()?;
        Some((answer.status, String::from_utf8(answer.body).unwrap()))
    }

    #[test]
    fn an_answer_is_whole_by_length_by_chunks_or_by_its_end() {
        let of_length = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabcdef";
        let of_chunks = "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(whole(of_length), Some((200, "abc".to_owned())));
        assert_eq!(whole(of_chunks), Some((404, "abc".to_owned())));
        assert_eq!(
            whole("HTTP/1.0 200 OK\r\n\r\nabc"),
            Some((200, "abc".to_owned()))
        );
        for (text, end) in [
            (of_length, of_length.len() - 3),
            (of_chunks, of_chunks.len() - 4),
        ] {
            for cut in 0..end {
                assert_eq!(parse(&text.as_bytes()[..cut], true), Ok(None), "{cut}");
            }
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nabc", false), Ok(None));
    }

    #[test]
    fn what_is_no_http_or_has_no_end_is_refused() {
        for junk in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 200\r\ncontent-length: -1\r\n\r\n",
        ] {
            assert_eq!(
                parse(junk.as_bytes(), true),
                Err(Error::Malformed),
                "{junk}"
            );
        }
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(
            parse(format!("{chunked}zz\r\n").as_bytes(), true),
            Err(Error::Malformed)
        );
        for size in ["ffffffffffffffff", "fffffff"] {
            assert_eq!(
                parse(format!("{chunked}{size}\r\n").as_bytes(), true),
                Err(Error::TooLong)
            );
        }
        let huge = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
        assert_eq!(parse(huge.as_bytes(), true), Err(Error::TooLong));
    }
}
