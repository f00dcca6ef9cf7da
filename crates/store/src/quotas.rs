//! What may be used.
