//! People in organizations, with their roles.
