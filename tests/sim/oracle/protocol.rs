//! What each connection has been promised: acknowledgements in order, answers in order, windows,
//! and QoS 2 publishes that are taken once.

use std::collections::{BTreeMap, VecDeque};

use super::{Check, Oracle, Publication, Violation, violation};
use crate::message::Id;
use crate::mqtt;

/// A delivery that is not settled.
#[derive(Clone, Debug)]
struct Unacked {
    queue: u64,
    place: u64,
    consumer: String,
}

#[derive(Clone, Copy, Debug)]
struct Consumer {
    queue: u64,
    no_ack: bool,
    prefetch: usize,
}

/// A PUBACK or PUBREC that is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    packet_id: u16,
    place: u64,
    message: Id,
}

/// A QoS 2 publish that was taken and not released.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    place: u64,
    /// Its PUBREC has left.
    told: bool,
}

impl Received {
    pub(super) fn survives(self) -> bool {
        self.told
    }
}

/// An AMQP answer that is due.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Declare(u64),
    Bind(u64, String),
    Purge,
    Delete(u64),
    Consume,
    Get { queue: u64, no_ack: bool },
}

/// Who connects.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    pub(crate) client: String,
    /// Nothing of an earlier session is wanted.
    pub(crate) fresh: bool,
    /// How long the session outlives the connection; `None` is for ever.
    pub(crate) stays_ms: Option<u64>,
    pub(crate) window: usize,
}

/// Which of two acknowledgements of MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    PubAck,
    PubRec,
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Conn {
    /// MQTT: who, whether the session ends with it, and how much may be in flight.
    client: Option<String>,
    ends: bool,
    window: usize,
    /// What CONNACK must say of an earlier session.
    present: Option<bool>,
    unacked: BTreeMap<u64, Unacked>,
    consumers: BTreeMap<String, Consumer>,
    pubacks: VecDeque<Due>,
    pubrecs: VecDeque<Due>,
    confirms: BTreeMap<u64, u64>,
    confirm_last: u64,
    replies: VecDeque<Reply>,
    /// Bindings that SUBACK or UNSUBACK with this packet id makes sure of.
    subscribing: BTreeMap<u16, (u64, String)>,
    /// Queues whose end CONNACK makes sure of.
    ended: Vec<u64>,
}

impl Oracle {
    pub(crate) fn opened(&mut self, conn: usize) {
        self.conns.insert(conn, Conn::default());
    }

    fn conn(&mut self, conn: usize) -> &mut Conn {
        self.conns.entry(conn).or_default()
    }

    /// A CONNECT was taken. The session's former connection has lost it.
    pub(crate) fn connected(&mut self, conn: usize, welcome: &Welcome, now: u64) -> Check {
        let client = &welcome.client;
        let mut over = welcome.fresh;
        if let Some(former) = self.former(conn, client) {
            self.give_back(former);
            let held = self.conn(former);
            held.client = None;
            over |= held.ends;
        }
        if over {
            self.forget_received(client);
            if let Some(queue) = self.session(client).into_iter().flatten().next() {
                return violation("a session is over, and has a queue", None, Some(queue));
            }
        }
        let present = self.resumed(client, over, welcome.stays_ms, now);
        self.settle_twofold(client);
        let ended = self
            .deleted
            .iter()
            .filter(|(_, held)| !held.sure && held.name.starts_with(&own_queue(client, "")));
        let ended = ended.map(|(id, _)| *id).collect();
        let held = self.conn(conn);
        held.client = Some(client.clone());
        held.ends = welcome.stays_ms == Some(0);
        held.window = welcome.window;
        held.present = present;
        held.ended = ended;
        Ok(())
    }

    /// Another connection that has the client's session.
    fn former(&self, conn: usize, client: &str) -> Option<usize> {
        let mut others = self.conns.iter();
        let owns = |held: &Conn| held.client.as_deref() == Some(client);
        let former = others.find(|(id, held)| **id != conn && owns(held));
        former.map(|(id, _)| *id)
    }

    /// Names of the queues that a CONNECT may end.
    pub(crate) fn ends_with(&self, welcome: &Welcome) -> Vec<String> {
        let former = self.former(usize::MAX, &welcome.client);
        let former = former.and_then(|former| self.conns.get(&former));
        match welcome.fresh || former.is_some_and(|former| former.ends) {
            true => Self::queues_of(&welcome.client).into(),
            false => Vec::new(),
        }
    }

    /// A crash may have left a subscription whose QoS was changed in both queues of its session:
    /// the client that comes back has it with the higher one.
    fn settle_twofold(&mut self, client: &str) {
        let [Some(list), Some(direct)] = self.session(client) else {
            return;
        };
        let there = |queue: &u64| -> Vec<String> {
            let bindings = self.queues.get(queue).map(|held| &held.bindings);
            let present = bindings
                .into_iter()
                .flatten()
                .filter(|(_, held)| held.present);
            present.map(|(pattern, _)| pattern.clone()).collect()
        };
        let twofold = there(&list);
        for pattern in there(&direct)
            .iter()
            .filter(|pattern| twofold.contains(pattern))
        {
            self.bound(direct, pattern, false);
        }
    }

    /// CONNACK has left: what the session had before, if it ended, will not be back.
    pub(crate) fn welcomed(&mut self, conn: usize, present: bool) -> Check {
        let held = self.conn(conn);
        if held.present.is_some_and(|known| known != present) {
            let what = format!("CONNACK on connection {conn} says session present {present}");
            return violation(what, None, None);
        }
        let client = held.client.clone();
        for queue in std::mem::take(&mut held.ended) {
            if let Some(held) = self.deleted.get_mut(&queue) {
                held.sure = true;
            }
        }
        client.iter().for_each(|client| self.lease_is_sure(client));
        Ok(())
    }

    /// A connection is gone: what it had goes back.
    pub(crate) fn closed(&mut self, conn: usize, now: u64) -> Check {
        self.give_back(conn);
        let Some(Conn {
            client: Some(client),
            ends,
            ..
        }) = self.conns.remove(&conn)
        else {
            return Ok(());
        };
        self.absent(&client, now);
        if !ends {
            return Ok(());
        }
        self.forget_received(&client);
        match self.session(&client).into_iter().flatten().next() {
            Some(queue) => violation("a session outlives its connection", None, Some(queue)),
            None => Ok(()),
        }
    }

    /// Names of the queues that go with a connection.
    pub(crate) fn own_queues(&self, conn: usize) -> Vec<String> {
        let held = self.conns.get(&conn).filter(|held| held.ends);
        let client = held.and_then(|held| held.client.as_ref());
        client.map_or(Vec::new(), |client| Self::queues_of(client).into())
    }

    fn give_back(&mut self, conn: usize) {
        let unacked = std::mem::take(&mut self.conn(conn).unacked);
        for held in unacked.values() {
            self.requeued(held.queue, held.place);
        }
    }

    /// The queues of a client's session, with and without a list.
    pub(super) fn session(&self, client: &str) -> [Option<u64>; 2] {
        ["qos1", "qos0"].map(|suffix| self.queue(&own_queue(client, suffix)))
    }

    /// A SUBSCRIBE with one filter was taken.
    pub(crate) fn subscribed(&mut self, conn: usize, packet_id: u16, pattern: &str, qos: u8) {
        let Some(client) = self.conn(conn).client.clone() else {
            return;
        };
        let [list, direct] = self.session(&client);
        let (queue, other) = if qos == 0 {
            (direct, list)
        } else {
            (list, direct)
        };
        if let Some(other) = other {
            self.unbound(other, pattern);
        }
        if let Some(queue) = queue {
            self.bound(queue, pattern, true);
            let waits = (queue, pattern.to_owned());
            self.conn(conn).subscribing.insert(packet_id, waits);
        }
    }

    /// An UNSUBSCRIBE was taken.
    pub(crate) fn unsubscribed(&mut self, conn: usize, packet_id: u16, pattern: &str) {
        let Some(client) = self.conn(conn).client.clone() else {
            return;
        };
        for queue in self.session(&client).into_iter().flatten() {
            if self.unbound(queue, pattern) {
                let waits = (queue, pattern.to_owned());
                self.conn(conn).subscribing.insert(packet_id, waits);
            }
        }
    }

    fn unbound(&mut self, queue: u64, pattern: &str) -> bool {
        let held = self.queues.get(&queue);
        let binding = held.and_then(|held| held.bindings.get(pattern));
        let there = binding.is_some_and(|binding| binding.present);
        if there {
            self.bound(queue, pattern, false);
        }
        there
    }

    /// SUBACK or UNSUBACK has left.
    pub(crate) fn subscription_told(&mut self, conn: usize, packet_id: u16) {
        if let Some((queue, pattern)) = self.conn(conn).subscribing.remove(&packet_id) {
            self.make_sure(queue, &pattern);
        }
    }

    fn make_sure(&mut self, queue: u64, pattern: &str) {
        if let Some(held) = self.queues.get_mut(&queue) {
            held.sure = true;
            if let Some(binding) = held.bindings.get_mut(pattern) {
                binding.sure = true;
            }
        }
    }

    /// Whether the packet id is that of a QoS 2 publish that is not released.
    fn known(&self, conn: usize, packet_id: u16) -> Option<u64> {
        let client = self.conns.get(&conn)?.client.as_ref()?;
        let publish = self.received.get(client)?.get(&packet_id)?;
        Some(publish.place)
    }

    /// A PUBLISH was taken.
    pub(crate) fn mqtt_published(
        &mut self,
        conn: usize,
        publish: &mqtt::Publish,
        publication: &Publication,
        now: u64,
    ) {
        let packet_id = publish.packet_id;
        let known = (publish.qos == 2)
            .then(|| self.known(conn, packet_id))
            .flatten();
        let place = known.unwrap_or_else(|| self.publish(publication, now));
        let held = self.conn(conn);
        let due = Due {
            packet_id,
            place,
            message: publication.message,
        };
        match publish.qos {
            0 => return,
            1 => held.pubacks.push_back(due),
            _ => held.pubrecs.push_back(due),
        }
        if let Some(client) = held.client.clone().filter(|_| publish.qos == 2) {
            let publishes = self.received.entry(client).or_default();
            let told = false;
            publishes
                .entry(packet_id)
                .or_insert(Received { place, told });
        }
    }

    /// A PUBREL was taken: the id may stand for another message.
    pub(crate) fn released(&mut self, conn: usize, packet_id: u16) {
        if let Some(client) = self.conn(conn).client.clone() {
            self.received.entry(client).or_default().remove(&packet_id);
        }
    }

    /// PUBACK or PUBREC has left.
    pub(crate) fn mqtt_acknowledged(&mut self, conn: usize, kind: Kind, packet_id: u16) -> Check {
        let held = self.conn(conn);
        let client = held.client.clone();
        let due = match kind {
            Kind::PubAck => held.pubacks.pop_front(),
            Kind::PubRec => held.pubrecs.pop_front(),
        };
        let Some(due) = due.filter(|due| due.packet_id == packet_id) else {
            let what = format!("{kind:?} {packet_id} is not the next of connection {conn}");
            return violation(what, None, None);
        };
        self.acknowledged(due.place, Some(due.message));
        if kind == Kind::PubRec
            && let Some(publishes) = client.and_then(|client| self.received.get_mut(&client))
            && let Some(publish) = publishes.get_mut(&packet_id)
        {
            publish.told = true;
        }
        Ok(())
    }

    /// A PUBLISH has left for a subscriber.
    pub(crate) fn mqtt_delivered(
        &mut self,
        conn: usize,
        (message, qos, dup, packet_id): (Id, u8, bool, u16),
        now: u64,
    ) -> Check {
        let held = self.conn(conn);
        let window = held.window;
        let Some(client) = held.client.clone() else {
            let what = "a message is delivered to a connection without a session";
            return violation(what, Some(message), None);
        };
        let [list, direct] = self.session(&client);
        let waits = |queue: &u64| self.has_ready(*queue, message);
        let chosen = if qos > 0 {
            list
        } else {
            direct.filter(waits).or(list)
        };
        let Some(queue) = chosen else {
            let what = "a message is delivered to a session without a queue";
            return violation(what, Some(message), None);
        };
        // QoS 0 has no flag.
        let flag = (qos > 0).then_some(dup);
        let place = self.delivered(queue, message, flag, qos == 0, now)?;
        if qos == 0 {
            // It may have been the session's other queue's: how many wait there will tell.
            let other = list.filter(|list| *list != queue);
            if let Some(held) = other.and_then(|list| self.queues.get_mut(&list)) {
                held.perhaps.push(message);
            }
            return Ok(());
        }
        let consumer = String::new();
        let unacked = Unacked {
            queue,
            place,
            consumer,
        };
        let held = self.conn(conn);
        let taken = held.unacked.insert(packet_id.into(), unacked);
        if taken.is_some() {
            let what = format!("packet id {packet_id} is in flight already");
            return violation(what, Some(message), Some(queue));
        }
        if held.unacked.len() > window {
            let what = format!("more than {window} messages are in flight");
            return violation(what, Some(message), Some(queue));
        }
        Ok(())
    }

    fn has_ready(&self, queue: u64, message: Id) -> bool {
        let held = self.queues.get(&queue);
        held.is_some_and(|held| held.copies.values().any(|copy| copy.message == message))
    }

    /// An acknowledgement of deliveries was taken; `None` gives them back.
    pub(crate) fn answered(
        &mut self,
        conn: usize,
        tag: u64,
        multiple: bool,
        done: Option<&'static str>,
    ) {
        let unacked = &mut self.conn(conn).unacked;
        let tags: Vec<u64> = match multiple {
            true => unacked.range(..=tag).map(|(tag, _)| *tag).collect(),
            false => vec![tag],
        };
        for tag in tags {
            if let Some(held) = self.conn(conn).unacked.remove(&tag) {
                match done {
                    Some(why) => self.settled(held.queue, held.place, why),
                    None => self.requeued(held.queue, held.place),
                }
            }
        }
    }

    /// A basic.consume was taken.
    pub(crate) fn consuming(
        &mut self,
        conn: usize,
        tag: &str,
        queue: u64,
        no_ack: bool,
        prefetch: usize,
    ) {
        let consumer = Consumer {
            queue,
            no_ack,
            prefetch,
        };
        let held = self.conn(conn);
        held.consumers.insert(tag.to_owned(), consumer);
        held.replies.push_back(Reply::Consume);
    }

    /// A question was taken whose answer will come in its turn.
    pub(crate) fn asked(&mut self, conn: usize, reply: Reply) {
        self.conn(conn).replies.push_back(reply);
    }

    /// An answer has left; `false` for basic.get-ok, which is told by [`Self::got`].
    pub(crate) fn told(&mut self, conn: usize, name: &str) -> Check {
        let reply = self.conn(conn).replies.pop_front();
        let right = match &reply {
            Some(Reply::Declare(_)) => name == "queue.declare-ok",
            Some(Reply::Bind(..)) => name.ends_with("bind-ok"),
            Some(Reply::Purge) => name == "queue.purge-ok",
            Some(Reply::Delete(_)) => name == "queue.delete-ok",
            Some(Reply::Consume) => name == "basic.consume-ok",
            Some(Reply::Get { .. }) => name == "basic.get-empty",
            None => false,
        };
        if !right {
            let what = format!("{name} comes out of turn on connection {conn}: {reply:?}");
            return violation(what, None, None);
        }
        match reply {
            Some(Reply::Declare(queue)) => {
                if let Some(held) = self.queues.get_mut(&queue) {
                    held.sure = true;
                }
            }
            Some(Reply::Bind(queue, pattern)) => self.make_sure(queue, &pattern),
            Some(Reply::Delete(queue)) => {
                if let Some(held) = self.deleted.get_mut(&queue) {
                    held.sure = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A basic.deliver has left.
    pub(crate) fn amqp_delivered(
        &mut self,
        conn: usize,
        consumer: &str,
        (tag, redelivered, message): (u64, bool, Id),
        now: u64,
    ) -> Check {
        let Some(held) = self.conn(conn).consumers.get(consumer).copied() else {
            let what = format!("nobody consumes as {consumer} on connection {conn}");
            return violation(what, Some(message), None);
        };
        self.hand_out(conn, consumer, held, (tag, redelivered, message), now)?;
        let unacked = self.conn(conn).unacked.values();
        let of_it = unacked.filter(|unacked| unacked.consumer == consumer);
        let count = of_it.count();
        if held.prefetch > 0 && count > held.prefetch && !held.no_ack {
            let what = format!(
                "{consumer} has {count} messages, asked for {}",
                held.prefetch
            );
            return violation(what, Some(message), Some(held.queue));
        }
        Ok(())
    }

    /// A basic.get-ok has left.
    pub(crate) fn got(
        &mut self,
        conn: usize,
        delivery: (u64, bool, Id),
        now: u64,
    ) -> Result<(), Violation> {
        let reply = self.conn(conn).replies.pop_front();
        let Some(Reply::Get { queue, no_ack }) = reply else {
            let what = format!("basic.get-ok comes out of turn on connection {conn}: {reply:?}");
            return violation(what, Some(delivery.2), None);
        };
        let prefetch = 0;
        let getter = Consumer {
            queue,
            no_ack,
            prefetch,
        };
        self.hand_out(conn, "", getter, delivery, now)
    }

    fn hand_out(
        &mut self,
        conn: usize,
        consumer: &str,
        held: Consumer,
        (tag, redelivered, message): (u64, bool, Id),
        now: u64,
    ) -> Check {
        let queue = held.queue;
        let place = self.delivered(queue, message, Some(redelivered), held.no_ack, now)?;
        if !held.no_ack {
            let unacked = Unacked {
                queue,
                place,
                consumer: consumer.to_owned(),
            };
            self.conn(conn).unacked.insert(tag, unacked);
        }
        Ok(())
    }

    /// A basic.publish was taken.
    pub(crate) fn amqp_published(&mut self, conn: usize, publication: &Publication, now: u64) {
        let place = self.publish(publication, now);
        let held = self.conn(conn);
        held.confirm_last += 1;
        held.confirms.insert(held.confirm_last, place);
    }

    /// A confirm has left; with `acked` the broker has the messages.
    pub(crate) fn confirmed(
        &mut self,
        conn: usize,
        tag: u64,
        multiple: bool,
        acked: bool,
    ) -> Check {
        let confirms = &mut self.conn(conn).confirms;
        let first = confirms.keys().next().copied();
        let right = confirms.contains_key(&tag) && (multiple || first == Some(tag));
        if !right {
            let what = format!("confirm {tag} comes out of turn on connection {conn}");
            return violation(what, None, None);
        }
        let rest = confirms.split_off(&(tag + 1));
        let places = std::mem::replace(confirms, rest);
        for place in places.into_values().filter(|_| acked) {
            self.acknowledged(place, None);
        }
        Ok(())
    }
}

/// The name of a session's queue.
pub(crate) fn own_queue(client: &str, suffix: &str) -> String {
    format!("mqtt-subscription-{client}{suffix}")
}
