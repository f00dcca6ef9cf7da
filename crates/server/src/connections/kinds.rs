//! What Boatyard knows of some services: where their credentials go, and how they look.

use boatyard_egress::broker::Shape;

/// A kind of connection.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The hosts.
    pub hosts: &'static [&'static str],
    /// The paths; all if there are none.
    pub paths: &'static [&'static str],
    /// Where in a request.
    pub places: &'static [&'static str],
    /// The variables that get its placeholder.
    pub variables: &'static [&'static str],
    /// Variables beside those, with what they hold.
    pub beside: &'static [(&'static str, &'static str)],
    /// How a placeholder looks.
    pub shape: Shape,
    /// Whether requests without a credential get it.
    pub always: bool,
    /// A path at the first host that tells by 401 or 403 that a value is not known.
    pub check: Option<&'static str>,
    /// Whether Boatyard itself uses it, so that it may be bound to no host and no place.
    pub own_use: bool,
}

const PLAIN: Shape = Shape { prefix: "", length: 0 };

const GENERIC: Kind = Kind {
    name: "generic",
    about: "any service: say hosts and places",
    hosts: &[],
    paths: &[],
    places: &[],
    variables: &[],
    beside: &[],
    shape: PLAIN,
    always: false,
    check: None,
    own_use: false,
};

/// Every kind. Those of services are not for git itself: the git gateway has its own way.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "github",
        about: "a token of GitHub, for its API",
        hosts: &["api.github.com", "uploads.github.com"],
        places: &["bearer", "header:authorization=token {}", "basic"],
        variables: &["GITHUB_TOKEN", "GH_TOKEN"],
        shape: Shape { prefix: "ghp_", length: 40 },
        check: Some("/rate_limit"),
        ..GENERIC
    },
    Kind {
        name: "gitlab",
        about: "a token of GitLab, for its API",
        hosts: &["gitlab.com"],
        paths: &["/api/*"],
        places: &["header:private-token", "bearer"],
        variables: &["GITLAB_TOKEN"],
        shape: Shape { prefix: "glpat-", length: 0 },
        check: Some("/api/v4/user"),
        ..GENERIC
    },
    Kind {
        name: "npm",
        about: "a token of the npm registry",
        hosts: &["registry.npmjs.org"],
        places: &["bearer"],
        variables: &["NPM_TOKEN", "NODE_AUTH_TOKEN"],
        shape: Shape { prefix: "npm_", length: 40 },
        always: true,
        check: Some("/-/whoami"),
        ..GENERIC
    },
    Kind {
        name: "pypi",
        about: "a token for uploads to PyPI",
        hosts: &["upload.pypi.org"],
        paths: &["/legacy/*"],
        places: &["basic:__token__"],
        variables: &["TWINE_PASSWORD"],
        beside: &[("TWINE_USERNAME", "__token__")],
        shape: Shape { prefix: "pypi-", length: 0 },
        ..GENERIC
    },
    Kind {
        name: "cargo",
        about: "a token of crates.io",
        hosts: &["crates.io"],
        paths: &["/api/v1/*"],
        places: &["header:authorization"],
        variables: &["CARGO_REGISTRY_TOKEN"],
        shape: Shape { prefix: "cio", length: 35 },
        check: Some("/api/v1/me"),
        ..GENERIC
    },
    Kind {
        name: "docker",
        about: "a password or token of Docker Hub; needs a user name",
        hosts: &["auth.docker.io"],
        places: &["basic"],
        variables: &["DOCKER_TOKEN"],
        shape: Shape { prefix: "dckr_pat_", length: 0 },
        always: true,
        ..GENERIC
    },
    Kind {
        name: "openai",
        about: "a key of a service that speaks OpenAI's interface; say its host",
        paths: &["/v1/*"],
        places: &["bearer"],
        shape: Shape { prefix: "sk-", length: 51 },
        check: Some("/v1/models"),
        ..GENERIC
    },
    Kind {
        name: "git",
        about: "a token, a GitHub App or OAuth, for `boatyard repository connect` alone",
        own_use: true,
        ..GENERIC
    },
    Kind {
        name: "model",
        about: "a key, subscription or service account for `connection` in [providers.NAME] alone",
        own_use: true,
        ..GENERIC
    },
    GENERIC,
];

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// How a placeholder of this kind looks; of one that a newer release knows, plain.
pub fn shape(name: &str) -> Shape {
    kind(name).map_or(PLAIN, |kind| kind.shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kinds_know_makes_sense() {
        for kind in KINDS {
            for place in kind.places {
                place.parse::<boatyard_egress::broker::Place>().unwrap();
            }
            for host in kind.hosts {
                host.parse::<boatyard_egress::rules::HostPattern>().unwrap();
            }
            for path in kind.paths {
                path.parse::<boatyard_egress::rules::PathPattern>().unwrap();
            }
        }
    }
}
