//! `[git]`: what leaves by git, and how commits are signed.

super::table::section! {
    /// What workspaces do with git. They reach repositories through Boatyard, which has the
    /// credentials; `docs/git.md` says how.
    Git = "git" {
        /// Signs commits and tags that are made in workspaces, and those that Boatyard makes, with
        /// a key that stays on the server. `boatyard repository key` shows its public half.
        sign: bool = false;
        /// Branches that workspaces may push to beside `boatyard/*` of their own repository: a
        /// name, or with `*` at its end all that begin so. A push to one of these may also
        /// overwrite it.
        branches: Vec<String> = Vec::new(), example "[\"docs\", \"release/*\"]";
    }
}
