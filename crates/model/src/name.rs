//! Names that come from outside, parsed once and then passed as types.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a git reference name.
    #[error("`{0}` is not a valid branch name")]
    Branch(String),
    /// Not a git object id.
    #[error("`{0}` is not a commit id (40 or 64 hexadecimal digits)")]
    Commit(String),
    /// Not a repository address.
    #[error("`{text}` is not a repository: {reason}")]
    Repository {
        /// What was given.
        text: String,
        /// Why it is refused, with what would be taken.
        reason: &'static str,
    },
    /// Not an agent's name.
    #[error("`{0}` is not an agent name (small letters, digits and `-`, at most 40)")]
    Agent(String),
    /// Not an environment's name.
    #[error("`{0}` is not an environment's name (letters, digits, `.`, `_`, `-`, at most 60)")]
    Environment(String),
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

macro_rules! parsed {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A branch, without `refs/heads/`, valid by git's own rules (`git check-ref-format --branch`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Branch(String);

parsed!(Branch);

impl Branch {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full reference name.
    pub fn full(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl FromStr for Branch {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad_byte = |b: u8| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b);
        let bad_part = |part: &str| {
            part.is_empty()
                || part.starts_with('.')
                || part.ends_with('.')
                || part.ends_with(".lock")
        };
        let ok = !text.is_empty()
            && text.len() <= 200
            && !text.starts_with('-')
            && text != "@"
            && text != "HEAD"
            && !text.bytes().any(bad_byte)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.split('/').any(bad_part);
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Branch(shown(text))) }
    }
}

/// A git object id, 40 (SHA-1) or 64 (SHA-256) small hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId(String);

parsed!(CommitId);

impl CommitId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommitId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if ok { Ok(Self(text.to_ascii_lowercase())) } else { Err(NameError::Commit(shown(text))) }
    }
}

/// An agent's name in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(String);

parsed!(AgentName);

impl AgentName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = (1..=40).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-');
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Agent(shown(text))) }
    }
}

/// The name of an environment that a repository describes in a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentName(String);

parsed!(EnvironmentName);

impl EnvironmentName {
    /// The folder of those that are not [`Self::DEFAULT`], in a repository.
    pub const FOLDER: &str = ".boatyard/environments";
    /// The name of the one that is used where nobody names one.
    pub const DEFAULT: &str = "default";

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one that is used where nobody names one: a repository need not have it.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    /// The file that describes it, in a repository.
    pub fn path(&self) -> String {
        match self.is_default() {
            true => ".boatyard/environment.toml".to_owned(),
            false => format!("{}/{}.toml", Self::FOLDER, self.0),
        }
    }
}

impl Default for EnvironmentName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for EnvironmentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = (1..=60).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !text.starts_with(['.', '-']);
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Environment(shown(text))) }
    }
}

/// Where a repository comes from.
///
/// No other transport than these exists for Boatyard: `file:`, `ext:` and `git:` addresses do not
/// parse, and neither does anything that a git command line could take for an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RepositorySource {
    /// `https://host[:port]/path`; never with a user or password in it.
    Https {
        /// The whole address, without a trailing slash.
        url: String,
        /// Its host, in small letters.
        host: String,
    },
    /// `ssh://[user@]host[:port]/path` or `user@host:path`.
    Ssh {
        /// In the `ssh://` form.
        url: String,
        /// Its host, in small letters.
        host: String,
    },
    /// An absolute path on the server's machine; the settings say which roots may be read.
    Path(String),
    /// A repository that the client sent as a bundle, under a name of the client's own.
    Sent(String),
}

impl RepositorySource {
    /// Parses what a person wrote. `owner/repo` means `https://{default_host}/owner/repo`.
    ///
    /// # Errors
    /// When it is none of the forms above.
    pub fn parse(text: &str, default_host: &str) -> Result<Self, NameError> {
        let error = |reason| NameError::Repository { text: shown(&without_user(text)), reason };
        if text.is_empty() || text.len() > 1024 {
            return Err(error("it must have 1 to 1024 characters"));
        }
        if text.starts_with('-') || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(error("it has a character that no address has"));
        }
        if let Some(name) = text.strip_prefix("sent:") {
            return sent_name(name).map(Self::Sent).ok_or_else(|| {
                error("a sent repository's name is letters, digits, `.`, `_`, `-`")
            });
        }
        if text.starts_with('/') {
            let climbs = text.split('/').any(|part| part == "..");
            return if climbs {
                Err(error("a path must not contain `..`"))
            } else {
                Ok(Self::Path(trimmed(text)))
            };
        }
        if let Some(rest) = text.strip_prefix("https://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            if authority.contains('@') {
                return Err(error(
                    "leave out the user and password; give the server a token instead",
                ));
            }
            let host = host_of(authority).ok_or_else(|| error("its host name is not valid"))?;
            if !path_ok(path) {
                return Err(error("its path is not valid"));
            }
            let url = trimmed(&format!("https://{}/{path}", authority.to_ascii_lowercase()));
            return Ok(Self::Https { url, host });
        }
        if let Some(rest) = text.strip_prefix("ssh://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            return ssh(authority, path).ok_or_else(|| error("expected ssh://user@host/path"));
        }
        if text.contains("://") {
            return Err(error("only https:// and ssh:// addresses are fetched"));
        }
        if let Some((authority, path)) = text.split_once(':') {
            return ssh(authority, path).ok_or_else(|| error("expected user@host:path"));
        }
        let owner_and_name: Vec<&str> = text.trim_end_matches('/').split('/').collect();
        match owner_and_name[..] {
            [owner, name] if sent_name(owner).is_some() && sent_name(name).is_some() => {
                Ok(Self::Https {
                    url: format!("https://{default_host}/{owner}/{name}"),
                    host: default_host.to_ascii_lowercase(),
                })
            }
            _ => Err(error(
                "expected owner/repo, an https:// or ssh:// address, or an absolute path",
            )),
        }
    }

    /// The name of the folder that it gets in a workspace: the last part of its address.
    pub fn folder(&self) -> String {
        let address = match self {
            Self::Https { url, .. } | Self::Ssh { url, .. } => url,
            Self::Path(path) => path,
            Self::Sent(name) => sent_folder(name),
        };
        let last = address.rsplit('/').next().unwrap_or_default();
        let last = last.strip_suffix(".git").unwrap_or(last);
        let kept: String = last
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(64)
            .collect();
        let kept = kept.trim_start_matches(['.', '-']);
        if kept.is_empty() { "repository".to_owned() } else { kept.to_owned() }
    }
}

impl fmt::Display for RepositorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https { url, .. } | Self::Ssh { url, .. } => f.write_str(url),
            Self::Path(path) => f.write_str(path),
            Self::Sent(name) => write!(f, "sent:{name}"),
        }
    }
}

/// An address for an error, without what may be a password in it.
fn without_user(text: &str) -> std::borrow::Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]).into(),
        None => text.into(),
    }
}

fn trimmed(text: &str) -> String {
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
}

fn sent_name(name: &str) -> Option<String> {
    let ok = (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with(['.', '-']);
    ok.then(|| name.to_owned())
}

/// A sent repository's name without the eight digits that tell clients of the same name apart.
fn sent_folder(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((folder, digits))
            if digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            folder
        }
        _ => name,
    }
}

/// The host of `host[:port]`, if both are well formed.
fn host_of(authority: &str) -> Option<String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_ok = match literal {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host.split('.').all(|label| {
                    !label.is_empty()
                        && !label.starts_with('-')
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
        }
    };
    (port_ok && host_ok).then(|| host.to_ascii_lowercase())
}

fn path_ok(path: &str) -> bool {
    !path.is_empty()
        && !path.split('/').any(|part| part == "..")
        && !path.contains(['?', '#', '\\'])
}

fn ssh(authority: &str, path: &str) -> Option<RepositorySource> {
    let (user, address) = match authority.split_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    let user_ok = user.is_none_or(|u| {
        !u.is_empty()
            && !u.starts_with('-')
            && u.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    let host = host_of(address)?;
    let path = path.trim_start_matches('/');
    if !user_ok || !path_ok(path) {
        return None;
    }
    let user = user.map(|u| format!("{u}@")).unwrap_or_default();
    let url = trimmed(&format!("ssh://{user}{}/{path}", address.to_ascii_lowercase()));
    Some(RepositorySource::Ssh { url, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match RepositorySource::parse(text, "github.com") {
            Ok(source) => format!("{source} in {}", source.folder()),
            Err(_) => "refused".to_owned(),
        };
        assert_eq!(got, expected, "for {text}");
    }

    #[test]
    fn addresses_are_taken_in_the_forms_that_people_write() {
        check("rust-lang/log", "https://github.com/rust-lang/log in log");
        check("https://Example.com:8443/a/b.git/", "https://example.com:8443/a/b.git in b");
        check("git@example.com:a/b.git", "ssh://git@example.com/a/b.git in b");
        check("ssh://example.com/a/b", "ssh://example.com/a/b in b");
        check("/srv/git/app", "/srv/git/app in app");
        check("sent:app-1f2e", "sent:app-1f2e in app-1f2e");
        check("sent:app-1f2e3d4c", "sent:app-1f2e3d4c in app");
    }

    #[test]
    fn what_git_could_misread_is_refused() {
        for text in [
            "",
            "-u",
            "--upload-pack=x",
            "ext::sh -c id",
            "file:///etc",
            "git://host/x",
            "http://host/x",
            "https://user:pw@host/x",
            "https://host",
            "https://-host/x",
            "/srv/../etc",
            "a/b/c",
            "a",
            "-o@host:x",
            "host:",
            "u@-oProxyCommand=x:y",
            "https://host/a\nb",
            "sent:../x",
            "ssh://h/a/../b",
        ] {
            check(text, "refused");
        }
    }

    #[test]
    fn an_error_repeats_no_password() {
        for text in ["https://u:secret@host/x", "http://u:secret@host", "ssh://u:se@cret@h/x"] {
            let error = RepositorySource::parse(text, "github.com").unwrap_err().to_string();
            assert!(!error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn an_environment_s_name_is_a_file_of_one_folder() {
        let path = |name: &str| name.parse::<EnvironmentName>().map(|name| name.path());
        assert_eq!(path("default").unwrap(), ".boatyard/environment.toml");
        assert_eq!(path("CI_gpu-1.2").unwrap(), ".boatyard/environments/CI_gpu-1.2.toml");
        assert_eq!(EnvironmentName::default().path(), ".boatyard/environment.toml");
        for bad in ["", "../x", "a/b", ".x", "-x", "a b", "a:b", "a\0", &"x".repeat(61)] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn branches_follow_git_s_own_rules() {
        for good in ["main", "feature/x", "boatyard/tsk_1-2", "v1.0"] {
            assert!(good.parse::<Branch>().is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a..b", "a b", "a~1", "@", "HEAD", "a/", "/a", "a//b", ".a", "a.lock",
            "x@{1}", "a\\b",
        ] {
            assert!(bad.parse::<Branch>().is_err(), "{bad}");
        }
    }
}
