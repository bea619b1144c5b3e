//! Connections to real servers on this machine. The interaction with the gate and a guest is tested
//! from inside Wasm, in `tests/outgoing/main.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qchost_gate::Principal;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use wasmtime_wasi_http::Error;

use super::connect::Connector;
use super::target::Target;
use crate::calls::CallContext;

/// The caller of the connections.
fn principal() -> Principal {
    CallContext::describing_for_test().principal().clone()
}

/// A server that greets every client.
struct Server {
    port: u16,
    accepted: Arc<AtomicUsize>,
    certificate: CertificateDer<'static>,
}

impl Server {
    /// Starts one with a certificate for a name; it uses TLS only if `tls`.
    async fn start(name: &str, tls: bool) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::AcqRel);
                if tls {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        stream.write_all(b"hello").await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                } else {
                    stream.write_all(b"this is no TLS").await.unwrap();
                }
            }
        });
        Self {
            port,
            accepted,
            certificate,
        }
    }

    fn trusted(&self) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Connector::trusting(roots)
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }
}

fn target(address: &str) -> Target {
    Target::of(&address.parse().unwrap()).unwrap()
}

fn local() -> Vec<IpAddr> {
    vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn word(connector: &Connector, address: &str) -> Result<String, Error> {
    let mut stream = connector
        .connect(&principal(), &target(address), &local(), soon())
        .await?;
    let mut word = String::new();
    stream.read_to_string(&mut word).await.unwrap();
    Ok(word)
}

#[tokio::test]
async fn a_certificate_has_to_be_for_the_name_and_trusted() {
    let named = Server::start("localhost", true).await;
    let address = format!("https://localhost:{}/", named.port);
    assert_eq!(word(&named.trusted(), &address).await.unwrap(), "hello");

    let other = Server::start("other.example", true).await;
    let wrong = format!("https://localhost:{}/", other.port);
    let error = word(&other.trusted(), &wrong).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");

    let error = word(&other.trusted(), &address).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");

    let plain = Server::start("localhost", false).await;
    let address = format!("https://localhost:{}/", plain.port);
    let error = word(&plain.trusted(), &address).await.unwrap_err();
    assert!(matches!(error, Error::TlsProtocolError), "{error}");
}

#[tokio::test]
async fn an_address_has_a_certificate_of_its_own() {
    let server = Server::start("127.0.0.1", true).await;
    let address = format!("https://127.0.0.1:{}/", server.port);
    assert_eq!(word(&server.trusted(), &address).await.unwrap(), "hello");
    let address = format!("https://localhost:{}/", server.port);
    let error = word(&server.trusted(), &address).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");
}

#[tokio::test]
async fn an_address_that_is_not_listed_is_not_dialled() {
    let server = Server::start("localhost", true).await;
    let elsewhere = vec!["127.0.0.2".parse().unwrap()];
    for host in [
        "localhost",
        "127.0.0.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ] {
        let target = target(&format!("https://{host}:{}/", server.port));
        for listed in [&[][..], &elsewhere] {
            let refused = server
                .trusted()
                .connect(&principal(), &target, listed, soon())
                .await;
            assert!(
                matches!(refused, Err(Error::DestinationIpProhibited)),
                "{host}"
            );
        }
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let connector = Connector::new();
    let error = word(&connector, "http://no-such-name.invalid/")
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::DnsError { .. } | Error::DestinationNotFound),
        "{error}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The listener never accepts, so no handshake is answered.
    let target = target(&format!("https://127.0.0.1:{port}/"));
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(300);
    let silent = Server::start("localhost", true).await;
    let waited = silent
        .trusted()
        .connect(&principal(), &target, &local(), deadline)
        .await;
    assert!(matches!(waited, Err(Error::ConnectionTimeout)));
    assert!(begun.elapsed() < Duration::from_secs(10));

    drop(listener);
    let error = word(&connector, &format!("http://127.0.0.1:{port}/"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ConnectionRefused), "{error}");
}
