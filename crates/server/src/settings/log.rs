//! `[log]`: what is logged, how, and where to.

use super::value::choices;

choices! {
    /// How much is logged.
    Level {
        /// Failures that need somebody.
        Error = "error",
        /// What did not go as it should.
        Warn = "warn",
        /// What happens.
        Info = "info",
        /// How it happens.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }

    /// How a line of the log looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    }

    /// Where the log goes.
    LogTarget {
        /// The journal when systemd started the server, else files.
        Auto = "auto",
        /// Files in the data folder, a new one each day.
        Files = "files",
        /// The standard error output only.
        Stderr = "stderr",
    }
}

super::table::section! {
    /// What is logged, how, and where to. No secret is ever logged.
    Log = "log" {
        /// How much: `error`, `warn`, `info`, `debug` or `trace`.
        level: Level = Level::Info;
        /// Other levels for single parts, as `part=level`, where the part is a module's path.
        parts: Vec<String> = Vec::new(), example "[\"boatyard_server::hub=debug\"]";
        /// How a line looks: `text`, or `json` for programs.
        format: LogFormat = LogFormat::Text;
        /// Where to: `files` (`log/` in the data folder, a new one each day), `stderr`, or `auto`:
        /// the journal when systemd started the server, else files.
        target: LogTarget = LogTarget::Auto;
        /// How many days' files are kept.
        keep_files: u32 = 14;
    }
}
