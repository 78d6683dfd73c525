//! What a client of MQTT 3.1 has not acknowledged in time is sent again: when, and by whom.

use leveret_core::seam::Host;
use leveret_core::time::Time;

use super::{Active, Connection};

impl<H: Host> Connection<H> {
    /// When something is to be sent again. Takes no lock for versions of which nothing is.
    pub(super) fn again_at(&self, active: &Active<H::Core>) -> Option<Time> {
        if self.node.options.retry_ms(active.version) == 0 {
            return None;
        }
        let out = self.outlet.lock();
        out.flow.as_ref()?.retry_at()
    }

    /// Sends again what is due.
    pub(super) fn send_again(&self, active: &Active<H::Core>, now: Time) {
        let interval_ms = self.node.options.retry_ms(active.version);
        if interval_ms > 0 {
            let bytes_max = self.outlet.output_bytes_max();
            self.outlet.lock().send_again(bytes_max, interval_ms, now);
        }
    }
}
