//! An authority for time stamps (RFC 3161): openssl behind HTTP, with certificates that are made for it, and faults on demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::http::{Head, Response};
use super::server::{Ending, Handler, Server};
use super::{Error, Result, need, stdout_of};

/// Certificates and answers, as openssl wants them described.
const CONFIG: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = rig
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[signer]
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[tsa]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
clock_precision_digits = 3
";
/// Where the last byte of the hash, and of the nonce, stand in a request of 69 bytes.
const HASH_END: usize = 55;
const NONCE_END: usize = 65;

/// What an authority can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsaFault {
    /// It closes the connection.
    Close,
    /// It answers with this status of HTTP.
    Status(u16),
    /// It grants nothing.
    Refuse,
    /// Its answer is to a request with another nonce.
    OtherNonce,
    /// Its answer is over another hash.
    OtherHash,
    /// Its answer lacks its last byte.
    Cut,
    /// Its answer is longer than any.
    Endless,
}

/// A running authority on 127.0.0.1; it ends with the value.
pub struct Tsa {
    server: Server,
    authority: Arc<Authority>,
}

struct Authority {
    folder: TempDir,
    fault: Mutex<Option<TsaFault>>,
    asked: AtomicUsize,
}

impl Tsa {
    /// Makes the certificates and starts it.
    ///
    /// # Errors
    /// When there is no openssl, or it can not make them.
    pub fn start() -> Result<Self> {
        need("openssl")?;
        let failed = |error: std::io::Error| Error::Failed(error.to_string());
        let folder = tempfile::tempdir().map_err(failed)?;
        fs::write(folder.path().join("tsa.cnf"), CONFIG).map_err(failed)?;
        fs::write(folder.path().join("serial"), "01\n").map_err(failed)?;
        let key = "-config tsa.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for arguments in [
            format!("req -x509 {key} -extensions ca -days 2 -keyout ca.key -out ca.pem"),
            format!("req {key} -keyout tsa.key -out tsa.csr"),
            "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 -extfile tsa.cnf \
             -extensions signer -out tsa.pem"
                .to_owned(),
        ] {
            stdout_of(&mut openssl(folder.path(), &arguments))?;
        }
        let authority = Arc::new(Authority {
            folder,
            fault: Mutex::new(None),
            asked: AtomicUsize::new(0),
        });
        let server = Server::start(Arc::clone(&authority)).map_err(failed)?;
        Ok(Self { server, authority })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}/tsr", self.server.address())
    }

    /// The certificate of who issued its own, in PEM.
    pub fn certificates(&self) -> PathBuf {
        self.authority.folder.path().join("ca.pem")
    }

    /// From now on it does this wrong, or nothing.
    pub fn fault(&self, fault: Option<TsaFault>) {
        *self.authority.fault.lock().unwrap() = fault;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.authority.asked.load(Ordering::SeqCst)
    }

    /// A time stamp over these bytes, past `exhibit`.
    pub fn stamp(&self, bytes: &[u8]) -> Vec<u8> {
        let folder = self.authority.folder.path();
        fs::write(folder.join("data"), bytes).unwrap();
        let mut query = openssl(folder, "ts -query -data data -sha256 -cert -out own.tsq");
        stdout_of(&mut query).unwrap();
        let query = fs::read(folder.join("own.tsq")).unwrap();
        self.authority.reply(&query, "sha256")
    }
}

/// openssl with these arguments, in the folder.
fn openssl(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stderr(Stdio::piped());
    command
}

impl Authority {
    /// What openssl answers, where it takes only imprints by `digest`.
    fn reply(&self, query: &[u8], digest: &str) -> Vec<u8> {
        let folder = self.folder.path();
        let config = CONFIG.replace("digests = sha256", &format!("digests = {digest}"));
        fs::write(folder.join("tsa.cnf"), config).unwrap();
        fs::write(folder.join("query.tsq"), query).unwrap();
        let reply = "ts -reply -config tsa.cnf -section tsa -queryfile query.tsq -signer tsa.pem \
                     -inkey tsa.key -out reply.tsr";
        stdout_of(&mut openssl(folder, reply)).unwrap();
        fs::read(folder.join("reply.tsr")).unwrap()
    }
}

impl Handler for Authority {
    fn handle(&self, head: &Head, body: &[u8]) -> Ending {
        self.asked.fetch_add(1, Ordering::SeqCst);
        // One openssl at a time: it counts in a file.
        let fault = self.fault.lock().unwrap();
        let known = head.method == "POST"
            && head.header("content-type") == Some("application/timestamp-query");
        let mut query = body.to_vec();
        let (mut status, mut digest) = (if known { 200 } else { 415 }, "sha256");
        match *fault {
            Some(TsaFault::Close) => return Ending::Close,
            Some(TsaFault::Status(other)) => status = other,
            Some(TsaFault::Refuse) => digest = "sha512",
            Some(TsaFault::OtherNonce) => query[NONCE_END] ^= 1,
            Some(TsaFault::OtherHash) => query[HASH_END] ^= 1,
            Some(TsaFault::Cut | TsaFault::Endless) | None => {}
        }
        let mut body = self.reply(&query, digest);
        match *fault {
            Some(TsaFault::Cut) => drop(body.pop()),
            Some(TsaFault::Endless) => body.resize(1 << 20, 0),
            _ => {}
        }
        let kind = ("content-type", "application/timestamp-reply");
        Ending::Answer(Response {
            status,
            headers: [(kind.0.to_owned(), kind.1.to_owned())].into(),
            body,
        })
    }
}
