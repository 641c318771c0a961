//! The program; see the library.

fn main() -> std::process::ExitCode {
    flotilla_cli::main()
}
