//! Who watches publications: samples of what goes by, without anything being taken.
//!
//! Owns the taps of a broker. Where nobody watches, a publication costs one relaxed load. Who
//! publishes never waits: a tap takes so many samples a second and holds a bounded number of them;
//! the rest is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::key::{self, Form};
use crate::limits::{SAMPLE_BYTES_WAITING_MAX, SAMPLES_WAITING_MAX, TAPS_MAX};
use crate::message::MessageRef;
use crate::time::Time;
use crate::watermark::Wake;

/// What a tap is for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Publications in this virtual host alone.
    pub vhost: Option<Box<str>>,
    /// Publications to this exchange alone.
    pub exchange: Option<Box<str>>,
    /// A filter of MQTT or a binding key of AMQP.
    pub filter: Box<str>,
    /// Which of them it is.
    pub form: Form,
    /// Publications in these forms: slashed ones come from MQTT clients.
    pub from: From,
    /// Samples a second.
    pub rate_max: u32,
    /// Bytes of a payload that are kept.
    pub payload_bytes_max: usize,
}

/// Whose publications are watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// Everybody's.
    All,
    /// Those of MQTT clients.
    Mqtt,
    /// Those of AMQP clients.
    Amqp,
}

/// A publication that went by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sample {
    /// When the broker received it.
    pub at: Time,
    /// Where.
    pub vhost: Box<str>,
    /// The exchange that it was published to.
    pub exchange: Box<str>,
    /// Topic or routing key.
    pub key: Box<str>,
    /// How the key is written.
    pub form: Form,
    /// The publisher's user; empty for the broker itself.
    pub user: Box<str>,
    /// The publisher's client identifier; MQTT only.
    pub client_id: Option<Arc<str>>,
    /// The publisher's connection; 0 for none.
    pub connection: u64,
    /// Delivery mode 2, or QoS 1 and 2.
    pub persistent: bool,
    /// QoS 2.
    pub exactly_once: bool,
    /// To be retained.
    pub retain: bool,
    /// Queues that it was routed to.
    pub routed: usize,
    /// The first bytes of the payload.
    pub payload: Box<[u8]>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    /// Publications since the last sample that fit the filter, and were too many.
    pub skipped: u64,
}

/// Who published.
pub(crate) struct Publisher<'a> {
    pub(crate) vhost: &'a str,
    pub(crate) user: &'a str,
    pub(crate) client_id: Option<&'a Arc<str>>,
    pub(crate) connection: u64,
}

/// All taps of a broker.
#[derive(Default)]
pub struct Taps {
    count: AtomicUsize,
    taps: RwLock<Vec<Arc<Inner>>>,
}

/// One tap; closed when dropped.
pub struct Tap {
    taps: Arc<Taps>,
    inner: Arc<Inner>,
}

struct Inner {
    wish: Wish,
    driver: Arc<dyn Wake>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    samples: VecDeque<Sample>,
    bytes: usize,
    skipped: u64,
    /// The second that [`Self::taken`] counts.
    second: u64,
    taken: u32,
}

impl Taps {
    /// Opens a tap; `driver` is woken when it has samples. `None`: there are [`TAPS_MAX`] already.
    #[must_use]
    pub fn open(self: &Arc<Self>, wish: Wish, driver: Arc<dyn Wake>) -> Option<Tap> {
        let mut taps = self.taps.write();
        if taps.len() >= TAPS_MAX {
            return None;
        }
        let inner = Arc::new(Inner {
            wish,
            driver,
            state: Mutex::default(),
        });
        taps.push(Arc::clone(&inner));
        self.count.store(taps.len(), Ordering::Release);
        Some(Tap {
            taps: Arc::clone(self),
            inner,
        })
    }

    /// Whether somebody watches: one relaxed load.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    #[cold]
    pub(crate) fn show(&self, from: &Publisher<'_>, message: &MessageRef<'_>, routed: usize) {
        for tap in &*self.taps.read() {
            if tap.wants(from, message) {
                tap.take(from, message, routed);
            }
        }
    }
}

impl Tap {
    /// Takes the oldest samples, so many at most.
    #[must_use]
    pub fn take(&self, count_max: usize) -> Vec<Sample> {
        let mut state = self.inner.state.lock();
        let count = state.samples.len().min(count_max);
        let taken: Vec<_> = state.samples.drain(..count).collect();
        state.bytes -= taken.iter().map(bytes_of).sum::<usize>();
        taken
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut taps = self.taps.taps.write();
        taps.retain(|held| !Arc::ptr_eq(held, &self.inner));
        self.taps.count.store(taps.len(), Ordering::Release);
    }
}

impl Inner {
    fn wants(&self, from: &Publisher<'_>, message: &MessageRef<'_>) -> bool {
        let wish = &self.wish;
        let form = message.head.form;
        let kind = match wish.from {
            From::All => true,
            From::Mqtt => form == Form::Slashed,
            From::Amqp => form == Form::Dotted,
        };
        let same = |wanted: &Option<Box<str>>, is: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == is)
        };
        kind && same(&wish.vhost, from.vhost)
            && same(&wish.exchange, message.exchange)
            && fits(&wish.filter, wish.form, message.key, form)
    }

    fn take(&self, from: &Publisher<'_>, message: &MessageRef<'_>, routed: usize) {
        let wish = &self.wish;
        let head = &message.head;
        let mut state = self.state.lock();
        let second = head.received.seconds();
        if state.second != second {
            state.second = second;
            state.taken = 0;
        }
        let full = state.samples.len() >= SAMPLES_WAITING_MAX
            || state.bytes >= SAMPLE_BYTES_WAITING_MAX
            || state.taken >= wish.rate_max;
        if full {
            state.skipped += 1;
            return;
        }
        state.taken += 1;
        let kept = message.payload.len().min(wish.payload_bytes_max);
        let sample = Sample {
            at: head.received,
            vhost: from.vhost.into(),
            exchange: message.exchange.into(),
            key: String::from_utf8_lossy(message.key).into(),
            form: head.form,
            user: from.user.into(),
            client_id: from.client_id.cloned(),
            connection: from.connection,
            persistent: head.persistent,
            exactly_once: head.exactly_once,
            retain: head.retain,
            routed,
            payload: message.payload[..kept].into(),
            payload_bytes: message.payload.len(),
            skipped: std::mem::take(&mut state.skipped),
        };
        state.bytes += bytes_of(&sample);
        state.samples.push_back(sample);
        drop(state);
        self.driver.wake();
    }
}

/// Memory that a sample takes, in bytes.
fn bytes_of(sample: &Sample) -> usize {
    let names = sample.vhost.len() + sample.exchange.len() + sample.user.len();
    size_of::<Sample>() + names + sample.key.len() + sample.payload.len()
}

/// Whether a filter fits a key, each in its own form: in the same form by its words or levels, else
/// both translated to AMQP's words. As in MQTT, what begins with a wildcard fits no key that begins
/// with `$`.
fn fits(filter: &str, filter_form: Form, key: &[u8], form: Form) -> bool {
    let filter = filter.as_bytes();
    let first = filter_form.words(filter).next().unwrap_or_default();
    let wild = first == b"#" || first == filter_form.single_wildcard();
    if wild && key.first() == Some(&b'$') {
        return false;
    }
    if filter_form == form {
        return words_fit(filter, key, form);
    }
    let dotted_filter = dotted(filter, filter_form);
    words_fit(&dotted_filter, &dotted(key, form), Form::Dotted)
}

fn dotted(bytes: &[u8], form: Form) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    match form {
        Form::Dotted => out.extend_from_slice(bytes),
        Form::Slashed => key::append_dotted(bytes, &mut out),
    }
    out
}

/// Matches word by word; behind a `#` the rest is tried from each word on, the last `#` alone going
/// back: at most words of both multiplied.
fn words_fit(filter: &[u8], key: &[u8], form: Form) -> bool {
    let filter: SmallVec<[&[u8]; 16]> = form.words(filter).collect();
    let key: SmallVec<[&[u8]; 16]> = form.words(key).collect();
    let (mut at, mut word) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if filter.get(at) == Some(&&b"#"[..]) {
            back = Some((at, word));
            at += 1;
            continue;
        }
        let same = match (filter.get(at), key.get(word)) {
            (None, None) => return true,
            (Some(level), Some(word)) => level == word || *level == form.single_wildcard(),
            _ => false,
        };
        if same {
            at += 1;
            word += 1;
        } else if let Some((hash, from)) = back
            && from < key.len()
        {
            back = Some((hash, from + 1));
            at = hash + 1;
            word = from + 1;
        } else {
            return false;
        }
    }
}

impl std::fmt::Debug for Taps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taps")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{AmqpOrigin, Head};

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn wish(filter: &str, form: Form) -> Wish {
        Wish {
            vhost: None,
            exchange: None,
            filter: filter.into(),
            form,
            from: From::All,
            rate_max: 3,
            payload_bytes_max: 2,
        }
    }

    fn message(key: &str, form: Form, ms: u64) -> MessageRef<'_> {
        MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form,
                persistent: false,
                exactly_once: false,
                retain: false,
                publisher: 0,
                received: Time(ms),
                expires: None,
            },
            exchange: "e",
            key: key.as_bytes(),
            properties: &[],
            payload: b"payload",
        }
    }

    const FROM: Publisher<'_> = Publisher {
        vhost: "/",
        user: "u",
        client_id: None,
        connection: 7,
    };

    #[test]
    fn o8_a_tap_fits_both_forms() {
        use Form::{Dotted, Slashed};
        let rows = [
            ("a/+", Slashed, "a/b", Slashed, true),
            ("a/+", Slashed, "a.b", Dotted, true),
            ("a/+", Slashed, "a/b/c", Slashed, false),
            ("a.*", Dotted, "a/b", Slashed, true),
            ("a.*", Dotted, "a.b", Dotted, true),
            ("a/b", Slashed, "a.b", Slashed, false),
            ("a/#", Slashed, "a", Slashed, true),
            ("#/c/#", Slashed, "a/b/c", Slashed, true),
            ("#.b.#.d", Dotted, "a.b.c.b.d", Dotted, true),
            ("#.b.#.d", Dotted, "a.b.c.b.e", Dotted, false),
            ("#", Slashed, "$SYS/a", Slashed, false),
            ("$SYS/#", Slashed, "$SYS/a", Slashed, true),
            ("#", Dotted, "", Dotted, true),
            ("*", Dotted, "", Dotted, false),
        ];
        for (filter, filter_form, key, form, expected) in rows {
            let got = fits(filter, filter_form, key.as_bytes(), form);
            assert_eq!(got, expected, "{filter} {key}");
        }
    }

    #[test]
    fn o8_a_tap_samples_and_counts_the_rest() {
        let taps = Arc::new(Taps::default());
        assert!(!taps.any());
        let tap = taps
            .open(wish("#", Form::Slashed), Arc::new(Nobody))
            .expect("there is room");
        assert!(taps.any());
        for _ in 0..5 {
            taps.show(&FROM, &message("a/b", Form::Slashed, 1_000), 2);
        }
        taps.show(&FROM, &message("a/b", Form::Slashed, 2_000), 2);
        let samples = tap.take(10);
        let skipped: Vec<_> = samples.iter().map(|sample| sample.skipped).collect();
        assert_eq!(skipped, [0, 0, 0, 2], "three a second");
        let first = &samples[0];
        assert_eq!((&*first.payload, first.payload_bytes), (&b"pa"[..], 7));
        assert_eq!((first.routed, first.connection), (2, 7));
        let more: Vec<_> = (1..TAPS_MAX)
            .map(|_| {
                taps.open(wish("#", Form::Slashed), Arc::new(Nobody))
                    .is_some()
            })
            .collect();
        assert!(more.iter().all(|opened| *opened));
        drop(tap);
        assert!(!taps.any(), "the others were dropped at once");
    }

    #[test]
    fn o8_taps_are_bounded() {
        let taps = Arc::new(Taps::default());
        let open = || taps.open(wish("#", Form::Slashed), Arc::new(Nobody));
        let held: Vec<_> = (0..TAPS_MAX)
            .map(|_| open().expect("there is room"))
            .collect();
        assert!(open().is_none());
        let endless = Wish {
            rate_max: u32::MAX,
            ..wish("#", Form::Slashed)
        };
        drop(held);
        let tap = taps.open(endless, Arc::new(Nobody)).expect("there is room");
        for _ in 0..SAMPLES_WAITING_MAX + 5 {
            taps.show(&FROM, &message("a", Form::Slashed, 1_000), 0);
        }
        assert_eq!(tap.take(usize::MAX).len(), SAMPLES_WAITING_MAX);
        taps.show(&FROM, &message("a", Form::Slashed, 1_000), 0);
        assert_eq!(tap.take(1)[0].skipped, 5);
    }
}
