//! The monotonic clock, short pauses and the periodic timer of an open loop.
//!
//! Owns every look at the time. Latency stamps are its nanoseconds, so they mean something only
//! between processes of one machine.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::thread::{nanosleep, set_current_timer_slack};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Nanoseconds on the monotonic clock; never 0.
#[inline]
pub(crate) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic)) + 1
}

/// CPU seconds of this process, user and system.
pub(crate) fn own_cpu_s() -> f64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime)) as f64 / 1e9
}

/// Sleeps and timers of this thread to the microsecond instead of the default slack of 50 µs.
pub(crate) fn tight_timers() {
    // Without it pauses are longer, and nothing else is wrong.
    let _ = set_current_timer_slack(NonZeroU64::new(1_000));
}

/// A pause; shorter if a signal comes.
pub(crate) fn nap(us: u64) {
    let _ = nanosleep(&timespec(us.saturating_mul(1_000)));
}

/// A periodic timer for the poll. It has to be read after each tick: only that starts the next
/// period.
pub(crate) struct Ticker(OwnedFd);

impl Ticker {
    pub(crate) fn new(period_ns: u64) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let wish = Itimerspec {
            it_interval: timespec(period_ns),
            it_value: timespec(period_ns),
        };
        timerfd_settime(&fd, TimerfdTimerFlags::empty(), &wish)?;
        Ok(Self(fd))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(crate) fn read(&self) {
        let mut ticks = [0_u8; 8];
        // Nothing to read is no fault: the tick was taken before.
        let _ = rustix::io::read(&self.0, &mut ticks);
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    }
}
