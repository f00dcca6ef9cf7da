//! What a request to the gateway is for, by its method, path and query.
//!
//! ```text
//! /git/HOST[:PORT]/PATH/info/refs?service=git-upload-pack     what is there, to fetch it
//! /git/HOST[:PORT]/PATH/info/refs?service=git-receive-pack    the same, to push
//! /git/HOST[:PORT]/PATH/git-upload-pack                       a fetch
//! /git/HOST[:PORT]/PATH/git-receive-pack                      a push
//! /git/HOST[:PORT]/PATH/info/lfs/…                            large files
//! /git/-/key, /git/-/sign                                     the key that commits are signed with
//! ```
//!
//! Addresses come here from git's `url.….insteadOf`, which puts the gateway in the place of a
//! scheme only; so what stands for the host may be `user@host` (which is left out), or
//! `host:path` as ssh has it.

use std::fmt;

use http::{Method, Uri};

use crate::rules::{Host, Target};

/// The longest path of a repository, in bytes.
const MAX_PATH: usize = 1024;
/// The port of ssh: an address with it means the same host by https.
const SSH: u16 = 22;
/// Hosts on which capital letters of a path make no difference.
const ANY_CASE: [&str; 4] = ["github.com", "gitlab.com", "bitbucket.org", "codeberg.org"];

/// A repository elsewhere, by https.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its host and port.
    pub target: Target,
    /// Its path, which begins with a slash and does not end with one; as it was asked for, with
    /// `.git` or without.
    pub path: String,
}

impl Remote {
    /// The one that an `https://` or `ssh://` address names.
    pub fn from_url(url: &str) -> Option<Self> {
        let url = url::Url::parse(url).ok()?;
        let port = match url.scheme() {
            "https" => url.port().unwrap_or(443),
            // Nothing says where the same host has its https; where everybody has it, then.
            "ssh" => 443,
            _ => return None,
        };
        let host = url.host_str()?.parse().ok()?;
        Self::new(Target { host, port }, url.path())
    }

    fn new(target: Target, path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        let is_path = path.len() > 1
            && path.len() <= MAX_PATH
            && path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_part));
        is_path.then(|| Self { target, path: path.to_owned() })
    }

    /// Its path without what makes no difference.
    pub fn plain_path(&self) -> String {
        let path = self.path.strip_suffix(".git").unwrap_or(&self.path);
        let host = self.target.host.to_string();
        match ANY_CASE.contains(&&*host) {
            true => path.to_ascii_lowercase(),
            false => path.to_owned(),
        }
    }

    /// Whether both are the same repository.
    pub fn is(&self, other: &Self) -> bool {
        self.target.port == other.target.port
            && self.target.host == other.target.host
            && self.plain_path() == other.plain_path()
    }

    /// `host` or `host:port`, as a `Host` header has it.
    pub(super) fn authority(&self) -> String {
        match self.target.port {
            443 => self.target.host.to_string(),
            _ => self.target.to_string(),
        }
    }
}

/// As people write it: `github.com/owner/repo`.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.strip_suffix(".git").unwrap_or(&self.path);
        write!(f, "{}{path}", self.authority())
    }
}

/// Which way objects go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the workspace.
    Fetch,
    /// Out of it.
    Push,
}

impl Direction {
    /// The program on the other side.
    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::Fetch => "git-upload-pack",
            Self::Push => "git-receive-pack",
        }
    }
}

/// Which part of a fetch or push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What the other side has.
    Refs,
    /// The exchange itself.
    Exchange,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A part of a fetch or push.
    Git(Remote, Direction, Part),
    /// Large files.
    Lfs(Remote),
    /// The public key for signatures.
    Key,
    /// A signature.
    Sign,
}

/// Why a request is for nothing that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Not an address of a repository.
    Address,
    /// A way of speaking that is not passed on.
    Service,
}

/// Reads what a request is for. `path` is what follows `/git`.
pub(super) fn parse(method: &Method, uri: &Uri, path: &str) -> Result<Asked, Unknown> {
    match (method, path) {
        (&Method::GET, "/-/key") => return Ok(Asked::Key),
        (&Method::POST, "/-/sign") => return Ok(Asked::Sign),
        _ => {}
    }
    let rest = path.strip_prefix('/').ok_or(Unknown::Address)?;
    if rest.starts_with("-/") {
        // No host is called so.
        return Err(Unknown::Address);
    }
    let service = |path| split_end(path, method, uri);
    let (target, path) = host_and_path(rest).ok_or(Unknown::Address)?;
    let remote = |path: &str| Remote::new(target.clone(), path).ok_or(Unknown::Address);
    if let Some((path, direction, part)) = service(&path) {
        return Ok(Asked::Git(remote(path)?, direction, part));
    }
    if let Some((path, _)) = path.split_once("/info/lfs/") {
        return Ok(Asked::Lfs(remote(path)?));
    }
    remote(&path)?;
    Err(Unknown::Service)
}

/// The repository's path, the direction and the part, where the end of a path says them.
fn split_end<'p>(path: &'p str, method: &Method, uri: &Uri) -> Option<(&'p str, Direction, Part)> {
    let both = [Direction::Fetch, Direction::Push];
    if let Some(repository) = path.strip_suffix("/info/refs") {
        let asked = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("service="))?;
        let direction = both.into_iter().find(|direction| direction.service() == asked)?;
        return (*method == Method::GET).then_some((repository, direction, Part::Refs));
    }
    let (repository, last) = path.rsplit_once('/')?;
    let direction = both.into_iter().find(|direction| direction.service() == last)?;
    (*method == Method::POST).then_some((repository, direction, Part::Exchange))
}

/// Whether a part of a path means the same to everybody. Of what is encoded, only spaces are there
/// in names of repositories.
fn is_part(part: &str) -> bool {
    let plain = part.replace("%20", "_");
    !matches!(&*plain, "" | "." | "..")
        && plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~+@-".contains(&b))
}

/// Takes apart `[user@]host[:port]/path` and `[user@]host:path`.
fn host_and_path(text: &str) -> Option<(Target, String)> {
    let (authority, path) = text.split_once('/')?;
    // Whoever is named there has no say here.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port, path) = match authority.rsplit_once(':') {
        // The end of an address in brackets.
        Some((_, after)) if after.ends_with(']') => (authority, 443, format!("/{path}")),
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => {
            let port: u16 = port.parse().ok()?;
            (host, if port == SSH { 443 } else { port }, format!("/{path}"))
        }
        Some((host, first)) => (host, 443, format!("/{first}/{path}").replacen("//", "/", 1)),
        None => (authority, 443, format!("/{path}")),
    };
    let host: Host = host.parse().ok()?;
    Some((Target { host, port }, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, text: &str) -> String {
        let uri: Uri = text.parse().unwrap();
        let path = uri.path().strip_prefix("/git").unwrap().to_owned();
        match parse(&method, &uri, &path) {
            Ok(Asked::Git(remote, direction, part)) => {
                format!("{direction:?} {part:?} {}{}", remote.target, remote.path)
            }
            Ok(other) => format!("{other:?}"),
            Err(unknown) => format!("{unknown:?}"),
        }
    }

    #[test]
    fn every_way_of_writing_an_address_leads_to_its_host() {
        for (address, expected) in [
            ("github.com/o/r.git", "github.com:443/o/r.git"),
            ("github.com/o/r", "github.com:443/o/r"),
            ("GitHub.com:443/o/r", "github.com:443/o/r"),
            ("github.com:o/r.git", "github.com:443/o/r.git"),
            ("github.com:/o/r.git", "github.com:443/o/r.git"),
            ("git@github.com/o/r", "github.com:443/o/r"),
            ("git@github.com:22/o/r", "github.com:443/o/r"),
            ("me:secret@git.example:8443/a/b/c", "git.example:8443/a/b/c"),
            ("localhost:8443/o/r.git", "localhost:8443/o/r.git"),
            ("[::1]:8443/o/r", "[::1]:8443/o/r"),
        ] {
            let uri = format!("/git/{address}/info/refs?service=git-upload-pack");
            assert_eq!(ask(Method::GET, &uri), format!("Fetch Refs {expected}"), "{address}");
        }
    }

    #[test]
    fn only_the_smart_protocol_is_known() {
        let check = |method, path: &str, expected: &str| {
            let told = ask(method, &format!("/git/h.example{path}"));
            assert!(told.starts_with(expected), "{path}: {told}");
        };
        check(Method::GET, "/o/r/info/refs?service=git-receive-pack", "Push Refs");
        check(Method::POST, "/o/r/git-upload-pack", "Fetch Exchange");
        check(Method::POST, "/o/r/git-receive-pack", "Push Exchange");
        check(Method::POST, "/o/r.git/info/lfs/objects/batch", "Lfs");
        check(Method::GET, "/o/r/info/refs", "Service");
        check(Method::GET, "/o/r/info/refs?service=git-upload-archive", "Service");
        check(Method::POST, "/o/r/info/refs?service=git-upload-pack", "Service");
        check(Method::GET, "/o/r/git-upload-pack", "Service");
        check(Method::GET, "/o/r/HEAD", "Service");
        check(Method::PUT, "/o/r/git-receive-pack", "Service");
        check(Method::POST, "/git-receive-pack", "Address");
        check(Method::POST, "/o/../x/git-receive-pack", "Address");
        check(Method::POST, "/o/%2e%2e/x/git-receive-pack", "Address");
        check(Method::POST, "//o/r/git-receive-pack", "Address");
        check(Method::POST, "/o/r;a/git-receive-pack", "Address");
        assert_eq!(ask(Method::GET, "/git/-/key"), "Key");
        assert_eq!(ask(Method::POST, "/git/-/sign"), "Sign");
        assert_eq!(ask(Method::GET, "/git/-/sign"), "Address");
        assert_eq!(ask(Method::GET, "/git/a%20b/x"), "Address");
    }

    #[test]
    fn the_same_repository_is_known_by_its_names() {
        let is = |a: &str, b: &str| Remote::from_url(a).unwrap().is(&Remote::from_url(b).unwrap());
        assert!(is("https://github.com/o/r", "https://GitHub.com/O/R.git/"));
        assert!(is("https://github.com/o/r", "ssh://git@github.com/o/r.git"));
        assert!(!is("https://git.example/o/r", "https://git.example/O/r"));
        assert!(!is("https://git.example/o/r", "https://git.example:8443/o/r"));
        assert!(!is("https://git.example/o/r", "https://git.example/o/r/x"));
        assert!(Remote::from_url("https://git.example/").is_none());
        assert!(Remote::from_url("http://git.example/o/r").is_none());
        let shown = Remote::from_url("https://git.example:8443/o/r.git").unwrap().to_string();
        assert_eq!(shown, "git.example:8443/o/r");
    }
}
