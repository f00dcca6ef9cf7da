//! `[server]`: where the server listens and keeps its data.

use std::{net::SocketAddr, path::PathBuf};

super::table::section! {
    /// Where the server listens and keeps its data.
    Server = "server" {
        /// The address of the page and the API.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7070));
        /// The address under which people reach the server, where it is not the one that it
        /// listens on: behind a proxy, say. Links and checks of the `Origin` use it.
        url: Option<String> = None, example "\"https://boatyard.example.com\"";
        /// Further names under which the server may be asked, beside `localhost`, the address
        /// that it listens on and the host of `url`. A request for another host is refused.
        hosts: Vec<String> = Vec::new(), example "[\"boatyard.lan\"]";
        /// Pages of other sites that may call the API with a key, by their origin. No cookie counts
        /// for them. None may, where nothing is set.
        cors_origins: Vec<String> = Vec::new(), example "[\"https://tools.example.com\"]";
        /// A file with the first API key, for an installation that nobody attends: it may do
        /// everything, and works from the first start on. The variable BOATYARD_BOOTSTRAP_KEY may
        /// hold the key itself instead. docs/keys.md tells more.
        bootstrap_key_file: Option<PathBuf> = None, example "\"/etc/boatyard/bootstrap.key\"";
        /// The folder of everything that Boatyard keeps. Without it: `$XDG_DATA_HOME/boatyard`,
        /// or `/var/lib/boatyard` for root.
        data: Option<PathBuf> = None, example "\"/srv/boatyard\"";
        /// The database. Without it: `boatyard.db` in the data folder.
        database: Option<String> = None, example "\"sqlite:///srv/boatyard/boatyard.db\"";
    }
}
