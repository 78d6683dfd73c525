//! The `load` program: one scenario against a broker on this machine, one JSON line.
//!
//! Owns arguments, output and exit codes: 0 done; 1 done, with an `error` in the JSON; 2 not run.

use std::io::Write;
use std::process::ExitCode;

use leveret_load::{Failure, Parsed, Reach, Report, command, null_broker};

fn main() -> ExitCode {
    let matches = command().get_matches();
    if let Some(served) = null_broker(&matches) {
        return served.map_or_else(|why| complain(&why), |()| ExitCode::SUCCESS);
    }
    let Some(parsed) = Parsed::of(&matches, Reach::Loopback) else {
        return ExitCode::from(NOT_RUN);
    };
    match parsed.run(&mut |_| ()) {
        Ok(report) => {
            print(&report);
            eprint!("{}", report.summary());
            match report.error() {
                Some(_) => ExitCode::FAILURE,
                None => ExitCode::SUCCESS,
            }
        }
        Err(why) => {
            print(&parsed.failed(&why));
            complain(&why)
        }
    }
}

/// A reader that is gone wants no line.
fn print(report: &Report) {
    let _ = writeln!(std::io::stdout(), "{}", report.json());
}

fn complain(why: &Failure) -> ExitCode {
    eprintln!("load: {why}");
    ExitCode::from(NOT_RUN)
}

const NOT_RUN: u8 = 2;
