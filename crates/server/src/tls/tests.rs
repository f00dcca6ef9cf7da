//! Certificates from files: good ones, and what is none.

use std::fs;

use super::*;

/// A certificate of its own making, in files of a folder.
fn make(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

#[test]
fn a_certificate_is_read_with_what_it_says_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = make(folder.path(), "boat.example.com");
    let read = Certificate::read(&certificate, &key).unwrap();
    assert!(read.is_for("Boat.example.com"));
    assert!(!read.is_for("example.com") && !read.is_for("a.boat.example.com"));
    assert!(read.left().is_some_and(|left| left > Duration::from_secs(3600)));
    let (certificate, key) = make(folder.path(), "*.example.com");
    let wild = Certificate::read(&certificate, &key).unwrap();
    assert!(wild.is_for("boat.example.com"));
    assert!(!wild.is_for("example.com") && !wild.is_for("a.boat.example.com"));
}

#[test]
fn what_is_no_certificate_with_its_key_is_refused_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = make(folder.path(), "boat.example.com");
    let error = |certificate: &Path, key: &Path| {
        crate::chain(&Certificate::read(certificate, key).unwrap_err())
    };
    let gone = folder.path().join("gone.pem");
    assert!(error(&gone, &key).contains("gone.pem can't be read"));
    assert!(error(&certificate, &gone).contains("gone.pem can't be read"));
    assert!(error(&key, &certificate).contains("holds no certificate"));
    assert!(error(&certificate, &certificate).contains("holds no key"));
    let other = tempfile::tempdir().unwrap();
    let (_, foreign) = make(other.path(), "boat.example.com");
    assert!(error(&certificate, &foreign).contains("don't belong together"));
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    assert!(error(&certificate, &key).contains("holds no certificate"));
}
