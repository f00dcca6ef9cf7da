//! Providers that are reached by TLS.

use std::sync::Arc;

use boatyard_egress::gateway::{Api, Settings};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::fixture::{Fixture, KEY, SEEN, listen, provider, read_head};

/// The authority, and what it vouches for. Made for tests, valid until 2120.
const AUTHORITY: &[u8] = include_bytes!("certificates/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("certificates/localhost.pem");
const PRIVATE_KEY: &[u8] = include_bytes!("certificates/localhost.key");

/// A provider that says how it was asked; its port.
async fn serve() -> u16 {
    let key = PrivateKeyDer::from_pem_slice(PRIVATE_KEY).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust us ends here.
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let seen = read_head(&mut stream).await.replace(KEY, SEEN);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.len());
            stream.write_all(&[head.as_bytes(), seen.as_bytes()].concat()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn the_authorities_of_the_settings_are_trusted_and_no_stranger() {
    let port = serve().await;
    let start = |authorities: &[u8]| {
        let settings = Settings { authorities: authorities.to_vec(), ..Settings::default() };
        let base_url = format!("https://localhost:{port}");
        Fixture::start(settings, vec![provider("openai", Api::OpenAi, &base_url)])
    };
    let answer = start(AUTHORITY).ask("GET /openai/v1/models", "", "").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.body.contains(&format!("host: localhost:{port}\r\n")), "{}", answer.body);
    assert!(answer.body.contains(&format!("authorization: Bearer {SEEN}\r\n")));

    let answer = start(b"").ask("GET /openai/v1/models", "", "").await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(answer.body.contains("certificate"), "{}", answer.body);
}
