//! Drives what the core does by itself: queues that expire, wills that were delayed.
//!
//! Owns one task and its timer. Must never decide what is due: the core does.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::clock::Clock;

/// Does what is due in the core when it is due; never ends.
pub async fn drive(broker: Arc<Broker>, clock: Clock) {
    let earlier = Arc::new(Earlier(Notify::new()));
    broker.drive(Arc::clone(&earlier) as Arc<dyn Wake>);
    let new_turn = || {
        let mut turn = Turn::new();
        turn.set_clock(move || clock.now());
        turn
    };
    let mut turn = new_turn();
    loop {
        turn.now = clock.now();
        match broker.poll_timeout() {
            None => earlier.0.notified().await,
            Some(at) if at > turn.now => {
                // Both ends of the wait lead to the same: another look.
                let _ = timeout_at(clock.instant(at), earlier.0.notified()).await;
            }
            Some(_) => {
                let done = panic::catch_unwind(AssertUnwindSafe(|| {
                    broker.handle_timeout(&mut turn);
                }));
                turn.ring();
                if done.is_err() {
                    tracing::error!("a timer of the core panicked; the others go on");
                    turn = new_turn();
                }
                // The core may have had much to do: others come first now.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Told when something is due earlier than before.
struct Earlier(Notify);

impl Wake for Earlier {
    fn wake(&self) {
        self.0.notify_one();
    }
}
