//! Opens the page in a browser, where there is one.

use std::process::{Command, Stdio};

use crate::output::Output;

/// Opens a link; a machine without a browser gets a note.
pub(crate) fn browser(link: &str, output: &Output) {
    let started = Command::new("xdg-open")
        .arg(link)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // It ends by itself; a thread reaps it.
        Ok(mut child) => {
            std::thread::spawn(move || child.wait());
        }
        Err(error) => {
            output.warning(format!("no browser could be opened ({error}); open the link yourself"))
        }
    }
}
