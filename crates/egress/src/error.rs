//! What can go wrong before a request is looked at. What goes wrong with one request is told to
//! its client and recorded ([`crate::log::Record`]).

use std::io;

/// Why rules, settings or a listener can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name or address of a host, or a pattern of it.
    #[error("`{text}` is not a host")]
    Host {
        /// What it is.
        text: String,
    },
    /// Not a range of addresses.
    #[error("`{text}` is not an address or a range as 10.0.0.0/8")]
    Cidr {
        /// What it is.
        text: String,
    },
    /// Not a path pattern.
    #[error("`{text}` is not a path (it begins with `/` and may end in `*`)")]
    Path {
        /// What it is.
        text: String,
    },
    /// Not a method that a rule can be about.
    #[error("`{text}` is not a method that a request comes with (as GET or POST, in capitals)")]
    Method {
        /// What it is.
        text: String,
    },
    /// Not a place for a credential.
    #[error("`{text}` is no place for a credential in a request: {why}")]
    Place {
        /// What it is.
        text: String,
        /// Why not.
        why: String,
    },
    /// No preset of that name.
    #[error("there is no preset `{name}`{}", near_preset(name))]
    UnknownPreset {
        /// The name.
        name: String,
    },
    /// A preset of this program that makes no sense; a test reads every one of them.
    #[error("the preset `{name}` is broken: {what}")]
    BrokenPreset {
        /// The name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A proxy for our own outgoing traffic that we can't use. The address is not repeated: it
    /// may hold a password.
    #[error("`{variable}` is not the URL of an http:// proxy")]
    UpstreamProxy {
        /// Where it was set.
        variable: &'static str,
    },
    /// What should be a workspace's listener is something else.
    #[error("the descriptor is not a listening TCP socket ({found})")]
    NotAListener {
        /// What it is.
        found: &'static str,
    },
    /// What should be the socket at which a workspace asks for names is something else.
    #[error("the descriptor is not a UDP socket ({found})")]
    NotDatagrams {
        /// What it is.
        found: &'static str,
    },
    /// What should hold a workspace's names is something else.
    #[error("the descriptor is not a memory file with names")]
    NotNames,
    /// A workspace's listener failed.
    #[error("the listener failed")]
    Listener(#[source] io::Error),
    /// A model provider that can't be used as it is described. What it was given as a key is not
    /// repeated.
    #[error("the model provider `{name}` {what}")]
    Provider {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Certificates that should be trusted can't be.
    #[error("the authorities to be trusted {what}")]
    Authorities {
        /// What is wrong.
        what: &'static str,
    },
    /// The authority that opens TLS can't be used. Nothing of its key is repeated.
    #[error("the authority of this installation {what}")]
    Authority {
        /// What is wrong.
        what: &'static str,
    },
    /// Its file can't be.
    #[error("the authority of this installation, {}, can't be used", .path.display())]
    AuthorityFile {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The preset that was meant, perhaps.
fn near_preset(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let near = crate::rules::Preset::all()
        .keys()
        .find(|known| !lower.is_empty() && (known.contains(&lower) || lower.contains(*known)));
    near.map_or_else(String::new, |known| format!("; is `{known}` meant?"))
}
