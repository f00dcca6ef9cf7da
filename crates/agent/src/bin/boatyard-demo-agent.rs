//! The demo agent as a program of its own, for tests and for any other ACP client.

fn main() -> std::process::ExitCode {
    boatyard_agent::demo::main()
}
