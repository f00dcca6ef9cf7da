//! Shares of sessions and workspaces.
