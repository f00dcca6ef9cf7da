//! The drivers and the demo agent with real processes and with recorded agents.

mod demo;
mod hostile;
mod replay;
mod support;
mod text;
