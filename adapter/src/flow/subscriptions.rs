//! The subscriptions of a session, in the order in which they were made.
//!
//! They are found by text: among few by a look at each, among many by hash, so that one SUBSCRIBE
//! costs what the next one costs. Must never know queues or bindings. MQTT 5.0 §3.8.

use std::hash::BuildHasher;
use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::packet::QoS;
use crate::packet::subscribe::SubscriptionOptions;

/// A subscription of the session.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// As the client sent it, `$share/group/` included.
    pub(crate) text: Box<str>,
    /// Where the filter begins in it.
    pub(crate) filter_at: u32,
    /// Its options; QoS is the granted one.
    pub(crate) options: SubscriptionOptions,
    /// Its Subscription Identifier.
    pub(crate) identifier: Option<NonZeroU32>,
    /// The consumer that serves it.
    pub(crate) slot: u32,
    /// Its binding carries the options, as those of 5.0 do.
    pub(crate) bound_with_options: bool,
}

impl Subscription {
    /// The filter that topics are matched against.
    pub(crate) fn filter(&self) -> &str {
        &self.text[self.filter_at as usize..]
    }

    fn is_walked(&self) -> bool {
        is_walked(&self.text, self.filter_at)
    }

    /// It is served by the session's own queue, with this QoS.
    fn is_own(&self, qos: QoS) -> bool {
        self.filter_at == 0 && self.options.qos == qos
    }

    /// The group of a shared subscription.
    pub(crate) fn share(&self) -> Option<&str> {
        let prefix = self.text[..self.filter_at as usize].strip_prefix("$share/")?;
        prefix.strip_suffix('/')
    }
}

/// Whether a subscription may match topics that do not have its text, or keys of AMQP origin that
/// do not have it with dots.
pub(crate) fn is_walked(text: &str, filter_at: u32) -> bool {
    filter_at > 0 || text.contains(['+', '#', '.', '*'])
}

/// How many of the subscriptions have an option that deliveries depend on: most sessions have none,
/// and pay for none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asking {
    pub(crate) identifier: u32,
    pub(crate) no_local: u32,
    pub(crate) retain_as_published: u32,
    /// Of those that are not shared: how many are of QoS 1, and of QoS 2.
    pub(crate) at_least_once: u32,
    pub(crate) exactly_once: u32,
}

impl Asking {
    /// What QoS a delivery has depends on which of them match.
    pub(crate) fn is_mixed(&self) -> bool {
        self.at_least_once > 0 && self.exactly_once > 0
    }

    fn add(&mut self, held: &Subscription) {
        self.identifier += u32::from(held.identifier.is_some());
        self.no_local += u32::from(held.options.no_local);
        self.retain_as_published += u32::from(held.options.retain_as_published);
        self.at_least_once += u32::from(held.is_own(QoS::AtLeastOnce));
        self.exactly_once += u32::from(held.is_own(QoS::ExactlyOnce));
    }

    fn remove(&mut self, held: &Subscription) {
        self.identifier -= u32::from(held.identifier.is_some());
        self.no_local -= u32::from(held.options.no_local);
        self.retain_as_published -= u32::from(held.options.retain_as_published);
        self.at_least_once -= u32::from(held.is_own(QoS::AtLeastOnce));
        self.exactly_once -= u32::from(held.is_own(QoS::ExactlyOnce));
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Subscriptions {
    /// `None` where one has ended; few of them leave no gaps, many at most as many as there are.
    list: Vec<Option<Subscription>>,
    /// Their places, once there are many.
    index: Option<Box<Index>>,
    asking: Asking,
}

#[derive(Default)]
struct Index {
    hasher: RandomState,
    places: HashTable<u32>,
    /// Where those are that may match topics with another text, in order.
    walked: Vec<u32>,
}

/// From so many subscriptions on they are found by hash.
const INDEXED_FROM: usize = 16;

fn is(list: &[Option<Subscription>], place: u32, text: &str) -> bool {
    let held = list[place as usize].as_ref();
    held.is_some_and(|held| *held.text == *text)
}

impl Index {
    fn of(list: &[Option<Subscription>]) -> Self {
        let mut index = Self::default();
        (0..list.len() as u32).for_each(|place| index.add(list, place));
        index
    }

    fn add(&mut self, list: &[Option<Subscription>], place: u32) {
        if list[place as usize]
            .as_ref()
            .is_some_and(Subscription::is_walked)
        {
            self.walked.push(place);
        }
        let hasher = &self.hasher;
        let of = |place: &u32| {
            let held = list[*place as usize].as_ref();
            hasher.hash_one(held.map(|held| &*held.text).unwrap_or_default())
        };
        self.places.insert_unique(of(&place), place, of);
    }

    fn find(&self, list: &[Option<Subscription>], text: &str) -> Option<usize> {
        let same = |place: &u32| is(list, *place, text);
        let found = self.places.find(self.hasher.hash_one(text), same);
        found.map(|place| *place as usize)
    }

    fn remove(&mut self, list: &[Option<Subscription>], text: &str) -> Option<usize> {
        let same = |place: &u32| is(list, *place, text);
        let found = self.places.find_entry(self.hasher.hash_one(text), same);
        found.ok().map(|entry| entry.remove().0 as usize)
    }
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        let index = self.index.as_ref();
        index.map_or(self.list.len(), |index| index.places.len())
    }

    /// What deliveries depend on.
    pub(crate) fn asking(&self) -> Asking {
        self.asking
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter().flatten()
    }

    /// In order, all that may match a topic, and few others.
    pub(crate) fn candidates(&self, topic: &str) -> impl Iterator<Item = &Subscription> {
        let (few, walked, exact) = match &self.index {
            None => (&self.list[..], &[][..], None),
            Some(index) => (
                &[][..],
                &index.walked[..],
                index.find(&self.list, topic).map(|place| place as u32),
            ),
        };
        let exact = exact.filter(|place| walked.binary_search(place).is_err());
        let (before, behind) =
            walked.split_at(walked.partition_point(|place| Some(*place) < exact));
        let places = before
            .iter()
            .copied()
            .chain(exact)
            .chain(behind.iter().copied());
        let found = places.filter_map(|place| self.list[place as usize].as_ref());
        few.iter().flatten().chain(found)
    }

    /// How many of them no hash finds for a topic.
    pub(crate) fn walked(&self) -> usize {
        match &self.index {
            None => self.iter().filter(|held| held.is_walked()).count(),
            Some(index) => index.walked.len(),
        }
    }

    /// Those that are shared, in order.
    pub(crate) fn into_shared(self) -> Vec<Subscription> {
        let all = self.list.into_iter().flatten();
        all.filter(|held| held.share().is_some()).collect()
    }

    fn place(&self, text: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.find(&self.list, text),
            None => (0..self.list.len()).find(|place| is(&self.list, *place as u32, text)),
        }
    }

    /// The subscription with this text.
    pub(crate) fn find(&self, text: &str) -> Option<&Subscription> {
        self.list[self.place(text)?].as_ref()
    }

    /// Adds a subscription, or puts it where there is one with the same text ([MQTT-3.8.4-3]).
    pub(crate) fn put(&mut self, new: Subscription) {
        self.asking.add(&new);
        if let Some(place) = self.place(&new.text) {
            if let Some(old) = self.list[place].replace(new) {
                self.asking.remove(&old);
            }
            return;
        }
        let place = self.list.len() as u32;
        self.list.push(Some(new));
        if let Some(index) = &mut self.index {
            index.add(&self.list, place);
        } else if self.list.len() > INDEXED_FROM {
            self.index = Some(Box::new(Index::of(&self.list)));
        }
    }

    /// Takes the subscription with this text out.
    pub(super) fn remove(&mut self, text: &str) -> Option<Subscription> {
        let gone = match &mut self.index {
            None => {
                let place = self.place(text)?;
                self.list.remove(place)
            }
            Some(index) => {
                let place = index.remove(&self.list, text)?;
                if let Ok(at) = index.walked.binary_search(&(place as u32)) {
                    index.walked.remove(at);
                }
                self.list[place].take()
            }
        }?;
        self.asking.remove(&gone);
        if self.len() < self.list.len() / 2 {
            self.sweep();
        }
        Some(gone)
    }

    /// Closes the gaps; paid for by the removals that left them.
    fn sweep(&mut self) {
        self.list.retain(Option::is_some);
        self.list.shrink_to_fit();
        let many = self.list.len() > INDEXED_FROM;
        self.index = many.then(|| Box::new(Index::of(&self.list)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(text: &str, number: u32) -> Subscription {
        let qos = QoS::from_bits((number % 3) as u8).expect("a QoS");
        let mut options = SubscriptionOptions::new(qos);
        options.no_local = number.is_multiple_of(2);
        options.retain_as_published = number.is_multiple_of(3);
        Subscription {
            text: text.into(),
            filter_at: 0,
            options,
            identifier: NonZeroU32::new(number % 5),
            slot: 0,
            bound_with_options: true,
        }
    }

    /// What it does is what a list does, however many there are; and what it takes follows what it
    /// holds.
    #[test]
    fn many_are_kept_as_a_list_keeps_them() {
        let mut held = Subscriptions::default();
        let mut model: Vec<Subscription> = Vec::new();
        let mut state = 7_u32;
        for step in 0..6_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (state >> 16) % 100;
            let text = format!("a/{}{number}", ["", "", "+/", "b."][number as usize % 4]);
            let place = model.iter().position(|other| *other.text == *text);
            // They become many, then few, then many again.
            let ends = (state >> 8) % 8 < if step / 1_000 % 2 == 0 { 2 } else { 6 };
            if ends {
                let gone = held.remove(&text);
                assert_eq!(gone.is_some(), place.is_some());
                place.map(|place| model.remove(place));
            } else {
                let new = subscription(&text, state >> 24);
                held.put(new.clone());
                match place {
                    Some(place) => model[place] = new,
                    None => model.push(new),
                }
            }
            let mut asking = Asking::default();
            model.iter().for_each(|other| asking.add(other));
            assert_eq!(held.asking(), asking);
            assert_eq!(held.len(), model.len());
            let same = held.iter().map(|held| (&held.text, held.identifier));
            assert!(same.eq(model.iter().map(|other| (&other.text, other.identifier))));
            let found = held.find(&text).map(|held| held.identifier);
            let expected = model.iter().find(|other| *other.text == *text);
            assert_eq!(found, expected.map(|other| other.identifier));
            assert_eq!(
                held.walked(),
                model.iter().filter(|held| held.is_walked()).count()
            );
            let candidates: Vec<&str> = held.candidates(&text).map(|held| &*held.text).collect();
            let may = |other: &&Subscription| other.is_walked() || *other.text == *text;
            if model.len() > INDEXED_FROM {
                let expected: Vec<&str> =
                    model.iter().filter(may).map(|held| &*held.text).collect();
                assert_eq!(candidates, expected);
            } else {
                assert!(expected.is_none() || candidates.contains(&text.as_str()));
            }
            assert!(held.list.len() <= (2 * model.len() + 1).max(INDEXED_FROM));
        }
    }

    #[test]
    fn the_shared_ones_stay_when_the_session_is_left() {
        let mut held = Subscriptions::default();
        for number in 0..40 {
            let text = format!("$share/g/{number}");
            let (text, filter_at) = if number % 2 == 0 {
                (text.as_str(), 9)
            } else {
                (&text[9..], 0)
            };
            held.put(Subscription {
                filter_at,
                ..subscription(text, number)
            });
        }
        assert!(held.remove("$share/g/4").is_some());
        let shared = held.into_shared();
        assert_eq!(shared.len(), 19);
        assert!(shared.iter().all(|held| held.share() == Some("g")));
    }
}
