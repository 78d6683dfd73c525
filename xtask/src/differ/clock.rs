//! The clock of the tool: servers answer in wall time.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "servers answer in wall time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a script lets time pass on purpose"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}
