//! The `leveret` program: hands its arguments to the command line, and runs the broker if that is
//! what they ask for.

use std::path::Path;
use std::process::ExitCode;

use leveret::cli::{self, Action};
use leveret::run;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // It answers under the names of RabbitMQ's tools too.
    let called = args.next().unwrap_or_default();
    let program = Path::new(&called)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    match cli::run(&program, args.collect()) {
        Action::Serve(wish) => run::serve(&wish),
        Action::Done(code) => code,
    }
}
