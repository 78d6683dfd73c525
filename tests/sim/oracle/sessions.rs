//! How long sessions outlive their connections: until when what they have must be there, and from
//! when on it must be gone.

use std::collections::BTreeMap;

use super::protocol::Received;
use super::{Check, Oracle, own_queue, violation};

/// What the oracle knows of the session of a client. It stays when the session is over: a crash may
/// bring that back.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// How long the session outlives its connection; `None` is for ever.
    stays_ms: Option<u64>,
    /// The same before the CONNECT that no CONNACK has answered.
    stayed_ms: Option<u64>,
    /// The session is over, or ends with its connection.
    ended: bool,
    /// `None` while the client is connected.
    absence: Option<Absence>,
    /// When it went, if the disk may still say so though it has come back.
    went: Option<Went>,
}

/// When a client went that has come back.
#[derive(Clone, Copy, Debug)]
struct Went {
    since: u64,
    /// The epoch in which it came back.
    epoch: u64,
    /// It was away for so long that CONNACK waits until the disk has it.
    long: bool,
}

/// A client is away.
#[derive(Clone, Copy, Debug)]
struct Absence {
    since: u64,
    /// What the session has must be there before this time.
    least: Option<u64>,
    /// From this time on it must be gone.
    most: Option<u64>,
    /// The same for packet identifiers.
    released: Option<u64>,
    /// The journal's epoch in which it began.
    epoch: u64,
    /// It began in this life of the broker.
    seen: bool,
}

/// Of a client that was away for less the disk may take it for true that it still is.
fn grain_ms(stays_ms: Option<u64>) -> u64 {
    (stays_ms.unwrap_or_default() / 16).max(1_000)
}

fn after(now: u64, ms: Option<u64>) -> Option<u64> {
    ms.map(|ms| now + ms)
}

fn is_over(end: Option<u64>, now: u64) -> bool {
    end.is_some_and(|end| end <= now)
}

impl Lease {
    /// The shorter and the longer of two lives that the disk may know of.
    fn lives(&self) -> [Option<u64>; 2] {
        let both = [self.stays_ms, self.stayed_ms];
        let least = both.into_iter().flatten().min();
        let most = both.into_iter().collect::<Option<Vec<u64>>>();
        [least, most.and_then(|both| both.into_iter().max())]
    }
}

/// The packet identifiers of a client go; until CONNACK says so, a crash may bring them back.
fn forget_received(
    received: &mut BTreeMap<String, BTreeMap<u16, Received>>,
    forgotten: &mut BTreeMap<String, BTreeMap<u16, Received>>,
    client: &str,
) {
    if let Some(ids) = received.remove(client) {
        forgotten.entry(client.to_owned()).or_default().extend(ids);
    }
}

impl Oracle {
    /// The packet identifiers of a client go with its session.
    pub(super) fn forget_received(&mut self, client: &str) {
        forget_received(&mut self.received, &mut self.forgotten, client);
    }

    /// A CONNECT was taken. Returns whether CONNACK must say that there was a session, if that is
    /// known.
    pub(super) fn resumed(
        &mut self,
        client: &str,
        fresh: bool,
        stays_ms: Option<u64>,
        now: u64,
    ) -> Option<bool> {
        let lease = self.leases.get(client);
        let absence = lease.and_then(|lease| lease.absence);
        let ended = lease.is_some_and(|lease| lease.ended && lease.absence.is_some());
        let over = absence.is_some_and(|absence| absence.seen && is_over(absence.most, now));
        let has_queues = self.session(client).iter().any(Option::is_some);
        let present = match has_queues {
            true => Some(true),
            false if fresh || over || (ended && absence.is_some_and(|held| held.seen)) => {
                Some(false)
            }
            false => None,
        };
        let ends = stays_ms == Some(0);
        let grain_ms = grain_ms(lease.and_then(|lease| lease.stays_ms));
        let went = absence.map(|held| Went {
            since: held.since,
            epoch: self.epoch,
            long: now - held.since >= grain_ms,
        });
        let went = went.or(lease.and_then(|lease| lease.went));
        let new = Lease {
            stays_ms,
            stayed_ms: stays_ms,
            ended: ends,
            absence: None,
            went,
        };
        match self.leases.get_mut(client) {
            // What is on disk of it has the life that it had before.
            Some(lease) if ends => {
                (lease.ended, lease.absence) = (true, None);
                lease.went = went;
            }
            Some(lease) => {
                let stayed_ms = lease.stays_ms;
                *lease = Lease { stayed_ms, ..new };
            }
            None if ends => {}
            None => drop(self.leases.insert(client.to_owned(), new)),
        }
        present
    }

    /// CONNACK has left: the disk has how long the session stays.
    pub(super) fn lease_is_sure(&mut self, client: &str) {
        if let Some(lease) = self.leases.get_mut(client) {
            lease.stayed_ms = lease.stays_ms;
            lease.went = lease.went.filter(|went| !went.long);
        }
        self.forgotten.remove(client);
    }

    /// A client's connection is gone, and nobody has taken it over.
    pub(super) fn absent(&mut self, client: &str, now: u64) {
        let epoch = self.epoch;
        if let Some(lease) = self.leases.get_mut(client) {
            let end = after(now, lease.stays_ms);
            lease.absence = Some(Absence {
                since: now,
                least: end,
                most: end,
                released: end,
                epoch,
                seen: true,
            });
        }
    }

    /// Names of the queues that a session has or may have.
    pub(crate) fn queues_of(client: &str) -> [String; 2] {
        ["qos0", "qos1"].map(|suffix| own_queue(client, suffix))
    }

    /// Time has passed, before anybody looks which queues are there.
    pub(super) fn let_expire(&mut self, now: u64) {
        let over = |absence: &Absence| is_over(absence.least, now);
        let leases = self.leases.iter();
        let over = leases.filter(|(_, lease)| lease.absence.as_ref().is_some_and(over));
        let names = over.flat_map(|(client, _)| Self::queues_of(client));
        self.may_vanish.extend(names.collect::<Vec<_>>());
        for (client, lease) in &self.leases {
            if lease
                .absence
                .is_some_and(|held| is_over(held.released, now))
            {
                forget_received(&mut self.received, &mut self.forgotten, client);
            }
        }
    }

    /// The same, after it.
    pub(super) fn has_expired(&mut self, now: u64) -> Check {
        let mut leases = std::mem::take(&mut self.leases);
        let mut left = None;
        for (client, lease) in &mut leases {
            let Some(absence) = lease.absence else {
                continue;
            };
            let queue = self.session(client).into_iter().flatten().next();
            lease.ended |= is_over(absence.least, now) && queue.is_none();
            left = left.or(queue.filter(|_| is_over(absence.most, now)));
        }
        self.leases = leases;
        match left {
            Some(queue) => violation("a session outlives its expiry", None, Some(queue)),
            None => Ok(()),
        }
    }

    /// The broker is there again, and nobody is connected.
    pub(super) fn recover_leases(&mut self, now: u64) {
        let mut leases = std::mem::take(&mut self.leases);
        for lease in leases.values_mut() {
            let [least, most] = lease.lives();
            let begins = Absence {
                since: now,
                least: after(now, least),
                most: after(now, most),
                released: after(now, lease.stays_ms),
                epoch: self.epoch,
                seen: false,
            };
            let went = lease.went.take();
            let went = went.filter(|went| self.is_doubtful(went.epoch));
            let stale = went.and_then(|went| after(went.since, least));
            let mut absence = match lease.absence {
                None => begins,
                // Since when the client is away is noted on the disk as messages are.
                Some(former) => Absence {
                    since: former.since,
                    least: former.least,
                    most: match self.is_doubtful(former.epoch) {
                        true => begins.most,
                        false => former.most,
                    },
                    ..begins
                },
            };
            absence.least = match lease.ended {
                // What is back has no use of which anything is known.
                true => Some(0),
                false => stale.into_iter().chain(absence.least).min(),
            };
            if lease.ended {
                absence.most = begins.most;
            }
            lease.absence = Some(absence);
        }
        self.leases = leases;
    }
}
