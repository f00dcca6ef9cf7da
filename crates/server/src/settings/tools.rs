//! `[tools]`: programs of this machine that workspaces may use.

use std::path::PathBuf;

super::table::section! {
    /// Programs of this machine that workspaces may use beside those of the system.
    Tools = "tools" {
        /// Folders that every workspace sees, read-only, under the same path: a toolchain that
        /// lives in a home, say. Their `bin` folders are put on the `PATH`.
        paths: Vec<PathBuf> = Vec::new(), example "[\"/opt/node\", \"/home/me/.cargo\"]";
    }
}
