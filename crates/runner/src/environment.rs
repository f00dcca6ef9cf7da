//! The environment of everything that runs in a workspace, built in one place from nothing.

use std::{collections::BTreeMap, path::Path};

use boatyard_sandbox::{CA_BUNDLE, JAVA_TRUST};

use crate::layout::Layout;

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The only way out: the egress listener inside the workspace.
const PROXY: &str = "http://127.0.0.1:3128";

/// What never goes through it: the workspace itself, where the gateway to models is too.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Git's system configuration inside, as the sandbox makes it.
const SYSTEM_GIT_CONFIG: &str = "/etc/gitconfig";

/// What an agent, a command or a setup starts with; `own` is laid over it.
pub fn worker(
    layout: &Layout,
    home: &str,
    own: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    // The tools that the settings add to a workspace stand in the runner's own PATH.
    set("PATH", &layout.path);
    set("HOME", home);
    set("USER", "agent");
    set("LOGNAME", "agent");
    set("SHELL", "/bin/sh");
    set("LANG", "C.UTF-8");
    set("TERM", "xterm-256color");
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        set(name, PROXY);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        set(name, NO_PROXY);
    }
    // Node reads the proxy variables only when told so.
    set("NODE_USE_ENV_PROXY", "1");
    for (name, value) in trust(Path::new(CA_BUNDLE).exists()) {
        set(name, value);
    }
    if has_program(&layout.path, "java") && Path::new(JAVA_TRUST).exists() {
        // The only way for a Java that came with its own certificates.
        set("JAVA_TOOL_OPTIONS", &format!("-Djavax.net.ssl.trustStore={JAVA_TRUST}"));
    }
    // A git in /usr/local looks for the system's configuration there; ours says that the folders
    // are safe.
    set("GIT_CONFIG_SYSTEM", SYSTEM_GIT_CONFIG);
    // Nobody is there to answer, or to quit a pager.
    set("GIT_TERMINAL_PROMPT", "0");
    set("GIT_PAGER", "cat");
    set("PAGER", "cat");
    set("GIT_EDITOR", "true");
    for (name, value) in own {
        match name.as_str() {
            "no_proxy" | "NO_PROXY" => set(name, &format!("{NO_PROXY},{value}")),
            _ => set(name, value),
        };
    }
    all.into_iter().collect()
}

/// By which variables programs find the certificates of all authorities. Those in `/etc` are the
/// same; but many programs bring their own, or look elsewhere.
fn trust(is_there: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    const VARIABLES: [&str; 17] = [
        // OpenSSL and what follows its example: Python, Ruby, PHP, Go, Rust, uv.
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        // Python's requests and pip bring their own.
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        // Added to those that Node brings; npm, yarn and pnpm run in it.
        "NODE_EXTRA_CA_CERTS",
        // Before what a machine's own npmrc names.
        "npm_config_cafile",
        "CARGO_HTTP_CAINFO",
        "DENO_CERT",
        "AWS_CA_BUNDLE",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "NIX_SSL_CERT_FILE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "BUNDLE_SSL_CA_CERT",
        "HEX_CACERTS_PATH",
        "PERL_LWP_SSL_CA_FILE",
        "HTTPLIB2_CA_CERTS",
    ];
    VARIABLES.into_iter().filter(move |_| is_there).map(|name| (name, CA_BUNDLE))
}

fn has_program(path: &str, name: &str) -> bool {
    path.split(':').any(|folder| Path::new(folder).join(name).is_file())
}

/// What the runner's own git starts with: nothing of the worker's configuration takes part.
pub fn git(layout: &Layout) -> Vec<(String, String)> {
    [
        ("PATH", layout.path.as_str()),
        ("HOME", layout.home.as_str()),
        ("LC_ALL", "C"),
        ("GIT_TERMINAL_PROMPT", "0"),
        // The system's configuration stays: it says that the folders are safe.
        ("GIT_CONFIG_SYSTEM", SYSTEM_GIT_CONFIG),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_ADVICE", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_reached_directly_whatever_the_settings_say() {
        let own = [("NO_PROXY", "mirror.example"), ("HTTP_PROXY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all: BTreeMap<_, _> =
            worker(&Layout::default(), "/home/agent", &own.into()).into_iter().collect();
        assert_eq!(all["NO_PROXY"], "localhost,127.0.0.1,::1,mirror.example");
        assert_eq!(all["no_proxy"], "localhost,127.0.0.1,::1");
        assert_eq!((&*all["HTTP_PROXY"], &*all["https_proxy"]), ("", PROXY));
    }
}
