//! Which subscriptions a delivery looks at.

use super::*;
use crate::flow::{Subscription, Subscriptions};
use crate::packet::subscribe::SubscriptionOptions;

const FILTERS: [(&str, u32); 18] = [
    ("a", 0),
    ("a/b", 0),
    ("a/b/c", 0),
    ("a.b", 0),
    ("a.b/c", 0),
    ("a/*", 0),
    ("a/+", 0),
    ("a/#", 0),
    ("#", 0),
    ("+", 0),
    ("a//b", 0),
    ("/x", 0),
    ("/", 0),
    (".x", 0),
    ("$x/y", 0),
    ("$share/g/a/b", 9),
    ("$share/g/a/+", 9),
    ("$share/g", 0),
];

/// MQTT 5.0 §4.7: whatever fits a topic or a routing key is among those that are looked at,
/// however many there are.
#[test]
fn what_fits_is_looked_at() {
    let mut subscriptions = Subscriptions::default();
    for (text, filter_at) in FILTERS {
        subscriptions.put(Subscription {
            text: text.into(),
            filter_at,
            options: SubscriptionOptions::new(QoS::AtMostOnce),
            identifier: None,
            slot: 0,
            bound_with_options: false,
        });
    }
    let keys = [
        "a",
        "a.b",
        "a.b.c",
        "a.*",
        "a/b",
        "a/b.c",
        "a..b",
        ".x",
        "$x.y",
        "a/b/c",
        "a//b",
        "/x",
        "$x/y",
        "/",
        ".",
        "a/*",
        "$share/g/a/b",
        "$share.g",
        "x",
    ];
    let mut fitting = 0;
    for key in keys {
        for form in [Form::Slashed, Form::Dotted] {
            let mut topic = key.to_owned();
            if form == Form::Dotted {
                topic::translate::to_topic(key, &mut topic);
            }
            let looked_at: Vec<&str> = subscriptions
                .candidates(&topic)
                .map(|held| &*held.text)
                .collect();
            let fit = subscriptions
                .iter()
                .filter(|held| fits(held.filter(), form, key));
            for held in fit {
                fitting += 1;
                assert!(
                    looked_at.contains(&&*held.text),
                    "{key} {form:?}: {}",
                    held.text
                );
            }
            assert!(looked_at.len() < FILTERS.len(), "{key}: not all are");
        }
    }
    assert!(fitting > 60, "{fitting}");
}
