//! The instance metadata service: where it is, a session with it, and what is never asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::http::{self, Answer, Error};

/// Variables of AWS's own programs (AWS SDKs and Tools Reference Guide, "IMDS client").
pub const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
pub const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

/// Where it is on every instance (EC2 User Guide, "Access instance metadata").
const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
const V6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254)),
    80,
);

const TOKEN: &str = "/latest/api/token";
/// Seconds that a session lasts: no longer than it takes.
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 120\r\n";
/// Longest token that is taken; real ones have 56 characters.
const LONGEST_TOKEN: usize = 1024;

/// Where to ask, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Each of these until one answers.
    At(Vec<SocketAddr>),
    /// The operator wants none.
    Disabled,
    /// What the operator gave is no address.
    Unusable(String),
}

impl Endpoint {
    /// As AWS's variables say: where it is on an instance, unless the operator gave another.
    pub fn from_environment() -> Self {
        let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::new(value(ENDPOINT).as_deref(), value(DISABLED).as_deref())
    }

    fn new(endpoint: Option<&str>, disabled: Option<&str>) -> Self {
        if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::Disabled;
        }
        match endpoint {
            None => Self::At(vec![V4, V6]),
            Some(given) => match address(given) {
                Some(address) => Self::At(vec![address]),
                None => Self::Unusable(given.to_owned()),
            },
        }
    }
}

/// `http://ADDRESS[:PORT][/]`. A name would have to be looked up, by whoever answers on this host.
fn address(endpoint: &str) -> Option<SocketAddr> {
    let rest = endpoint.strip_prefix("http://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bare = rest
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(rest);
    let alone = bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 80));
    rest.parse().or(alone).ok()
}

/// A session with the service.
pub struct Session {
    address: SocketAddr,
    header: String,
}

/// Why there is no session.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing is there: this is no instance.
    Nobody(String),
    /// It is switched off for this instance, or does not give out tokens.
    Denied(String),
    /// It took the request and did not answer in time.
    Late(String),
    /// It said something that is of no use.
    Broken(String),
}

impl Session {
    /// Asks for a token: IMDSv1, which needs none, is not used.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(addresses: &[SocketAddr]) -> Result<Self, Refused> {
        let (mut nobody, mut failed) = (Vec::new(), None);
        for address in addresses {
            let refused = match http::request(*address, "PUT", TOKEN, TTL) {
                Ok(Answer { status: 200, body }) if is_token(&body) => {
                    let token = String::from_utf8_lossy(&body);
                    let header = format!("X-aws-ec2-metadata-token: {}\r\n", token.trim());
                    return Ok(Self {
                        address: *address,
                        header,
                    });
                }
                Ok(Answer {
                    status: status @ (401 | 403),
                    ..
                }) => {
                    let why = format!(
                        "http://{address} gives out no token (HTTP {status}): it is switched off"
                    );
                    Refused::Denied(why)
                }
                Ok(Answer { status: 200, .. }) => Refused::Broken(format!(
                    "http://{address}{TOKEN} gives out what is no token"
                )),
                // Those of other clouds, which have the same address.
                Ok(Answer { status, .. }) => {
                    nobody.push(format!("http://{address} knows no tokens (HTTP {status})"));
                    continue;
                }
                Err(Error::Unreachable(why)) => {
                    nobody.push(format!("http://{address}: {why}"));
                    continue;
                }
                Err(Error::Late) => Refused::Late(format!("http://{address}{TOKEN}")),
                Err(why) => Refused::Broken(format!("http://{address}{TOKEN}: {why}")),
            };
            failed.get_or_insert(refused);
        }
        Err(failed.unwrap_or_else(|| Refused::Nobody(nobody.join("; "))))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is at `path`; `None` where there is nothing.
    ///
    /// # Errors
    /// When it can not be had.
    pub fn get(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        if holds_credentials(path) {
            return Err("it holds credentials, and is not asked for".to_owned());
        }
        let answer = http::request(self.address, "GET", path, &self.header);
        match answer.map_err(|error| error.to_string())? {
            Answer { status: 200, body } => Ok(Some(body)),
            Answer { status: 404, .. } => Ok(None),
            Answer { status, .. } => Err(format!("HTTP {status}")),
        }
    }
}

/// A token goes into a header: it must not bring others with it.
fn is_token(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    !body.is_empty() && body.len() <= LONGEST_TOKEN && body.iter().all(u8::is_ascii_graphic)
}

/// Whether `path` gives out keys: all that is below a folder of this name. The folder itself lists names.
pub fn holds_credentials(path: &str) -> bool {
    let below = path
        .split_once("security-credentials")
        .map(|(_, below)| below);
    let named = below.is_some_and(|below| !below.trim_matches('/').is_empty());
    // Written in another way, it would lead there, too.
    named || path.contains("..") || (path.contains('%') && path.contains("credentials"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address() {
        let at = |text: &str| Endpoint::At(vec![text.parse().unwrap()]);
        for (given, want) in [
            ("http://127.0.0.1:1338", at("127.0.0.1:1338")),
            ("http://169.254.169.254/", at("169.254.169.254:80")),
            ("http://[fd00:ec2::254]", at("[fd00:ec2::254]:80")),
            ("http://[::1]:81/", at("[::1]:81")),
        ] {
            assert_eq!(Endpoint::new(Some(given), None), want, "{given}");
        }
        for given in [
            "http://metadata.internal",
            "https://127.0.0.1",
            "127.0.0.1",
            "http://127.0.0.1/x",
            "http://",
        ] {
            assert!(
                matches!(Endpoint::new(Some(given), None), Endpoint::Unusable(_)),
                "{given}"
            );
        }
        assert_eq!(Endpoint::new(None, Some("True")), Endpoint::Disabled);
        assert_eq!(
            Endpoint::new(None, Some("false")),
            Endpoint::At(vec![V4, V6])
        );
        assert_eq!(V6.to_string(), "[fd00:ec2::254]:80");
    }

    #[test]
    fn credentials_are_not_asked_for() {
        for path in [
            "/latest/meta-data/iam/security-credentials/role",
            "/latest/meta-data/iam/security-credentials//role",
            "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
            "/latest/meta-data/tags/instance/../../iam/security-credentials/",
            "/latest/meta-data/iam/security%2Dcredentials/role",
        ] {
            assert!(holds_credentials(path), "{path}");
        }
        for path in [
            "/latest/meta-data/iam/security-credentials/",
            "/latest/meta-data/iam/info",
            "/latest/user-data",
        ] {
            assert!(!holds_credentials(path), "{path}");
        }
    }

    #[test]
    fn a_token_brings_no_header() {
        assert!(is_token(b"AQAEAHx=="));
        for wrong in [&b""[..], b"a\r\nX: y", b"a b", &[b'a'; 2000]] {
            assert!(!is_token(wrong));
        }
    }
}
