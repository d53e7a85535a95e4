//! Parse arguments, call; nothing else.

fn main() -> std::process::ExitCode {
    vertebra_provisioning::cli::main()
}
