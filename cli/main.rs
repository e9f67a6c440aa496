//! The `weir` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Object stores and mail servers are spoken to by one TLS provider, chosen here and nowhere else.
    // It fails only if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    weir_cli::main()
}
