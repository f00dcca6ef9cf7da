//! What was used, day by day.
