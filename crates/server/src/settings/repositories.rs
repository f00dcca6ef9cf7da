//! `[repositories]`: where repositories may come from.

use std::{collections::BTreeMap, path::PathBuf};

use super::value::{ByteSize, Secret};

super::table::section! {
    /// Where repositories may come from.
    Repositories = "repositories" {
        /// The host that `owner/repo` means.
        default_host: String = "github.com".to_owned();
        /// Folders of this machine below which a repository may be read by its path, in the
        /// server's first organization. None means that no path of this machine is read.
        roots: Vec<PathBuf> = Vec::new(), example "[\"/srv/git\"]";
        /// Tokens for private repositories, by host, for the server's first organization; others
        /// connect their repositories (`boatyard repository connect`). They stay on the server: no
        /// workspace sees one. A token is a text, or `{ file = "/path" }`, or
        /// `{ variable = "NAME" }`.
        tokens: BTreeMap<String, Secret> = BTreeMap::new(),
            example "{ \"github.com\" = { file = \"/etc/boatyard/github-token\" } }";
        /// Hosts and networks with private addresses that the server may fetch from: a name, an
        /// address, or a network such as `10.0.0.0/8`. Others with such addresses are refused.
        allow_private: Vec<String> = Vec::new(), example "[\"git.example.lan\", \"10.2.0.0/16\"]";
        /// How large a repository may be, on disk.
        max_size: ByteSize = ByteSize::gib(20);
        /// How long one fetch, or one bundle that a client sends, may take.
        fetch_time: super::value::Span = super::value::Span::minutes(30);
    }
}
