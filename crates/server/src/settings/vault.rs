//! `[vault]`: where the master key is.

use std::path::PathBuf;

super::table::section! {
    /// The vault seals credentials in the database. Its keys are sealed by a master key, which is
    /// not in the database: in `key_file`, in the variable BOATYARD_VAULT_KEY, in what
    /// `key_command` prints, or, where none of these is set, in `vault.key` of the data folder, made
    /// at the first start. docs/connections.md tells how it is changed.
    Vault = "vault" {
        /// The file with the master key: 32 bytes in base 64 or as 64 hexadecimal digits
        /// (`openssl rand -base64 32`). Further lines are earlier keys, which open and seal nothing
        /// new.
        key_file: Option<PathBuf> = None, example "\"/etc/boatyard/vault.key\"";
        /// A program that prints what would stand in the file, with its arguments: the client of a
        /// key service, say. It is run once at the start, with the rights that Boatyard is started
        /// with, and gets 30 seconds.
        key_command: Vec<String> = Vec::new(), example "[\"/usr/local/bin/fetch-key\", \"boatyard\"]";
    }
}
