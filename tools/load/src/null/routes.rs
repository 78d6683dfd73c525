//! Where the null broker's messages go: a list of filters, looked through once per topic.
//!
//! Owns the list. Senders keep what they found until the list changes.

/// One way out.
struct Route {
    /// Empty for MQTT.
    exchange: Vec<u8>,
    /// A filter or binding key.
    filter: Vec<u8>,
    /// Share group or queue; empty for a subscriber of its own.
    name: Vec<u8>,
    /// Who gets a copy in turn.
    peers: Vec<usize>,
    turn: usize,
}

/// What a sender last looked up.
#[derive(Default)]
pub(super) struct Cached {
    topic: Vec<u8>,
    exchange: Vec<u8>,
    /// The list's version then.
    version: u64,
    /// Places in the list.
    pub(super) to: Vec<usize>,
}

#[derive(Default)]
pub(super) struct Routes {
    list: Vec<Route>,
    /// Exchanges that go by no key.
    fanouts: Vec<Vec<u8>>,
    version: u64,
}

impl Routes {
    /// A filter of a subscriber, alone or in a share group.
    pub(super) fn subscribe(&mut self, group: &[u8], filter: &[u8], peer: usize) {
        let mut list = self.list.iter_mut();
        let found = list.find(|r| !group.is_empty() && r.name == group && r.filter == filter);
        match found {
            Some(route) => route.peers.push(peer),
            None => self.add(b"", filter, group, vec![peer]),
        }
        self.version += 1;
    }

    /// A binding of a queue.
    pub(super) fn bind(&mut self, exchange: &[u8], key: &[u8], queue: &[u8]) {
        self.add(exchange, key, queue, vec![]);
        self.version += 1;
    }

    pub(super) fn consume(&mut self, queue: &[u8], peer: usize) {
        for route in self.list.iter_mut().filter(|r| r.name == queue) {
            route.peers.push(peer);
        }
        self.version += 1;
    }

    pub(super) fn delete(&mut self, queue: &[u8]) {
        self.list.retain(|r| r.name != queue);
        self.version += 1;
    }

    pub(super) fn add_fanout(&mut self, exchange: &[u8]) {
        self.fanouts.push(exchange.to_vec());
    }

    pub(super) fn gone(&mut self, peer: usize) {
        for route in &mut self.list {
            route.peers.retain(|p| *p != peer);
            route.turn = 0;
        }
        // Queues stay, subscribers do not.
        self.list
            .retain(|r| !r.peers.is_empty() || r.name.starts_with(QUEUE_PREFIX));
        self.version += 1;
    }

    /// Whether the sender's last look-up still says where this goes.
    #[inline]
    pub(super) fn is_fresh(&self, cached: &Cached, exchange: &[u8], topic: &[u8]) -> bool {
        cached.version == self.version && cached.topic == topic && cached.exchange == exchange
    }

    pub(super) fn look_up(&self, cached: &mut Cached, exchange: &[u8], topic: &[u8], by: u8) {
        cached.topic.clear();
        cached.topic.extend_from_slice(topic);
        cached.exchange.clear();
        cached.exchange.extend_from_slice(exchange);
        cached.version = self.version;
        let is_fanout = self.fanouts.iter().any(|f| f == exchange);
        let leads =
            |r: &Route| r.exchange == exchange && (is_fanout || matches(&r.filter, topic, by));
        let found = (0..self.list.len()).filter(|i| leads(&self.list[*i]));
        cached.to.clear();
        cached.to.extend(found);
    }

    /// Whose turn it is on a route.
    #[inline]
    pub(super) fn next_peer(&mut self, route: usize) -> Option<usize> {
        let route = self.list.get_mut(route)?;
        if route.peers.is_empty() {
            return None;
        }
        route.turn = (route.turn + 1) % route.peers.len();
        Some(route.peers[route.turn])
    }

    fn add(&mut self, exchange: &[u8], filter: &[u8], name: &[u8], peers: Vec<usize>) {
        self.list.push(Route {
            exchange: exchange.to_vec(),
            filter: filter.to_vec(),
            name: name.to_vec(),
            peers,
            turn: 0,
        });
    }
}

/// Exact, `#` at the end, or one level at the end.
fn matches(filter: &[u8], topic: &[u8], separator: u8) -> bool {
    match filter.split_last() {
        Some((b'#', start)) => topic.starts_with(start),
        Some((b'+' | b'*', start)) => topic
            .strip_prefix(start)
            .is_some_and(|rest| !rest.contains(&separator)),
        _ => filter == topic,
    }
}

/// What queues of this generator are called.
const QUEUE_PREFIX: &[u8] = b"b.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/#", "a/b/c", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/b/c", false),
        ];
        for (filter, topic, expected) in table {
            let found = matches(filter.as_bytes(), topic.as_bytes(), b'/');
            assert_eq!(found, expected, "{filter} {topic}");
        }
    }
}
