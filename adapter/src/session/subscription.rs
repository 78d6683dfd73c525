//! A subscription as the arguments of its binding, and back: the broker's own record of a session,
//! in the form that RabbitMQ 4.1 gives it.

use std::num::NonZeroU32;

use leveret_core::exchange::Binding;
use leveret_core::field::{Table, Value};

use crate::flow::Subscription;
use crate::packet::QoS;
use crate::packet::subscribe::{RetainHandling, SubscriptionOptions};

const OPTIONS: &str = "x-mqtt-subscription-opts";
const MEMBER: &str = "x-mqtt-shared-member";

fn insert(table: &mut Table, name: &str, value: Value) {
    // Our own names are far below the limit of 255 bytes.
    let _ = table.insert(name, value);
}

/// The arguments of a 5.0 subscription's binding; those of 3.1 and 3.1.1 have none but for QoS 2.
pub(crate) fn arguments(
    options: SubscriptionOptions,
    identifier: Option<NonZeroU32>,
    dotted: &str,
) -> Table {
    let mut nested = Table::new();
    if let Some(identifier) = identifier {
        insert(&mut nested, "id", Value::U32(identifier.get()));
    }
    insert(&mut nested, "no-local", Value::Bool(options.no_local));
    insert(&mut nested, "qos", Value::U8(options.qos as u8));
    insert(
        &mut nested,
        "retain-as-published",
        Value::Bool(options.retain_as_published),
    );
    insert(
        &mut nested,
        "retain-handling",
        Value::U8(options.retain_handling as u8),
    );
    let mut table = Table::new();
    insert(&mut table, "x-binding-key", Value::from(dotted));
    insert(&mut table, OPTIONS, Value::Table(nested));
    table
}

/// The arguments of the binding by which a client is a member of a group.
pub(crate) fn member_arguments(client_id: &str) -> Table {
    let mut table = Table::new();
    insert(&mut table, MEMBER, Value::from(client_id));
    table
}

/// The subscription that a binding stands for.
pub(crate) fn restore(binding: &Binding, qos: QoS, slot: u32) -> Option<Subscription> {
    let text = std::str::from_utf8(&binding.key).ok()?;
    let mut options = SubscriptionOptions::new(qos);
    let mut identifier = None;
    let mut bound_with_options = false;
    if let Some(Value::Table(nested)) = binding.arguments.lookup(OPTIONS) {
        bound_with_options = true;
        let flag = |name| {
            nested
                .lookup(name)
                .and_then(Value::as_bool)
                .unwrap_or_default()
        };
        options.no_local = flag("no-local");
        options.retain_as_published = flag("retain-as-published");
        let granted = nested.lookup("qos").and_then(Value::as_integer);
        if qos != QoS::AtMostOnce && granted == Some(QoS::ExactlyOnce as i64) {
            // Both are served by one queue.
            options.qos = QoS::ExactlyOnce;
        }
        options.retain_handling = match nested.lookup("retain-handling").and_then(Value::as_integer)
        {
            Some(1) => RetainHandling::SendIfNew,
            Some(2) => RetainHandling::DoNotSend,
            _ => RetainHandling::Send,
        };
        let id = nested.lookup("id").and_then(Value::as_integer);
        identifier = id
            .and_then(|id| u32::try_from(id).ok())
            .and_then(NonZeroU32::new);
    }
    Some(Subscription {
        text: text.into(),
        filter_at: 0,
        options,
        identifier,
        slot,
        bound_with_options,
    })
}
