//! A git server with a certificate of an authority that no system knows.

use std::sync::Arc;

use boatyard_model::{RepositoryId, name::RepositorySource};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::*;
use crate::{
    mirrors::{Mirrors, fetch::Network},
    settings::Settings,
};

/// The authority, and what it vouches for. Made for this test, valid until 2120.
const AUTHORITY: &str = include_str!("certificates/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("certificates/localhost.pem");
const KEY: &[u8] = include_bytes!("certificates/localhost.key");

/// A bare repository of one commit, as files that any web server can serve.
fn repository(at: &Path) {
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
            .args(args)
            .current_dir(at)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q", "-b", "main", "seed"]);
    git(&["-C", "seed", "commit", "-q", "--allow-empty", "-m", "first"]);
    git(&["clone", "-q", "--bare", "seed", "app.git"]);
    git(&["-C", "app.git", "update-server-info"]);
}

/// Serves the folder's files over TLS; its port.
async fn serve(folder: PathBuf) -> u16 {
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust us ends here.
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split([' ', '?']).nth(1).unwrap_or("/").trim_start_matches('/');
            let (status, body) = match std::fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn a_fetch_trusts_the_authorities_of_ca_file() {
    let dir = tempfile::tempdir().unwrap();
    repository(dir.path());
    let port = serve(dir.path().to_owned()).await;
    let source =
        RepositorySource::parse(&format!("https://localhost:{port}/app.git"), "github.com")
            .unwrap();
    let mirrors = Mirrors::open(dir.path()).unwrap();
    let mut settings = Settings::default();
    settings.repositories.allow_private = vec!["localhost".to_owned()];
    let network =
        |settings: &Settings| Network::new(Arc::new(settings.clone()), dir.path()).unwrap();

    let stranger = mirrors.fetch(RepositoryId::new(), &source, &network(&settings)).await;
    let told = crate::chain(&stranger.unwrap_err());
    assert!(told.contains("certificate"), "{told}");

    let ca_file = dir.path().join("company.pem");
    std::fs::write(&ca_file, AUTHORITY).unwrap();
    settings.egress.ca_file = Some(ca_file);
    let known = RepositoryId::new();
    mirrors.fetch(known, &source, &network(&settings)).await.unwrap();
    assert!(mirrors.base(known, Some("main")).await.unwrap().commit.is_some());
}

#[test]
fn a_file_without_certificates_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let check = |expected: &str| {
        let error = bundle(&path, dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("can't be read");
    std::fs::write(&path, "remember the milk").unwrap();
    check("holds no certificate");
}
