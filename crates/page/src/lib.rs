//! The page's build, embedded in the binary.
//!
//! `build.rs` makes it of `web/`. [`get`] finds a file by its path below the server's address. A
//! build without the page (see `build.rs`) answers with one plain page that says so and how to
//! get the real one; everything else works without it.
//!
//! Text is stored as Brotli only: a client that takes it gets it as it is ([`Encoding::Brotli`]),
//! for others [`Asset::decoded`] unpacks it.

use std::{borrow::Cow, io::Read as _};

struct File {
    name: &'static str,
    bytes: &'static [u8],
    compressed: bool,
}

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Where Vite puts what carries a hash of its content in its name.
const HASHED: &str = "assets/";

const INDEX: &str = "index.html";

/// How the bytes of an asset are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// `Content-Encoding: br`.
    Brotli,
}

/// How long a browser may keep an asset without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// For good: another content has another name.
    Immutable,
    /// It must ask each time.
    AskAgain,
}

/// A file of the page.
#[derive(Debug, Clone)]
pub struct Asset {
    /// Its content, in `encoding`.
    pub bytes: Cow<'static, [u8]>,
    /// The value of `Content-Type`.
    pub mime: &'static str,
    /// How `bytes` are stored.
    pub encoding: Encoding,
    /// How long it may be kept.
    pub keeping: Keeping,
}

impl Asset {
    /// The same for a client that does not take Brotli.
    #[must_use]
    pub fn decoded(self) -> Self {
        if self.encoding == Encoding::Plain {
            return self;
        }
        let mut plain = Vec::with_capacity(self.bytes.len() * 4);
        brotli_decompressor::Decompressor::new(&*self.bytes, 1 << 14)
            .read_to_end(&mut plain)
            .expect("the build packed it");
        Self { bytes: plain.into(), encoding: Encoding::Plain, ..self }
    }
}

/// Whether the page itself is in this build, and not the placeholder.
pub fn is_built() -> bool {
    !FILES.is_empty()
}

/// The file at `path` (`index.html`, `assets/index-….js`), without a slash before it.
pub fn get(path: &str) -> Option<Asset> {
    if let Some(file) = FILES.iter().find(|file| file.name == path) {
        return Some(Asset {
            bytes: file.bytes.into(),
            mime: mime(path),
            encoding: if file.compressed { Encoding::Brotli } else { Encoding::Plain },
            keeping: if path.starts_with(HASHED) { Keeping::Immutable } else { Keeping::AskAgain },
        });
    }
    (path == INDEX && !is_built()).then(placeholder)
}

fn placeholder() -> Asset {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Boatyard</title>\
         <body style=\"font:1rem/1.6 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem\">\
         <h1>The page is not in this build</h1><p>{MISSING}</p>\
         <p>The server works: so do the command line (<code>boatyard run</code>) and \
         <a href=\"/api/docs\">the API</a>. For the page build with <code>make run</code>, or with \
         <code>BOATYARD_PAGE=require</code>; for work on the page itself there is \
         <code>make dev</code>.</p></body></html>"
    );
    Asset {
        bytes: html.into_bytes().into(),
        mime: mime(INDEX),
        encoding: Encoding::Plain,
        keeping: Keeping::AskAgain,
    }
}

fn mime(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_page() {
        let index = get("index.html").unwrap().decoded();
        assert_eq!(index.mime, "text/html; charset=utf-8");
        assert_eq!(index.keeping, Keeping::AskAgain);
        let text = String::from_utf8(index.bytes.into_owned()).unwrap();
        assert!(text.to_lowercase().starts_with("<!doctype html>"));
        assert!(text.contains("<title>Boatyard</title>"));
    }

    #[test]
    fn a_build_has_all_that_its_index_names() {
        for file in FILES {
            let asset = get(file.name).unwrap();
            assert_ne!(asset.mime, "application/octet-stream", "{}", file.name);
            assert_eq!(asset.keeping == Keeping::Immutable, file.name.starts_with("assets/"));
            assert!(!asset.decoded().bytes.is_empty());
        }
        let index = get("index.html").unwrap().decoded();
        let text = String::from_utf8(index.bytes.into_owned()).unwrap();
        for name in text.split('"').filter_map(|part| part.strip_prefix("/assets/")) {
            assert!(get(&format!("assets/{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["", "/", "/index.html", "assets/", "../Cargo.toml", "favicon.ico"] {
            assert!(get(path).is_none(), "{path}");
        }
    }
}
