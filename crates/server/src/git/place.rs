//! Where a connection goes: a repository, or all below a place.
//!
//! `host[:port]/owner/repository`, `host/owner/*`, `host/*`. Of several that fit, the longest
//! counts.

use std::{fmt, str::FromStr};

use boatyard_egress::git::Remote;
use boatyard_model::name::RepositorySource;

/// A repository, or all repositories below a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

/// Not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no repository: name one as owner/repo or https://host/owner/repo, or all below a \
     place as host/owner/*"
)]
pub struct NoPlace(String);

impl Place {
    /// The one that a person means. `owner/repo` means one on `default_host`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str, default_host: &str) -> Result<Self, NoPlace> {
        let none = || NoPlace(text.chars().take(200).collect());
        let without = text.strip_prefix("https://").unwrap_or(text);
        // An address is read as if these had been followed.
        if without.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(none());
        }
        if let Some(above) = without.strip_suffix("/*") {
            // A whole host has no path of its own.
            let one = format!("https://{above}/x");
            let remote = Remote::from_url(&one).ok_or_else(none)?;
            let whole = of(&remote);
            let above = whole.strip_suffix('x').ok_or_else(none)?;
            return Ok(Self(format!("{above}*")));
        }
        // `host/owner/repo` is what we write ourselves.
        let written = without.split('/').next().is_some_and(|host| host.contains('.'))
            && without.split('/').count() > 2
            && !text.contains(':');
        let source = match written {
            true => format!("https://{without}"),
            false => text.to_owned(),
        };
        let source = RepositorySource::parse(&source, default_host).map_err(|_| none())?;
        Self::of_source(&source).ok_or_else(none)
    }

    /// Where a repository is, if it is reached over a network.
    pub fn of_source(source: &RepositorySource) -> Option<Self> {
        remote(source).map(|remote| Self::of(&remote))
    }

    /// Where a repository is.
    pub fn of(remote: &Remote) -> Self {
        Self(of(remote))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How well this, as it was kept, fits a repository; none if it does not.
    pub fn fits(kept: &str, repository: &Self) -> Option<usize> {
        match kept.strip_suffix('*') {
            Some(above) => repository.0.starts_with(above).then_some(above.len()),
            None => (kept == repository.0).then_some(kept.len() + 1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        Self::parse(text, "")
    }
}

fn of(remote: &Remote) -> String {
    let host = match remote.target.port {
        443 => remote.target.host.to_string(),
        _ => remote.target.to_string(),
    };
    format!("{host}{}", remote.plain_path())
}

/// A repository's address by https, if it is reached over a network.
pub fn remote(source: &RepositorySource) -> Option<Remote> {
    match source {
        RepositorySource::Https { url, .. } | RepositorySource::Ssh { url, .. } => {
            Remote::from_url(url)
        }
        RepositorySource::Path(_) | RepositorySource::Sent(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_in_many_ways_and_kept_in_one() {
        for (text, expected) in [
            ("o/r", "github.com/o/r"),
            ("O/R", "github.com/o/r"),
            ("https://github.com/o/r.git", "github.com/o/r"),
            ("git@github.com:o/r.git", "github.com/o/r"),
            ("ssh://git@git.example/a/b/c", "git.example/a/b/c"),
            ("https://git.example:8443/o/R", "git.example:8443/o/R"),
            ("git.example/o/r", "git.example/o/r"),
            ("github.com/o/*", "github.com/o/*"),
            ("https://GitHub.com/O/*", "github.com/o/*"),
            ("localhost:8443/*", "localhost:8443/*"),
        ] {
            let place = Place::parse(text, "github.com").unwrap();
            assert_eq!(place.as_str(), expected, "{text}");
        }
        for wrong in ["", "*", "/srv/git/x", "sent:x", "http://x/y/z", "a b/c", "x/../*"] {
            assert!(Place::parse(wrong, "github.com").is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_nearest_place_counts() {
        let one = Place::parse("o/r", "github.com").unwrap();
        let fits = |kept: &str| Place::fits(kept, &one);
        assert!(fits("github.com/o/r") > fits("github.com/o/*"));
        assert!(fits("github.com/o/*") > fits("github.com/*"));
        for other in ["github.com/o", "github.com/o/r2", "github.com/oo/*", "git.example/*"] {
            assert_eq!(fits(other), None, "{other}");
        }
    }
}
