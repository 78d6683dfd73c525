//! The threads that connections run on: one runtime each, and a balance between them.
//!
//! A thread that serves everybody wakes nobody else, which is what a message costs most where there
//! are few. So all connections start at home, the first thread, which also accepts. While a thread
//! has more than it can do, half of its connections that have something to do move to one that has
//! less, and new connections go to each in turn; when all together have little, they come home as
//! they are next used. A connection that does nothing stays where it is.
//!
//! ```text
//! home ──one thread busy, another not: every other active connection moves──▶ spread
//!   ▲────────all together little to do for a while: each comes home when used──'
//! ```
//!
//! Owns the threads and the decision; the driver's owner ([`crate::serve`]) asks after each poll
//! whether to move. Where no crew was started, as in tests, nobody moves.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How often the balance is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often while there is little to do: a look wakes a thread.
const CALM_LOOK_EVERY: Duration = Duration::from_millis(400);

/// The part of its time that a thread is busy from which on it has too much to do.
const BUSY: f64 = 0.8;

/// Looks in a row that must find a thread busy before it gives any away: a host that takes the
/// processor for a moment looks like too much to do.
const BUSY_LOOKS: u32 = 3;

/// How much less another must have to do to take some over.
const LESS: f64 = 0.3;

/// What all together may have to do at home.
const LITTLE: f64 = 0.6;

/// Looks in a row that must find little before connections come home.
const LITTLE_LOOKS: u32 = 3;

/// Connections that a thread serves before it looks for events again. A turn may take
/// milliseconds, looking takes less than one of them.
const POLLS_BETWEEN_EVENTS: u32 = 4;

/// Connections that a thread serves before it takes one that another thread has woken: half of its
/// turns are theirs, if they are that many.
const POLLS_BETWEEN_OTHERS: u32 = 2;

/// Looks that a thread is left alone after it has given some away, if that has not helped: one
/// connection alone may keep it busy.
const PATIENCE_MAX: u32 = 64;

/// The threads. Dropping it stops them, and whatever runs on them.
#[derive(Debug)]
pub struct Crew {
    deck: Arc<Deck>,
    /// Closed when the crew is dropped.
    stops: Vec<oneshot::Sender<()>>,
    threads: Vec<thread::JoinHandle<()>>,
    balance: JoinHandle<()>,
}

/// What the threads share.
#[derive(Debug)]
struct Deck {
    seats: Vec<Seat>,
    /// There is too much to do for new connections to start at home.
    spreading: AtomicBool,
    /// Whose turn it is to get a new one.
    turn: AtomicUsize,
}

/// One thread.
#[derive(Debug)]
struct Seat {
    handle: Handle,
    /// What its connections are told: see [`Order`].
    order: AtomicU64,
    /// It had too much to do when it was last looked at.
    busy: AtomicBool,
}

/// What a thread's connections are told to do when they are next used, packed into a number: 0 to
/// stay, or the place of the thread to go to in the low half and in the high half the number of the
/// order, 0 for all of them to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Stay,
    /// All of them.
    Go {
        to: u32,
    },
    /// One half of them, another half for each number.
    Half {
        to: u32,
        number: u32,
    },
}

impl Order {
    fn pack(self) -> u64 {
        match self {
            Self::Stay => 0,
            Self::Go { to } => u64::from(to) + 1,
            Self::Half { to, number } => u64::from(number.max(1)) << 32 | (u64::from(to) + 1),
        }
    }

    fn unpack(packed: u64) -> Self {
        let number = (packed >> 32) as u32;
        match (packed as u32).checked_sub(1) {
            None => Self::Stay,
            Some(to) if number == 0 => Self::Go { to },
            Some(to) => Self::Half { to, number },
        }
    }

    /// Where a connection goes that hashes its address to this.
    fn of(self, who: usize) -> Option<u32> {
        match self {
            Self::Stay => None,
            Self::Go { to } => Some(to),
            Self::Half { to, number } => {
                let hash = FixedState::with_seed(u64::from(number)).hash_one(who);
                (hash >> 63 == 1).then_some(to)
            }
        }
    }
}

thread_local! {
    /// The crew that this thread belongs to, and its place.
    static SEAT: RefCell<Option<(Arc<Deck>, usize)>> = const { RefCell::new(None) };
}

/// Where the connection that runs on this thread should go; `who` tells it from others.
pub(crate) fn departure(who: usize) -> Option<Handle> {
    SEAT.with_borrow(|seat| {
        let (deck, place) = seat.as_ref()?;
        let packed = deck.seats[*place].order.load(Ordering::Relaxed);
        if packed == 0 {
            return None;
        }
        let to = Order::unpack(packed).of(who)?;
        deck.seats.get(to as usize).map(|seat| seat.handle.clone())
    })
}

/// Whether this thread has too much to do.
pub(crate) fn is_busy() -> bool {
    SEAT.with_borrow(|seat| {
        let seat = seat.as_ref();
        seat.is_some_and(|(deck, place)| deck.seats[*place].busy.load(Ordering::Relaxed))
    })
}

/// Where a connection starts that was accepted on this thread; `None`: here.
pub(crate) fn placement() -> Option<Handle> {
    SEAT.with_borrow(|seat| {
        let (deck, place) = seat.as_ref()?;
        if !deck.spreading.load(Ordering::Relaxed) {
            return None;
        }
        let turn = deck.turn.fetch_add(1, Ordering::Relaxed) % deck.seats.len();
        (turn != *place).then(|| deck.seats[turn].handle.clone())
    })
}

impl Crew {
    /// Starts that many threads; nobody is on them yet. Their balance is looked after elsewhere: a
    /// thread that has too much to do is late with everything.
    ///
    /// # Errors
    /// The system gives no thread, or no way to wait for sockets.
    pub fn start(size: NonZeroUsize, elsewhere: &Handle) -> io::Result<Self> {
        let (mut seats, mut stops, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        let mut starts = Vec::new();
        for place in 0..size.get() {
            let runtime = Builder::new_current_thread()
                .event_interval(POLLS_BETWEEN_EVENTS)
                .global_queue_interval(POLLS_BETWEEN_OTHERS)
                .enable_all()
                .build()?;
            seats.push(Seat {
                handle: runtime.handle().clone(),
                order: AtomicU64::new(0),
                busy: AtomicBool::new(false),
            });
            let (stop, stopped) = oneshot::channel::<()>();
            let (start, started) = oneshot::channel::<Arc<Deck>>();
            let run = move || {
                let Ok(deck) = started.blocking_recv() else {
                    return;
                };
                SEAT.set(Some((deck, place)));
                // Neither is an error: the crew was dropped.
                let _ = runtime.block_on(stopped);
                // A login that is being verified has this long; nothing else is left.
                runtime.shutdown_timeout(Duration::from_millis(200));
            };
            let name = format!("worker-{place}");
            threads.push(thread::Builder::new().name(name).spawn(run)?);
            stops.push(stop);
            starts.push(start);
        }
        let deck = Arc::new(Deck {
            seats,
            spreading: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        });
        for start in starts {
            // The thread waits for it.
            let _ = start.send(Arc::clone(&deck));
        }
        let balance = elsewhere.spawn(balance(Arc::clone(&deck)));
        Ok(Self {
            deck,
            stops,
            threads,
            balance,
        })
    }

    /// Where connections are accepted.
    #[must_use]
    pub fn home(&self) -> &Handle {
        &self.deck.seats[0].handle
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.balance.abort();
        self.stops.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Looks after the balance until it is dropped.
async fn balance(deck: Arc<Deck>) {
    let seats = &deck.seats;
    let mut pause = LOOK_EVERY;
    let mut scale = Scale::default();
    let spent = || {
        seats
            .iter()
            .map(|seat| seat.handle.metrics().worker_total_busy_duration(0))
    };
    let mut before: Vec<Duration> = spent().collect();
    let mut since = Instant::now();
    loop {
        sleep(pause).await;
        let passed = since.elapsed().as_secs_f64().max(1e-3);
        since = Instant::now();
        let now: Vec<Duration> = spent().collect();
        let busy: Vec<f64> = now
            .iter()
            .zip(&before)
            .map(|(now, before)| now.saturating_sub(*before).as_secs_f64() / passed)
            .collect();
        before = now;
        let orders = scale.weigh(&busy);
        pause = if scale.is_calm() {
            CALM_LOOK_EVERY
        } else {
            LOOK_EVERY
        };
        for ((seat, order), busy) in seats.iter().zip(orders).zip(busy) {
            seat.order.store(order.pack(), Ordering::Relaxed);
            seat.busy.store(busy >= BUSY, Ordering::Relaxed);
        }
        deck.spreading
            .store(scale.is_spreading(), Ordering::Relaxed);
    }
}

/// Decides from how busy the threads were since the last look.
struct Scale {
    little_looks: u32,
    /// Looks in a row that found each thread busy.
    busy_looks: Vec<u32>,
    number: u32,
    /// Looks before any move again: what the threads have to do then shows after a while.
    waiting: u32,
    /// Looks to wait after the next move; it doubles while moves do not help.
    patience: u32,
    spreading: bool,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            little_looks: 0,
            busy_looks: Vec::new(),
            number: 0,
            waiting: 0,
            patience: 1,
            spreading: false,
        }
    }
}

impl Scale {
    /// Home had too much to do, and all together still have more than a little.
    fn is_spreading(&self) -> bool {
        self.spreading
    }

    /// There was little to do at the last look.
    fn is_calm(&self) -> bool {
        self.little_looks > 0
    }

    fn weigh(&mut self, busy: &[f64]) -> Vec<Order> {
        let mut orders = vec![Order::Stay; busy.len()];
        let all: f64 = busy.iter().sum();
        self.busy_looks.resize(busy.len(), 0);
        for (looks, busy) in self.busy_looks.iter_mut().zip(busy) {
            *looks = if *busy >= BUSY {
                looks.saturating_add(1)
            } else {
                0
            };
        }
        self.little_looks = if all < LITTLE {
            self.little_looks.saturating_add(1)
        } else {
            0
        };
        if self.little_looks >= LITTLE_LOOKS {
            self.spreading = false;
            orders[1..].fill(Order::Go { to: 0 });
            return orders;
        }
        self.spreading |= self.busy_looks[0] >= BUSY_LOOKS;
        if self.waiting > 0 {
            self.waiting -= 1;
            return orders;
        }
        self.waiting = self.even_out(busy, &mut orders);
        orders
    }

    /// Gives orders to those who have too much to do; returns how many looks to wait then.
    fn even_out(&mut self, busy: &[f64], orders: &mut [Order]) -> u32 {
        let mut moved = false;
        let mut places: Vec<usize> = (0..busy.len()).collect();
        places.sort_by(|a, b| busy[*b].total_cmp(&busy[*a]));
        for rank in 0..places.len() / 2 {
            let (most, least) = (places[rank], places[places.len() - 1 - rank]);
            let long = self.busy_looks[most] >= BUSY_LOOKS;
            if !long || busy[most] - busy[least] < LESS {
                break;
            }
            self.number = self.number.wrapping_add(1);
            moved = true;
            orders[most] = Order::Half {
                to: least as u32,
                number: self.number,
            };
        }
        if !moved {
            self.patience = (self.patience / 2).max(1);
            return 0;
        }
        let looks = self.patience;
        self.patience = (looks * 2).min(PATIENCE_MAX);
        looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_packing() {
        let half = Order::Half { to: 7, number: 9 };
        for order in [Order::Stay, Order::Go { to: 0 }, Order::Go { to: 3 }, half] {
            assert_eq!(Order::unpack(order.pack()), order);
        }
        let moved = (0..1_000)
            .filter(|who| half.of(who * 256).is_some())
            .count();
        assert!((400..600).contains(&moved), "{moved} of 1,000 are half");
    }

    #[test]
    fn whoever_has_too_much_gives_half_to_who_has_least() {
        let stay = Order::Stay;
        let half = |to, number| Order::Half { to, number };
        let table: [(&[f64], &[Order]); 5] = [
            (&[0.7, 0.0], &[stay, stay]),
            (&[1.0, 0.0], &[half(1, 1), stay]),
            (&[1.0, 0.9], &[stay, stay]),
            (&[1.0, 0.5, 0.9, 0.1], &[half(3, 1), stay, half(1, 2), stay]),
            (&[0.2, 0.9, 0.1], &[stay, half(2, 1), stay]),
        ];
        for (busy, expected) in table {
            let mut scale = Scale::default();
            for _ in 1..BUSY_LOOKS {
                assert_eq!(scale.weigh(busy), vec![stay; busy.len()], "it may pass");
            }
            assert_eq!(scale.weigh(busy), expected, "{busy:?}");
            let moved = expected.iter().any(|order| *order != stay);
            if moved {
                assert_eq!(scale.weigh(busy), vec![stay; busy.len()], "they settle");
                assert_ne!(scale.weigh(busy), vec![stay; busy.len()], "and go on");
            }
        }
    }

    #[test]
    fn moves_that_do_not_help_get_rare() {
        let mut scale = Scale::default();
        let moved = |orders: Vec<Order>| orders.iter().any(|order| *order != Order::Stay);
        let mut moves = || {
            let looks = (0..200).filter(|_| moved(scale.weigh(&[1.0, 0.1])));
            looks.count()
        };
        assert!(moves() <= 9, "the waits double");
        assert!(moves() <= 4, "as far as they may");
        for _ in 0..200 {
            scale.weigh(&[0.6, 0.6]);
        }
        for _ in 1..BUSY_LOOKS {
            scale.weigh(&[1.0, 0.1]);
        }
        assert!(
            moved(scale.weigh(&[1.0, 0.1])),
            "what is uneven anew is evened out at once"
        );
    }

    #[test]
    fn all_come_home_after_a_while_of_little() {
        let mut scale = Scale::default();
        for _ in 1..LITTLE_LOOKS {
            assert_eq!(scale.weigh(&[0.1, 0.2]), [Order::Stay, Order::Stay]);
        }
        assert_eq!(scale.weigh(&[0.1, 0.2]), [Order::Stay, Order::Go { to: 0 }]);
        assert!(!scale.is_spreading());
        assert_eq!(scale.weigh(&[0.6, 0.2]), [Order::Stay, Order::Stay]);
        assert!(!scale.is_spreading(), "home is not busy yet");
        for _ in 0..BUSY_LOOKS {
            assert!(!scale.is_spreading(), "it may pass");
            scale.weigh(&[0.9, 0.2]);
        }
        assert!(scale.is_spreading());
    }
}
