//! `[egress]`: what may leave a workspace.

use std::path::PathBuf;

use super::value::Span;

super::table::section! {
    /// What may leave a workspace. A workspace has no network of its own: everything goes through
    /// Boatyard, which lets through what is named here.
    Egress = "egress" {
        /// Lets nothing out at all, whatever the other keys say.
        offline: bool = false;
        /// Sets of hosts that Boatyard knows: `packages` is the registries of npm, PyPI, crates.io,
        /// Go, RubyGems, Maven and Debian. `boatyard egress presets` lists them all.
        presets: Vec<String> = vec!["packages".to_owned()];
        /// Further hosts: `example.com`, `*.example.com`, with `:PORT` for another port than 443
        /// and 80; with methods or a purpose before it and a path behind it where not everything
        /// there is meant. docs/egress.md tells more.
        allow: Vec<String> = Vec::new(),
            example "[\"api.example.com\", \"*.example.org:8443\", \"git-fetch github.com/ours/*\"]";
        /// What a person is asked about, in the same form.
        ask: Vec<String> = Vec::new(), example "[\"POST api.example.com\"]";
        /// What is refused whatever else is allowed, in the same form: no repository, workspace or
        /// task can open it.
        deny: Vec<String> = Vec::new(), example "[\"git-push github.com\"]";
        /// Whether repositories and workspaces may allow what is closed here. Without it, their
        /// rules can only forbid and ask.
        widen: bool = true;
        /// What becomes of what no rule is about: `enforce` refuses it; `learn` lets it pass and
        /// records it, so that rules can be proposed. Never for work that you do not trust.
        mode: String = "enforce".to_owned();
        /// Networks with private addresses that an allowed name may lead to. Others are refused,
        /// whatever a name says.
        allow_private: Vec<String> = Vec::new(), example "[\"10.2.0.0/16\"]";
        /// How long a request waits for a person, where a rule says to ask. No answer is a no.
        ask_time: Span = Span::minutes(5);
        /// How many requests the log keeps, the newest ones; about 250 bytes each.
        log_rows: u32 = 1_000_000;
        /// How many days it keeps them.
        log_days: u32 = 30;
        /// Where agents from npm are installed from, if not from its own registry: an `http://` or
        /// `https://` address. Installations may reach its host.
        npm_registry: Option<String> = None, example "\"https://npm.example.com/\"";
        /// The same for PyPI: the address of a simple index.
        pypi_index: Option<String> = None, example "\"https://pypi.example.com/simple\"";
        /// Certificates of authorities that the server's own fetches trust beside those of the
        /// system, as one PEM file.
        ca_file: Option<PathBuf> = None, example "\"/etc/ssl/certs/company.pem\"";
    }
}
