//! A connection to exactly the address that was checked.
//!
//! The host resolves a name, checks every address of the answer and dials one of those: the name is not
//! resolved again, so an answer that changes between check and connection has no effect. Every request has a
//! connection of its own, which is never reused; proxy settings of the environment are ignored.
//!
//! Invariant: [`Connector::connect`] is reached only by requests that the gate allowed, and it is the only
//! place where a name is resolved.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use qchost_catalog::special_purpose;
use qchost_gate::Principal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, crypto};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use url::Host;
use wasmtime_wasi_http::Error;

use super::target::Target;

/// Concurrent look-ups of all plugins: each occupies a thread until the system's resolver gives up.
const MAX_LOOKUPS: usize = 16;
/// Time limit of one look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of one address before the next is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections. Clones share the certificates and the limit on look-ups.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Shared>);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

struct Shared {
    lookups: Arc<Semaphore>,
    /// The system's certificates, read on first use.
    tls: OnceLock<TlsConnector>,
}

impl Connector {
    /// Trusts the certificates that the system trusts.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            tls: OnceLock::new(),
        }))
    }

    /// Connects for a caller, by TLS if the target says so. `listed` are the addresses that the grant names.
    pub(super) async fn connect(
        &self,
        principal: &Principal,
        target: &Target,
        listed: &[IpAddr],
        deadline: Instant,
    ) -> Result<Box<dyn Stream>, Error> {
        let addresses = self.addresses(target, deadline).await?;
        for address in &addresses {
            if let Some(what) = refused(*address, listed) {
                if principal.may_be_logged() {
                    tracing::warn!(
                        target: "http", plugin = %principal.plugin, invocation = %principal.invocation, host = %target.host, %address,
                        "refused: the address is {what}; a manifest may list it in `addresses` of its [[http]]"
                    );
                }
                return Err(Error::DestinationIpProhibited);
            }
        }
        let stream = dial(&addresses, target.port, deadline).await?;
        if !target.secure {
            return Ok(Box::new(stream));
        }
        let name = server_name(&target.host)?;
        let shaking = self.tls()?.connect(name, stream);
        match timeout_at(deadline, shaking).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(tls_error(error)),
            Err(_) => Err(Error::ConnectionTimeout),
        }
    }

    async fn addresses(&self, target: &Target, deadline: Instant) -> Result<Vec<IpAddr>, Error> {
        let name = match &target.host {
            Host::Ipv4(address) => return Ok(vec![(*address).into()]),
            Host::Ipv6(address) => return Ok(vec![(*address).into()]),
            Host::Domain(name) => name.clone(),
        };
        let port = target.port;
        let lookups = Arc::clone(&self.0.lookups);
        let lookup = async move {
            let permit = lookups.acquire_owned().await;
            // In a task of its own: an abandoned look-up continues in its thread, and holds its permit until
            // it ends.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((name, port)).await;
                drop(permit);
                found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
            });
            lookup.await.map_err(io::Error::other).flatten()
        };
        let until = deadline.min(Instant::now() + LOOKUP_TIMEOUT);
        match timeout_at(until, lookup).await {
            Err(_) => Err(Error::DnsTimeout),
            Ok(Err(error)) => {
                tracing::debug!(target: "http", host = %target.host, %error, "the name was not found");
                Err(Error::DnsError {
                    rcode: Some("the name was not found".to_owned()),
                    info_code: None,
                })
            }
            Ok(Ok(addresses)) if addresses.is_empty() => Err(Error::DestinationNotFound),
            Ok(Ok(addresses)) => Ok(addresses),
        }
    }

    fn tls(&self) -> Result<&TlsConnector, Error> {
        if let Some(tls) = self.0.tls.get() {
            return Ok(tls);
        }
        let tls = system().map_err(|error| {
            tracing::error!(target: "http", %error, "cannot use the system's certificates");
            Error::ConfigurationError
        })?;
        Ok(self.0.tls.get_or_init(|| tls))
    }

    /// A connector that trusts a test's certificate.
    #[cfg(test)]
    pub(super) fn trusting(roots: rustls::RootCertStore) -> Self {
        let connector = Self::new();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        drop(connector.0.tls.set(Arc::new(config).into()));
        connector
    }
}

/// Why a request may not go to an address; `None` if it may. `listed` are the addresses that the manifest grants; an
/// address must be equal to one of them, mapping to it is not enough.
fn refused(address: IpAddr, listed: &[IpAddr]) -> Option<&'static str> {
    if listed.contains(&address) {
        return None;
    }
    special_purpose(address)
}

fn provider() -> Arc<crypto::CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

fn system() -> Result<TlsConnector, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Domain(name) => {
            ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)
        }
        Host::Ipv4(address) => Ok(IpAddr::from(*address).into()),
        Host::Ipv6(address) => Ok(IpAddr::from(*address).into()),
    }
}

/// Connects to the first address that answers.
async fn dial(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        let dialling = TcpStream::connect(SocketAddr::new(*address, port));
        last = match timeout(left.min(DIAL_TIMEOUT), dialling).await {
            Ok(Ok(stream)) => {
                // A request is a single write; delaying it to coalesce more has no benefit.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    Error::DestinationUnavailable
                }
                _ => Error::Connect(error),
            },
            Err(_) => Error::ConnectionTimeout,
        };
    }
    Err(last)
}

fn tls_error(error: io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some((*alert).into()),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::Tls(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_listed_by_its_own_name_alone() {
        let listed = ["10.0.0.5".parse().unwrap()];
        for text in [
            "10.0.0.6",
            "::ffff:10.0.0.5",
            "64:ff9b::10.0.0.5",
            "::10.0.0.5",
        ] {
            let address = text.parse().unwrap();
            assert!(refused(address, &listed).is_some(), "{text}");
            assert_eq!(refused(address, &[address]), None, "{text}, listed");
        }
    }
}
