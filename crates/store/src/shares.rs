//! Shares of sessions and workspaces, and what they gave to whom.
