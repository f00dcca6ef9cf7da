//! Letting a device in that has no browser (RFC 8628).
