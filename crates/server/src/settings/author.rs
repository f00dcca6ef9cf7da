//! `[author]`: whose name stands under commits.

super::table::section! {
    /// Whose name stands under the commits that Boatyard makes.
    Author = "author" {
        /// The name.
        name: String = "Boatyard".to_owned();
        /// The mail address.
        email: String = "boatyard@localhost".to_owned();
    }
}
