//! How AWS is reached, by both programs: our own resolver, bundled roots, no proxy. None of it comes from the machine.
//! [`post`] asks somebody else once, in the same way.
//!
//! getaddrinfo of a static glibc would load the machine's NSS libraries (`docs/decisions/0002-static-glibc.md`).

mod post;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

pub use post::{Answer, Call, PostError, post};

/// The resolver of every VPC (AWS: "Amazon DNS server", link-local address).
pub const VPC_RESOLVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)), 53);
/// Time for one query, and queries for one name.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const QUERIES: usize = 2;

/// The way to AWS.
#[derive(Clone, Debug, Default)]
pub struct NetworkOptions {
    /// Name servers to ask, one after the other.
    pub nameservers: Vec<SocketAddr>,
    /// Certificates in PEM that are trusted beside the bundled roots.
    pub ca_bundle: Option<Vec<u8>>,
}

/// The name servers that the text of a resolv.conf lists.
pub fn nameservers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
}

/// Why a CA bundle is refused.
#[derive(Debug, thiserror::Error)]
#[error("it holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)")]
pub struct PemError;

/// Whether `pem` holds a certificate at all: the TLS library would only say so much later, and by a panic.
///
/// # Errors
/// When it does not.
pub fn check_pem(pem: &[u8]) -> Result<(), PemError> {
    let text = String::from_utf8_lossy(pem);
    let body = text
        .split("-----BEGIN CERTIFICATE-----")
        .nth(1)
        .and_then(|rest| rest.split("-----END").next());
    let der = body.and_then(|body| {
        BASE64
            .decode(body.split_whitespace().collect::<String>())
            .ok()
    });
    // Every certificate is a DER sequence.
    if der.is_some_and(|der| der.first() == Some(&0x30)) {
        Ok(())
    } else {
        Err(PemError)
    }
}

/// The HTTP client of the program, and the resolver that it uses.
///
/// # Errors
/// When the certificates can not be used.
pub fn client(options: &NetworkOptions) -> Result<(SharedHttpClient, Resolver), String> {
    let context = trust(options)?;
    let resolver = Resolver::new(options);
    let client = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_with_resolver(resolver.clone());
    Ok((client, resolver))
}

/// The bundled roots, and the certificates that are trusted beside them.
fn trust(options: &NetworkOptions) -> Result<TlsContext, String> {
    let mut roots = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        roots.push_str("-----BEGIN CERTIFICATE-----\n");
        roots.push_str(&BASE64.encode(root));
        roots.push_str("\n-----END CERTIFICATE-----\n");
    }
    let mut trusted = TrustStore::empty()
        .with_native_roots(false)
        .with_pem_certificate(roots);
    if let Some(pem) = &options.ca_bundle {
        trusted = trusted.with_pem_certificate(pem.clone());
    }
    TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| error.to_string())
}

/// Resolves names by itself.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    used: Arc<Mutex<Option<SocketAddr>>>,
}

impl Resolver {
    fn new(options: &NetworkOptions) -> Self {
        Self {
            servers: options.nameservers.clone(),
            used: Arc::default(),
        }
    }

    /// The name server that answered last.
    pub fn used(&self) -> Option<SocketAddr> {
        self.used.lock().ok().and_then(|used| *used)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveDnsError> {
        if name == "localhost" {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        }
        // Absolute, so that no search domain of the host is ever tried.
        let absolute = format!("{}.", name.trim_end_matches('.'));
        let mut failures = Vec::new();
        for server in &self.servers {
            match ask(*server, &absolute).await {
                Ok(addresses) if !addresses.is_empty() => {
                    if let Ok(mut used) = self.used.lock() {
                        *used = Some(*server);
                    }
                    return Ok(addresses);
                }
                Ok(_) => failures.push(format!("{server} knows no address of {name}")),
                Err(error) => failures.push(format!("{server}: {error}")),
            }
        }
        Err(ResolveDnsError::new(format!(
            "{name} can not be resolved ({})",
            failures.join("; ")
        )))
    }
}

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(self.resolve(name))
    }
}

async fn ask(server: SocketAddr, name: &str) -> Result<Vec<IpAddr>, String> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = QUERY_TIMEOUT;
    options.attempts = QUERIES;
    options.use_hosts_file = ResolveHosts::Never;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let answer = resolver
        .lookup_ip(name)
        .await
        .map_err(|error| error.to_string())?;
    Ok(answer.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_a_certificate_is_refused_before_it_is_used() {
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                BASE64.encode(der)
            )
        };
        assert!(check_pem(pem(&[0x30, 0x82, 1, 2]).as_bytes()).is_ok());
        for wrong in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----",
            &pem(b"junk"),
            "-----BEGIN PRIVATE KEY-----\nMA==\n",
        ] {
            assert!(check_pem(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_addresses_of_a_resolv_conf_count() {
        let text = "search x\nnameserver 192.0.2.1\n# nameserver 192.0.2.2\nnameserver evil\nnameserver 2001:db8::1\n";
        let servers: Vec<String> = nameservers(text).map(|ip| ip.to_string()).collect();
        assert_eq!(servers, ["192.0.2.1", "2001:db8::1"]);
    }
}
