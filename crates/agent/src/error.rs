//! The crate's error.

/// What can be wrong with a catalogue, an entry or a demand on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A catalogue or the `[agents]` of the settings can't be understood.
    #[error("the entry of agent `{agent}` is not valid: {reason}")]
    Entry {
        /// The entry's name as it was written.
        agent: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// No entry has this name.
    #[error("there is no agent `{name}`; known are {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that exist, with commas.
        known: String,
    },
    /// The entry is there but can't be used.
    #[error("agent `{name}` is not ready: {reason}")]
    NotReady {
        /// The agent.
        name: String,
        /// Why, and what mends it.
        reason: String,
    },
    /// A placeholder of a command or variable has no value.
    #[error("the command of agent `{agent}` names `{{{placeholder}}}`, which has no value here")]
    Placeholder {
        /// The agent.
        agent: String,
        /// The placeholder's name, without braces.
        placeholder: String,
    },
}
