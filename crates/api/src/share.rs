//! Shares of sessions and workspaces, and who is present.
