//! As much HTTP/1.1 as an S3 client and a proxy need: whole bodies in memory, one connection per request sent.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Header names in lower case; a repeated header is joined with commas.
pub type Headers = BTreeMap<String, String>;

/// No emulator on this machine takes longer: then it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request without its body.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub method: String,
    /// The path, percent-decoded, in path style (`/bucket/key`) whatever style the client used.
    pub path: String,
    /// The query, percent-decoded; a parameter without a value has an empty one.
    pub query: BTreeMap<String, String>,
    pub headers: Headers,
}

/// A complete response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Head {
    /// A request with these `name: value` headers.
    pub fn new(method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> Self {
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect()
        };
        Self {
            method: method.into(),
            path: path.into(),
            query: owned(query),
            headers: owned(headers),
        }
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The length of the body that follows.
    pub(crate) fn body_length(&self) -> usize {
        self.header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0)
    }

    /// Reads a request head; `None` when the client has closed the connection in good order.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some((first, headers)) = read_block(reader)? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(invalid("no request line"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let bucket = headers.get("host").and_then(|host| virtual_bucket(host));
        let path = bucket.map_or_else(
            || decode(path),
            |bucket| format!("/{bucket}{}", decode(path)),
        );
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            });
        Ok(Some(Self {
            method: method.into(),
            path,
            query: query.collect(),
            headers,
        }))
    }

    fn target(&self) -> String {
        let query: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name, false), encode(value, false)))
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", encode(&self.path, true), query.join("&"))
    }
}

impl Response {
    /// Writes the response; the body is left out when the request was a HEAD.
    pub(crate) fn write(&self, writer: &mut impl Write, method: &str) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} \r\n", self.status);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self.headers.contains_key("content-length") && self.status != 204 {
            text += &format!("content-length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        writer.write_all(text.as_bytes())?;
        if method != "HEAD" {
            writer.write_all(&self.body)?;
        }
        writer.flush()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request on a connection of its own and reads the whole answer.
///
/// # Errors
/// When the connection fails or what comes back is not HTTP.
pub fn send(to: SocketAddr, head: &Head, body: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n",
        head.method,
        head.target()
    );
    for (name, value) in &head.headers {
        if !["host", "connection", "content-length", "expect"].contains(&name.as_str()) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(text.as_bytes())?;
    stream.write_all(body)?;
    read_response(&mut BufReader::new(stream), &head.method)
}

/// Reads a response to a request of this method, `100 Continue` skipped.
///
/// # Errors
/// When the connection ends early or what comes is not HTTP.
pub fn read_response(reader: &mut impl BufRead, method: &str) -> io::Result<Response> {
    let (first, mut headers) = read_block(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status: u16 = status.ok_or_else(|| invalid("no status line"))?;
    if status == 100 {
        return read_response(reader, method);
    }
    let mut body = Vec::new();
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(Response {
            status,
            headers,
            body,
        });
    }
    if headers.remove("transfer-encoding").is_some() {
        read_chunks(reader, &mut body)?;
    } else if let Some(length) = headers.get("content-length") {
        body.resize(
            length
                .parse()
                .map_err(|_| invalid("content-length is no number"))?,
            0,
        );
        reader.read_exact(&mut body)?;
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// A first line and the headers below it; `None` at the end of the connection.
fn read_block(reader: &mut impl BufRead) -> io::Result<Option<(String, Headers)>> {
    let Some(first) = read_line(reader)? else {
        return Ok(None);
    };
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some((first, headers)));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid("a header without a colon"))?;
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|old| *old = format!("{old}, {}", value.trim()))
            .or_insert_with(|| value.trim().into());
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = reader.take(64 * 1024).read_line(&mut line)?;
    Ok((length > 0).then(|| line.trim_end_matches(['\r', '\n']).into()))
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let length =
            usize::from_str_radix(&line, 16).map_err(|_| invalid("a chunk without a length"))?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..])?;
        read_line(reader)?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// The bucket in a host name of AWS's virtual-hosted style.
fn virtual_bucket(host: &str) -> Option<&str> {
    let (bucket, rest) = host
        .split_once(".s3.")
        .or_else(|| host.split_once(".s3-"))?;
    rest.contains("amazonaws.com").then_some(bucket)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Percent-decodes; what is not UTF-8 afterwards becomes U+FFFD.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| hex::decode(digits).ok());
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.map_or(*first, |byte| byte[0]));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn encode(text: &str, keep_slash: bool) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slash && byte == b'/')
    };
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_the_way_through_text() {
        let text =
            "PUT /a%20b/k%2B1?partNumber=2&acl HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\n\r\n";
        let head = Head::read(&mut text.as_bytes()).unwrap().unwrap();
        assert_eq!(head.path, "/a b/k+1");
        assert_eq!(head.query["partNumber"], "2");
        assert_eq!(head.header("x-a"), Some("1, 2"));
        assert_eq!(head.target(), "/a%20b/k%2B1?acl=&partNumber=2");
    }

    #[test]
    fn virtual_hosted_style_becomes_path_style() {
        let text = "GET /key HTTP/1.1\r\nhost: my.bucket.s3.eu-central-1.amazonaws.com\r\n\r\n";
        assert_eq!(
            Head::read(&mut text.as_bytes()).unwrap().unwrap().path,
            "/my.bucket/key"
        );
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell";
        assert!(read_response(&mut text.as_bytes(), "GET").is_err());
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(
            read_response(&mut chunked.as_bytes(), "GET").unwrap().body,
            b"abc"
        );
    }
}
