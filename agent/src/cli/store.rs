//! The store that the operator names: `s3://bucket/prefix` or a directory, and how to reach it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_sdk_s3::types::ObjectLockMode;
use clap::{Args, ValueEnum};
use evidence::Exit;
use evidence::objects::{self, Objects};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use transport::{NetworkOptions, check_pem};

use super::Failure;
use crate::host::Host;
use crate::ship::{CredentialSource, Lock, S3, S3Options, connect};

/// Longest file that an option can name, in bytes: a kernel module is the largest.
const MAX_FILE: u64 = 16 << 20;
/// Longest text on standard input, in bytes.
const MAX_INPUT: u64 = 1 << 20;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "S3")]
pub(super) struct S3Arguments {
    /// Region of the bucket [default: the SDK's: AWS_REGION, profile, instance]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Endpoint to use instead of AWS's, such as a VPC endpoint's
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// PEM file with certificates to trust beside the bundled roots
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// Name server to ask [default: the VPC's 169.254.169.253, then the host's, which is recorded]
    #[arg(long, value_name = "IP[:PORT]")]
    nameserver: Option<String>,
    /// JSON file with AccessKeyId, SecretAccessKey, SessionToken and Expiration, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// SecureString parameter of SSM with that JSON, which this instance's role may read; `{instance}` is its id
    #[arg(long, value_name = "NAME", conflicts_with = "credentials_file")]
    credentials_parameter: Option<String>,
    /// Attempts for each request before the store counts as failed
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
}

/// What only matters when something is stored.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Protection in S3")]
pub(super) struct LockArguments {
    /// KMS key to encrypt with [default: the bucket's own]
    #[arg(long, value_name = "KEY-ID|ARN")]
    kms_key: Option<String>,
    /// Lock each object until this time (RFC 3339), for buckets without default retention
    #[arg(long, value_name = "TIME")]
    retain_until: Option<String>,
    /// Mode of that lock
    #[arg(long, value_enum, default_value_t)]
    lock_mode: LockMode,
    /// Put a legal hold on each object
    #[arg(long)]
    legal_hold: bool,
    /// Accept a bucket whose objects anyone with enough rights can delete
    #[arg(long)]
    allow_unlocked: bool,
}

impl S3Arguments {
    /// The same, with this host's key in the place of `{instance}`.
    pub(super) fn of_host(&self, host: &evidence::HostKey) -> Self {
        let fill = |name: &String| name.replace("{instance}", &host.to_string());
        Self {
            credentials_parameter: self.credentials_parameter.as_ref().map(fill),
            ..self.clone()
        }
    }
}

impl LockArguments {
    /// Whether the operator asked for protection, or to do without.
    pub(super) fn is_given(&self) -> bool {
        self.kms_key.is_some()
            || self.retain_until.is_some()
            || self.legal_hold
            || self.allow_unlocked
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LockMode {
    /// Can be lifted with a special right
    #[default]
    Governance,
    /// Can be lifted by nobody
    Compliance,
}

/// A place that was named.
pub(super) enum Place {
    Directory(PathBuf),
    Bucket { bucket: String, prefix: String },
}

impl Place {
    /// Reads `s3://bucket/prefix`, or takes the text as a path.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let Some(rest) = text.strip_prefix("s3://") else {
            if text.is_empty() || text.contains("://") || text.starts_with("s3:") {
                return Err(Failure::usage(format!(
                    "{text:?} is neither a directory nor s3://bucket/prefix"
                )));
            }
            return Ok(Self::Directory(PathBuf::from(text)));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let valid = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        if !valid {
            return Err(Failure::usage(format!(
                "{bucket:?} is not a bucket name: 3 to 63 of a-z, 0-9, - and ."
            )));
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.bytes().any(|b| !b.is_ascii_graphic())
            || prefix.split('/').any(|part| part == "." || part == "..")
            || prefix.contains("//")
            || prefix.starts_with('/')
        {
            return Err(Failure::usage(format!(
                "{prefix:?} is not a usable prefix: printable ASCII, no empty parts"
            )));
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl Place {
    /// The objects that are there, to be read.
    pub(super) fn objects(
        self,
        arguments: &S3Arguments,
    ) -> Result<Box<dyn Objects + Send + Sync>, Failure> {
        Ok(match self {
            Self::Directory(path) => Box::new(objects::Directory::new(&path)),
            Self::Bucket { bucket, prefix } => {
                Box::new(s3(&bucket, prefix, arguments, &LockArguments::default())?)
            }
        })
    }
}

/// A client for the place `prefix` in `bucket`.
pub(super) fn s3(
    bucket: &str,
    prefix: String,
    arguments: &S3Arguments,
    lock: &LockArguments,
) -> Result<S3, Failure> {
    let options = S3Options {
        bucket: bucket.to_owned(),
        prefix,
        region: arguments.region.clone(),
        endpoint_url: arguments
            .endpoint_url
            .as_deref()
            .map(endpoint)
            .transpose()?,
        credentials: credentials(arguments)?,
        kms_key: lock.kms_key.clone(),
        lock: locking(lock)?,
        allow_unlocked: lock.allow_unlocked,
        attempts: arguments.attempts,
        network: network(arguments)?,
    };
    connect(options).map_err(|error| Failure::new(error.exit(), error))
}

fn endpoint(url: &str) -> Result<String, Failure> {
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    match host
        .and_then(|rest| rest.split('/').next())
        .filter(|host| !host.is_empty())
    {
        Some(_) => Ok(url.to_owned()),
        None => Err(Failure::usage(format!(
            "--endpoint-url {url:?} is not a URL: want https://host[:port]"
        ))),
    }
}

fn credentials(arguments: &S3Arguments) -> Result<CredentialSource, Failure> {
    if let Some(name) = &arguments.credentials_parameter {
        return Ok(CredentialSource::Parameter(name.clone()));
    }
    match arguments.credentials_file.as_deref() {
        None => Ok(CredentialSource::Chain),
        Some(path) if path == Path::new("-") => {
            Ok(CredentialSource::Given(standard_input()?.to_owned()))
        }
        Some(path) => Ok(CredentialSource::File(path.to_owned())),
    }
}

/// What standard input holds: read once, for all stores of a run.
fn standard_input() -> Result<&'static str, Failure> {
    static TEXT: OnceLock<Result<String, String>> = OnceLock::new();
    let read = || {
        let (mut text, input) = (String::new(), std::io::stdin());
        std::io::Read::read_to_string(&mut std::io::Read::take(input, MAX_INPUT), &mut text)
            .map(|_| text)
            .map_err(|error| format!("standard input can not be read: {error}"))
    };
    let text = TEXT.get_or_init(read).as_ref();
    text.map(String::as_str)
        .map_err(|message| Failure::new(Exit::Credentials, message))
}

fn locking(arguments: &LockArguments) -> Result<Lock, Failure> {
    let Some(text) = &arguments.retain_until else {
        return Ok(Lock {
            retention: None,
            legal_hold: arguments.legal_hold,
        });
    };
    let until = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        Failure::usage(format!(
            "--retain-until {text:?} is not an RFC 3339 time such as 2030-01-31T00:00:00Z"
        ))
    })?;
    if until <= OffsetDateTime::now_utc() {
        return Err(Failure::usage(format!(
            "--retain-until {text} is not in the future"
        )));
    }
    let mode = match arguments.lock_mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    };
    Ok(Lock {
        retention: Some((mode, until.unix_timestamp())),
        legal_hold: arguments.legal_hold,
    })
}

fn network(arguments: &S3Arguments) -> Result<NetworkOptions, Failure> {
    let ca_bundle = arguments.ca_bundle.as_deref().map(ca_bundle).transpose()?;
    Ok(NetworkOptions {
        nameservers: nameservers(arguments.nameserver.as_deref())?,
        ca_bundle,
    })
}

/// The server that the operator names, or the VPC's and then, recorded when it is used, the host's.
fn nameservers(named: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
    let Some(text) = named else {
        let host = host_nameservers()
            .into_iter()
            .map(|ip| SocketAddr::new(ip, 53));
        return Ok(std::iter::once(transport::VPC_RESOLVER)
            .chain(host)
            .collect());
    };
    let with_port = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    let server = with_port.or_else(|_| text.parse()).map_err(|_| {
        Failure::usage(format!(
            "--nameserver {text:?} is not an address: want IP or IP:PORT"
        ))
    });
    server.map(|server| vec![server])
}

fn ca_bundle(path: &Path) -> Result<Vec<u8>, Failure> {
    let pem = operators_file("--ca-bundle", path)?;
    let shown = path.display();
    check_pem(&pem).map_err(|error| Failure::usage(format!("--ca-bundle {shown}: {error}")))?;
    Ok(pem)
}

/// A file that the operator names with `option`.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of the operator, not of the host's evidence"
)]
pub(super) fn operators_file(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| {
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE + 1), &mut bytes)
    });
    let why = match read {
        Err(error) => error.to_string(),
        Ok(length) if length as u64 > MAX_FILE => format!("longer than {MAX_FILE} bytes"),
        Ok(_) => return Ok(bytes),
    };
    let shown = path.display();
    Err(Failure::usage(format!(
        "{option} {shown} can not be read: {why}"
    )))
}

/// `nameserver` lines of the host's resolv.conf, wherever the link to it leads.
fn host_nameservers() -> Vec<IpAddr> {
    let Ok(host) = Host::open(Path::new("/")) else {
        return Vec::new();
    };
    let candidates = [
        "etc/resolv.conf",
        "run/systemd/resolve/resolv.conf",
        "run/resolvconf/resolv.conf",
    ];
    let text = candidates
        .into_iter()
        .find_map(|path| host.line(path))
        .unwrap_or_default();
    transport::nameservers(&text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_and_typing_mistakes_named() {
        assert!(
            matches!(Place::parse("./x"), Ok(Place::Directory(path)) if path == Path::new("./x"))
        );
        let Ok(Place::Bucket { bucket, prefix }) = Place::parse("s3://my-bucket/a/b/") else {
            panic!("a bucket")
        };
        assert_eq!((bucket.as_str(), prefix.as_str()), ("my-bucket", "a/b"));
        for wrong in [
            "",
            "s3://",
            "s3://A_B/x",
            "s3:///x",
            "gs://bucket",
            "s3://bucket//x",
            "s3://bucket/a b",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_is_asked_last_and_not_at_all_when_the_operator_names_a_server() {
        let servers = nameservers(None).unwrap();
        assert_eq!(servers.first(), Some(&transport::VPC_RESOLVER));
        let named = nameservers(Some("127.0.0.1:5353")).unwrap();
        assert_eq!(named, ["127.0.0.1:5353".parse().unwrap()]);
        assert!(nameservers(Some("resolver")).is_err());
    }

    #[test]
    fn endpoints_must_be_urls() {
        assert!(endpoint("https://vpce-1.s3.us-east-1.vpce.amazonaws.com").is_ok());
        assert!(endpoint("127.0.0.1:9000").is_err() && endpoint("https://").is_err());
    }
}
