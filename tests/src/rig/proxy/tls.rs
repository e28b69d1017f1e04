//! A certificate authority for one proxy: made in memory, gone with it.

use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    pub(super) ca_pem: String,
}

impl Tls {
    pub(super) fn new(names: &[&str]) -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "Authority of a test");
        let ca_pem = authority
            .self_signed(&authority_key)
            .expect("an authority")
            .pem();

        let names: Vec<String> = ["localhost", "127.0.0.1"]
            .iter()
            .chain(names)
            .map(ToString::to_string)
            .collect();
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(names).expect("names of hosts");
        let certificate = server
            .signed_by(&key, &Issuer::new(authority, authority_key))
            .expect("a certificate");

        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows the versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("the key fits the certificate");
        Self {
            config: Arc::new(config),
            ca_pem,
        }
    }

    pub(super) fn wrap(&self, socket: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        let session =
            ServerConnection::new(Arc::clone(&self.config)).expect("a valid configuration");
        StreamOwned::new(session, socket)
    }
}
