//! `[egress]`: what may leave a workspace.

use std::path::PathBuf;

super::table::section! {
    /// What may leave a workspace. A workspace has no network of its own: everything goes through
    /// Boatyard, which lets through what is named here.
    Egress = "egress" {
        /// Lets nothing out at all, whatever the other keys say.
        offline: bool = false;
        /// Sets of hosts that Boatyard knows: `packages` is the registries of npm, PyPI, crates.io,
        /// Go, RubyGems, Maven and Debian.
        presets: Vec<String> = vec!["packages".to_owned()];
        /// Further hosts: `example.com`, `*.example.com`, with `:PORT` for another port than 443
        /// and 80.
        allow: Vec<String> = Vec::new(), example "[\"api.example.com\", \"*.example.org:8443\"]";
        /// Networks with private addresses that an allowed name may lead to. Others are refused,
        /// whatever a name says.
        allow_private: Vec<String> = Vec::new(), example "[\"10.2.0.0/16\"]";
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
