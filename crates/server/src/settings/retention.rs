//! `[retention]`: when what is not used any more sleeps or goes.

use super::value::Span;

super::table::section! {
    /// When what is not used any more sleeps or goes. Work that was never pushed or applied is
    /// not removed.
    Retention = "retention" {
        /// How long a workspace stays awake with nothing running. A sleeping one costs disk only,
        /// and wakes in milliseconds.
        idle_sleep: Span = Span::minutes(15);
        /// How long the files of a finished task's workspace are kept.
        workspaces: Span = Span::days(30);
        /// How long a mirror of a repository is kept after its last use.
        mirrors: Span = Span::days(30);
        /// How long a prepared checkout or a setup is kept after its last use.
        layers: Span = Span::days(14);
        /// How long finished jobs and answered requests are remembered.
        jobs: Span = Span::days(7);
        /// For how many days entries of the audit log are kept; 0 keeps them for good. An
        /// organization's owner may choose another number for its log.
        audit_days: u32 = 0;
        /// How full the disk may be, in percent, before what nothing refers to is removed at
        /// once rather than once a day.
        disk_percent: u32 = 85;
    }
}
