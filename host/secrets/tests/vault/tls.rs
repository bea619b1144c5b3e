//! TLS: whose certificate is believed.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
}

impl Setup {
    /// Writes a file of certificates.
    fn ca_file(&self, name: &str, key: &CertifiedKey<KeyPair>) -> PathBuf {
        let encoded = BASE64_STANDARD.encode(key.cert.der());
        self.write(
            name,
            &format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----"),
        )
    }

    /// Puts TLS before Vault; gives its port.
    async fn serve_tls(&self, key: &CertifiedKey<KeyPair>) -> u16 {
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = self
            .vault
            .address()
            .trim_start_matches("http://")
            .to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, plain) = (acceptor.clone(), plain.clone());
                tokio::spawn(async move {
                    // A client that does not believe the certificate goes away here.
                    if let Ok(mut outside) = acceptor.accept(stream).await {
                        let mut inside = TcpStream::connect(plain).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    }
                });
            }
        });
        port
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_configured_authority_is_believed() {
    let setup = Setup::new().await;
    let key = certificate();
    let port = setup.serve_tls(&key).await;
    let right = setup.ca_file("right.pem", &key);
    let wrong = setup.ca_file("wrong.pem", &certificate());
    let address = format!("https://localhost:{port}");
    let other_name = format!("https://127.0.0.1:{port}");
    for more in [
        json!({"address": address}),
        json!({"address": address, "ca-file": wrong}),
        json!({"address": other_name, "ca-file": right}),
    ] {
        let error = password(&setup.secrets_with(setup.app_role(), more.clone()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, VaultError::Unreachable { .. }),
            "{more}: {error}"
        );
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert_eq!(setup.vault.seen().len(), 0, "nothing was sent");
    let more = json!({"address": address, "ca-file": right});
    let secrets = setup.secrets_with(setup.app_role(), more);
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
}
