//! Certificates from a real authority program: pebble, of those who run Let's Encrypt.

use std::{process::Stdio, sync::Arc};

use boatyard_server::{
    listener::{self, Encryption},
    settings::Settings,
    tls::{
        Tls,
        acme::{Acme, Question},
    },
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{HERE, HOST, LONG, free_port, listens, program};

/// An authority, and the resolver by which it finds everything on this machine.
struct Authority {
    directory: String,
    _programs: [Child; 2],
}

/// Starts one that looks for hosts at these ports. Its own certificate is in `folder`.
async fn authority(folder: &std::path::Path, http: u16, tls: u16) -> Option<Authority> {
    let (pebble, names) = (program("pebble")?, program("pebble-challtestsrv")?);
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("ca.key"), made.signing_key.serialize_pem()).unwrap();
    let (port, management, resolver, other) = (free_port(), free_port(), free_port(), free_port());
    let config = json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": folder.join("ca.pem"),
        "privateKey": folder.join("ca.key"),
        "httpPort": http,
        "tlsPort": tls,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
    } });
    let file = folder.join("pebble.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let names = Command::new(names)
        .args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"])
        .args(["-dns01", &format!("127.0.0.1:{resolver}")])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
        .args(["-management", &format!("127.0.0.1:{other}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut pebble = Command::new(pebble)
        .args(["-config", &file.to_string_lossy()])
        .args(["-dnsserver", &format!("127.0.0.1:{resolver}")])
        .env("PEBBLE_VA_NOSLEEP", "1")
        .env("PEBBLE_AUTHZREUSE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listens(port, &mut pebble).await;
    let directory = format!("https://127.0.0.1:{port}/dir");
    Some(Authority { directory, _programs: [names, pebble] })
}

async fn a_certificate_is_got(question: Question) {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(authority) = authority(folder.path(), port, port).await else { return };
    let mut settings = Settings::default();
    settings.server.url = Some(format!("https://{HOST}"));
    settings.tls.acme = true;
    settings.tls.acme_directory.clone_from(&authority.directory);
    settings.tls.acme_email = Some("ops@example.com".to_owned());
    settings.egress.ca_file = Some(folder.path().join("ca.pem"));
    let stopping = CancellationToken::new();
    let tls = Tls::new().unwrap();
    let certificates = Arc::clone(&tls.certificates);
    let clear = listener::clear(&format!("https://{HOST}"), Some(Arc::clone(&certificates)));
    let serving = match question {
        Question::Http => tokio::spawn(listener::serve(listener, clear, stopping.clone())),
        Question::Tls => {
            let encryption = Some(Encryption { tls, clear });
            let router = axum::Router::new();
            tokio::spawn(listener::serve_over(listener, router, encryption, stopping.clone()))
        }
    };
    let acme = || Acme::new(&settings, folder.path(), question, Arc::clone(&certificates)).unwrap();
    assert!(certificates.current().is_none());
    timeout(LONG, acme().obtain()).await.unwrap().unwrap();
    let first = certificates.current().unwrap();
    assert!(first.is_for(HOST), "{:?}", first.names);
    assert!(first.left().is_some_and(|left| !left.is_zero()));
    // The account is used again, and the certificate is there after a restart.
    timeout(LONG, acme().obtain()).await.unwrap().unwrap();
    let tls = Tls::new().unwrap();
    let again = Arc::clone(&tls.certificates);
    Acme::new(&settings, folder.path(), question, Arc::clone(&again)).unwrap().load();
    assert!(again.current().is_some_and(|kept| kept.is_for(HOST)));
    // Where nobody answers, the authority's own words say so.
    stopping.cancel();
    serving.await.unwrap();
    let error = timeout(LONG, acme().obtain()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains(HOST), "{error}");
    let kept = certificates.current().unwrap();
    assert!(kept.is_for(HOST), "the one before is used on");
}

#[tokio::test]
async fn an_authority_asks_over_http() {
    a_certificate_is_got(Question::Http).await;
}

#[tokio::test]
async fn an_authority_asks_in_a_handshake() {
    a_certificate_is_got(Question::Tls).await;
}
