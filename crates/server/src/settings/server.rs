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
        /// The folder of everything that Boatyard keeps. Without it: `$XDG_DATA_HOME/boatyard`,
        /// or `/var/lib/boatyard` for root.
        data: Option<PathBuf> = None, example "\"/srv/boatyard\"";
        /// The database. Without it: `boatyard.db` in the data folder.
        database: Option<String> = None, example "\"sqlite:///srv/boatyard/boatyard.db\"";
    }
}
