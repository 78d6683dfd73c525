//! The driver over an in-memory pipe, with a machine that does what its input says.

use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::doorbell::Doorbell;
use leveret_core::journal::MemoryJournal;
use leveret_core::login::{Credentials, Request, Verdict};
use leveret_core::options::Options;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, yield_now};

use super::*;

/// What the test sees of a machine.
#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<String>>,
    doorbell: Doorbell,
    /// What the next wake-up does.
    on_wake: Mutex<Option<&'static str>>,
}

/// Takes frames of one length byte and that many bytes. Each is a word of the script; any other
/// word is echoed.
struct Scripted {
    seen: Arc<Seen>,
    out: Vec<u8>,
    stopped: bool,
    /// It waits until what it has answered is read.
    dammed: bool,
    /// It waits until what it has to say is taken.
    brimful: bool,
    closed: bool,
    request: Option<Request>,
    deadline: Option<Time>,
}

impl Scripted {
    fn obey(&mut self, turn: &mut Turn, word: &str) {
        match word {
            "stop" => self.stopped = true,
            "go" => self.stopped = false,
            "bye" => {
                self.out.extend_from_slice(b"farewell");
                self.closed = true;
            }
            "boom" => panic!("as the script says"),
            "flood" => self.out.resize(FLOOD_BYTES, b'.'),
            "dam" => {
                self.out.resize(FLOOD_BYTES, b'.');
                self.dammed = true;
            }
            "brim" => {
                self.out.extend_from_slice(b"brim");
                self.brimful = true;
            }
            "slow" => {
                // It is later than it was, whenever that was.
                turn.set_clock(|| Time(u64::MAX));
                turn.count_rebound(1);
            }
            "bind" => turn.count_rebound(100),
            "calm" => self.deadline = None,
            "alarm" => self.deadline = Some(turn.now.after_ms(60_000)),
            "login" => {
                self.stopped = true;
                let credentials = Credentials {
                    user: "guest".into(),
                    password: (*b"x").into(),
                };
                self.request = Some(Request::Login(credentials));
            }
            other => self.out.extend_from_slice(other.as_bytes()),
        }
    }

    fn note(&self, call: impl Into<String>) {
        self.seen.calls.lock().push(call.into());
    }
}

impl Machine for Scripted {
    fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        let mut used = 0;
        while let Some((length, rest)) = input[used..].split_first() {
            let length = usize::from(*length);
            if !self.wants_input() || rest.len() < length {
                break;
            }
            let word = String::from_utf8_lossy(&rest[..length]).into_owned();
            self.note(&word);
            self.obey(turn, &word);
            used += 1 + length;
            if turn.is_spent() {
                break;
            }
        }
        used
    }

    fn handle_wake(&mut self, turn: &mut Turn) {
        self.note("wake");
        self.dammed = false;
        let word = self.seen.on_wake.lock().take();
        if let Some(word) = word {
            self.obey(turn, word);
        }
    }

    fn handle_timeout(&mut self, turn: &mut Turn) {
        self.note("timeout");
        self.deadline = None;
        self.obey(turn, "bye");
    }

    fn handle_reply(&mut self, _turn: &mut Turn, reply: Reply) {
        let Reply::Login(verdict) = reply else { return };
        self.note(if verdict == Verdict::Refused {
            "refused"
        } else {
            "accepted"
        });
        self.stopped = false;
    }

    fn handle_close(&mut self, _turn: &mut Turn) {
        self.note("close");
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.deadline
    }

    fn poll_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    fn poll_output(&mut self, out: &mut Vec<u8>) {
        self.brimful = false;
        out.append(&mut self.out);
    }

    fn wants_input(&self) -> bool {
        !(self.stopped || self.closed || self.dammed || self.brimful)
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn doorbell(&self) -> &Doorbell {
        &self.seen.doorbell
    }
}

const PIPE_BYTES: usize = 256;
const FLOOD_BYTES: usize = PIPE_BYTES + 65_536;

fn surroundings() -> Arc<Surroundings> {
    let broker = Broker::open(
        Options::default(),
        Arc::new(Volatile::default()),
        Arc::new(MemoryJournal::default()),
        Time(0),
        String::new,
    )
    .expect("nothing to load");
    let internal = leveret_auth::login::Internal::new(&mut StdRng::seed_from_u64(1));
    let authenticator = Arc::new(Authenticator::new(broker, Arc::new(internal)));
    Arc::new(Surroundings {
        clock: Clock::start(),
        authenticator,
    })
}

fn machine() -> (Arc<Seen>, Scripted) {
    let seen = Arc::new(Seen::default());
    let scripted = Scripted {
        seen: Arc::clone(&seen),
        out: Vec::new(),
        stopped: false,
        dammed: false,
        brimful: false,
        closed: false,
        request: None,
        deadline: None,
    };
    (seen, scripted)
}

fn driver() -> (Arc<Seen>, DuplexStream, Driver<Scripted, DuplexStream>) {
    let (client, server) = duplex(PIPE_BYTES);
    let (seen, scripted) = machine();
    (seen, client, Driver::new(scripted, server, surroundings()))
}

fn spawned() -> (Arc<Seen>, DuplexStream, JoinHandle<()>) {
    let (seen, client, driver) = driver();
    (seen, client, tokio::spawn(driver))
}

fn frames(words: &[&str]) -> Vec<u8> {
    let frame = |word: &&str| [&[word.len() as u8], word.as_bytes()].concat();
    words.iter().flat_map(frame).collect()
}

/// Polls as a task would that nobody has woken.
fn poll<S: AsyncRead + AsyncWrite + Unpin>(driver: &mut Driver<Scripted, S>) -> Poll<()> {
    Pin::new(driver).poll(&mut Context::from_waker(Waker::noop()))
}

async fn expect(client: &mut DuplexStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    client
        .read_exact(&mut got)
        .await
        .expect("the driver answers");
    assert_eq!(got, expected);
}

async fn expect_end(client: &mut DuplexStream, expected: &[u8]) {
    let mut got = Vec::new();
    client
        .read_to_end(&mut got)
        .await
        .expect("the driver ends the stream");
    assert_eq!(got, expected);
}

#[tokio::test]
async fn frames_come_whole_however_they_are_cut() {
    let input = frames(&["one", "two", "three"]);
    for cut in 1..input.len() {
        let (seen, mut client, mut driver) = driver();
        client.write_all(&input[..cut]).await.expect("room");
        assert!(poll(&mut driver).is_pending());
        client.write_all(&input[cut..]).await.expect("room");
        assert!(poll(&mut driver).is_pending());
        expect(&mut client, b"onetwothree").await;
        assert_eq!(*seen.calls.lock(), ["one", "two", "three"], "cut at {cut}");
        assert!(driver.aside.is_none(), "nothing is kept at idle");
    }
}

#[tokio::test]
async fn a_long_frame_is_carried_behind_the_buffer() {
    struct Whole(usize, Scripted);
    // Takes its input when all of it is there.
    impl Machine for Whole {
        fn handle_input(&mut self, _turn: &mut Turn, input: &[u8]) -> usize {
            assert!(input.iter().enumerate().all(|(at, byte)| *byte == at as u8));
            if input.len() < self.0 {
                return 0;
            }
            self.1.note("whole");
            self.0
        }
        fn handle_wake(&mut self, _turn: &mut Turn) {}
        fn handle_timeout(&mut self, _turn: &mut Turn) {}
        fn handle_reply(&mut self, _turn: &mut Turn, _reply: Reply) {}
        fn handle_close(&mut self, _turn: &mut Turn) {}
        fn poll_timeout(&self) -> Option<Time> {
            None
        }
        fn poll_request(&mut self) -> Option<Request> {
            None
        }
        fn poll_output(&mut self, _out: &mut Vec<u8>) {}
        fn wants_input(&self) -> bool {
            true
        }
        fn is_closed(&self) -> bool {
            false
        }
        fn peer(&self) -> SocketAddr {
            SocketAddr::from(([127, 0, 0, 1], 1))
        }

        fn doorbell(&self) -> &Doorbell {
            self.1.doorbell()
        }
    }
    let whole = 3 * worker::BUFFER_BYTES + 7;
    let (mut client, server) = duplex(1_000);
    let (seen, scripted) = machine();
    let driver = Driver::new(Whole(whole, scripted), server, surroundings());
    let task = tokio::spawn(driver);
    let input: Vec<u8> = (0..whole).map(|at| at as u8).collect();
    client.write_all(&input).await.expect("it reads all");
    drop(client);
    task.await.expect("no panic");
    assert_eq!(*seen.calls.lock(), ["whole"]);
}

/// Nobody wakes a connection for input that it did not want when it looked.
#[tokio::test]
async fn what_is_written_at_once_makes_room_for_input() {
    let (seen, mut client, mut driver) = driver();
    assert!(poll(&mut driver).is_pending());
    client.write_all(&frames(&["after"])).await.expect("room");
    *seen.on_wake.lock() = Some("brim");
    seen.doorbell.press_and_ring();
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*seen.calls.lock(), ["wake", "after"]);
    expect(&mut client, b"brimafter").await;
}

/// [MQTT-3.1.2-22]: what the client has sent in time counts, however late this thread is.
#[tokio::test(start_paused = true)]
async fn input_that_is_there_comes_before_the_deadline() {
    let (seen, mut client, mut driver) = driver();
    client.write_all(&frames(&["alarm"])).await.expect("room");
    assert!(poll(&mut driver).is_pending());
    client.write_all(&frames(&["calm"])).await.expect("room");
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*seen.calls.lock(), ["alarm", "calm"]);
}

/// Input that takes long is handled in turns, between those of others, and all of it.
#[tokio::test(start_paused = true)]
async fn input_that_takes_long_leaves_time_for_others() {
    let (seen, mut client, mut driver) = driver();
    let input = frames(&["slow", "slow", "rest"]);
    client.write_all(&input).await.expect("room");
    for done in [&["slow"][..], &["slow", "slow"], &["slow", "slow", "rest"]] {
        assert!(poll(&mut driver).is_pending());
        assert_eq!(*seen.calls.lock(), done);
    }
    // It needs nobody to wake it.
    let (_, mut client, _) = spawned();
    client.write_all(&input).await.expect("room");
    expect(&mut client, b"rest").await;
}

/// Whoever makes many bindings on a thread that is busy with deliveries is read again later, and
/// served otherwise.
#[tokio::test(start_paused = true)]
async fn whoever_makes_many_bindings_rests_while_others_publish() {
    let (seen, mut client, driver) = driver();
    let mut worker = Worker::take();
    let now = driver.surroundings.clock.now();
    for at in [now.after_ms(1_000), now.after_ms(2_000)] {
        worker.ration.count_deliveries(at, 1_000_000, || true);
    }
    worker.put_back();
    tokio::time::advance(Duration::from_millis(2_000)).await;
    let begun = tokio::time::Instant::now();
    tokio::spawn(driver);
    client.write_all(&frames(&["bind"])).await.expect("room");
    while seen.calls.lock().is_empty() {
        yield_now().await;
    }
    client.write_all(&frames(&["after"])).await.expect("room");
    seen.doorbell.press_and_ring();
    while seen.calls.lock().len() < 2 {
        yield_now().await;
    }
    assert_eq!(*seen.calls.lock(), ["bind", "wake"]);
    // Time goes on by itself, to the next alarm.
    expect(&mut client, b"after").await;
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_machine_that_wants_nothing_is_fed_nothing_until_it_does() {
    let (seen, mut client, mut driver) = driver();
    client
        .write_all(&frames(&["stop", "later"]))
        .await
        .expect("room");
    assert!(poll(&mut driver).is_pending());
    client.write_all(&frames(&["last"])).await.expect("room");
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*seen.calls.lock(), ["stop"]);
    *seen.on_wake.lock() = Some("go");
    seen.doorbell.press_and_ring();
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*seen.calls.lock(), ["stop", "wake", "later", "last"]);
    expect(&mut client, b"laterlast").await;
}

#[tokio::test]
async fn nothing_is_read_while_too_much_waits_to_be_written() {
    let (seen, mut client, mut driver) = driver();
    client.write_all(&frames(&["dam"])).await.expect("room");
    assert!(poll(&mut driver).is_pending());
    client.write_all(&frames(&["more"])).await.expect("room");
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*seen.calls.lock(), ["dam"]);
    // The client reads: the rest leaves, the machine is told that there is room, reading goes on.
    let task = tokio::spawn(driver);
    expect(&mut client, &vec![b'.'; FLOOD_BYTES]).await;
    expect(&mut client, b"more").await;
    assert_eq!(seen.calls.lock()[..3], ["dam", "wake", "more"]);
    drop(client);
    task.await.expect("no panic");
}

#[tokio::test]
async fn last_words_are_sent_before_the_stream_is_shut() {
    let (seen, mut client, task) = spawned();
    client
        .write_all(&frames(&["bye", "unread"]))
        .await
        .expect("room");
    expect_end(&mut client, b"farewell").await;
    drop(client);
    task.await.expect("no panic");
    assert_eq!(*seen.calls.lock(), ["bye", "close"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_left_when_its_time_is_up() {
    let (seen, mut client, task) = spawned();
    let began = tokio::time::Instant::now();
    client
        .write_all(&frames(&["flood", "bye"]))
        .await
        .expect("room");
    task.await.expect("no panic");
    assert_eq!(*seen.calls.lock(), ["flood", "bye", "close"]);
    assert_eq!(began.elapsed().as_millis(), u128::from(FINISH_MS));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_close_is_left_when_its_time_is_up() {
    let (_, mut client, task) = spawned();
    let began = tokio::time::Instant::now();
    client.write_all(&frames(&["bye"])).await.expect("room");
    task.await.expect("no panic");
    assert_eq!(began.elapsed().as_millis(), u128::from(DRAIN_MS));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept() {
    let (seen, mut client, task) = spawned();
    let began = tokio::time::Instant::now();
    client.write_all(&frames(&["alarm"])).await.expect("room");
    expect_end(&mut client, b"farewell").await;
    assert_eq!(began.elapsed().as_secs(), 60);
    drop(client);
    task.await.expect("no panic");
    assert_eq!(*seen.calls.lock(), ["alarm", "timeout", "close"]);
}

#[tokio::test]
async fn a_request_is_answered_and_what_came_meanwhile_is_handled() {
    let (seen, mut client, task) = spawned();
    client
        .write_all(&frames(&["login", "after"]))
        .await
        .expect("room");
    expect(&mut client, b"after").await;
    drop(client);
    task.await.expect("no panic");
    assert_eq!(*seen.calls.lock(), ["login", "refused", "after", "close"]);
}

#[tokio::test]
async fn a_panic_closes_that_connection_only() {
    let (seen, mut client, task) = spawned();
    let (_, mut other, other_task) = spawned();
    client.write_all(&frames(&["boom"])).await.expect("room");
    expect_end(&mut client, b"").await;
    task.await.expect("caught");
    assert_eq!(*seen.calls.lock(), ["boom", "close"]);
    other.write_all(&frames(&["alive"])).await.expect("room");
    expect(&mut other, b"alive").await;
    drop(other);
    other_task.await.expect("no panic");
}

#[tokio::test]
async fn a_driver_that_is_dropped_tells_its_machine_once() {
    let (seen, client, mut driver) = driver();
    assert!(poll(&mut driver).is_pending());
    drop(driver);
    drop(client);
    assert_eq!(*seen.calls.lock(), ["close"]);
}
