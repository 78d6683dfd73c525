//! How many PUBLISH packets of one client are read in a second: what is more waits in its socket.

use leveret_core::time::Time;

/// One second, in milliseconds.
const SECOND_MS: u64 = 1_000;

/// The publishes of the second that began with the first of them.
#[derive(Debug)]
pub(crate) struct Rate {
    began: Time,
    taken: u32,
    /// Nothing is read before.
    pub(super) until: Option<Time>,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            began: Time(0),
            taken: 0,
            until: None,
        }
    }
}

impl Rate {
    /// Counts a PUBLISH; reading pauses behind the last that the second may have.
    pub(super) fn count(&mut self, max: u32, now: Time) {
        if now >= self.began.after_ms(SECOND_MS) {
            (self.began, self.taken) = (now, 0);
        }
        self.taken += 1;
        if self.taken >= max {
            self.until = Some(self.began.after_ms(SECOND_MS));
        }
    }

    /// Goes on when the second is over; says whether it just was.
    pub(super) fn go_on(&mut self, now: Time) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }
}
