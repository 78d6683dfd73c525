//! What lay on a vhost's shelves when the broker stopped: retained messages, scheduled
//! publications, packet identifiers.

use std::sync::Arc;

use super::Broker;
use crate::exchange::Waiting;
use crate::link::Link;
use crate::message::{Message, MessageRef};
use crate::schedule::Scheduled;
use crate::shelf::{Later, Place, Restored};
use crate::time::Time;
use crate::timers::Due;
use crate::vhost::VHost;

/// Before queues are loaded: they ask since when they are unused.
pub(super) fn begin(broker: &Arc<Broker>, vhost: &Arc<VHost>, now: Time) {
    let Restored {
        retained,
        scheduled,
        sessions,
    } = vhost.shelves.restore();
    let look_at = vhost
        .retained
        .restore(&vhost.shelves.retained, retained, now);
    broker.look_at_retained(vhost, look_at);
    for (place, message) in scheduled {
        if schedule(broker, vhost, place, &message, now).is_none() {
            vhost.shelves.unschedule(&[place]);
        }
    }
    for (client_id, session_ms) in sessions {
        if session_ms < u64::MAX {
            let at = now.after_ms(session_ms);
            let due = Due::Recall(Arc::downgrade(vhost), client_id);
            broker.timers.add(at, due);
        }
    }
}

/// After queues are loaded.
pub(super) fn finish(vhost: &VHost) {
    let queues: std::collections::HashSet<u64> =
        vhost.queues().iter().map(|queue| queue.id()).collect();
    vhost.shelves.sweep(|queue| queues.contains(&queue));
}

/// A publication that was scheduled before the restart.
fn schedule(
    broker: &Arc<Broker>,
    vhost: &Arc<VHost>,
    place: Place,
    message: &Message,
    now: Time,
) -> Option<()> {
    let view = message.view();
    let later = Later::decode(view.payload)?;
    if let Some(exchange) = later.exchange() {
        let payload = later.payload;
        let exchange = vhost.exchange(exchange)?;
        let waiting = Waiting {
            message: MessageRef { payload, ..view }.to_message(&mut Vec::new()),
            more: later.more.iter().map(|key| Box::from(*key)).collect(),
            place,
        };
        return vhost.wait(later.at.max(now), &exchange, waiting);
    }
    let Later {
        at,
        user,
        client_id,
        payload,
        ..
    } = later;
    let client_id: Arc<str> = client_id.into();
    let link = Link::new(
        Arc::clone(broker),
        Arc::clone(vhost),
        broker.new_connection(),
        user,
        Some(&client_id),
    );
    let will = MessageRef { payload, ..view };
    let message = will.to_message(&mut Vec::new());
    let scheduled = Arc::new(Scheduled::new(link, message, place));
    vhost.hold_scheduled(1);
    let mut testaments = vhost.shelves.testaments.lock();
    let earlier = testaments.insert((&*client_id).into(), Arc::clone(&scheduled));
    drop(testaments);
    earlier.iter().for_each(|earlier| {
        earlier.cancel();
    });
    // What became due meanwhile is published at once.
    broker.timers.add(at.max(now), Due::Publish(scheduled));
    Some(())
}
