//! Tests of the definitions file: on a real file, and on a disk that waits or fails when told.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use leveret_core::watermark::Wake;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;

#[test]
fn records_survive_a_reopen_in_key_order() {
    let root = tempfile::tempdir().expect("directory");
    let held = DataDir::open(root.path()).expect("opens");
    let file = DefinitionsFile::open(&held).expect("makes");
    for kind in Kind::ALL {
        assert_eq!(records(&file, kind), [], "{kind:?}");
        let name = format!("{kind:?}");
        let first = vec![
            put(kind, "b", &name),
            put(kind, "a", "old"),
            put(kind, "c", "gone"),
        ];
        file.submit(first);
        file.submit(vec![
            put(kind, "a", "new"),
            delete(kind, "c"),
            delete(kind, "never"),
        ]);
    }
    file.close().expect("closes");
    let file = DefinitionsFile::open(&held).expect("opens");
    for kind in Kind::ALL {
        let name = format!("{kind:?}");
        let expected = [("a".to_owned(), "new".to_owned()), ("b".to_owned(), name)];
        assert_eq!(records(&file, kind), expected, "{kind:?}");
    }
    assert_eq!(file.watermark().durable(), 0, "numbers start anew");
}

#[test]
fn dropping_commits_what_was_submitted() {
    let root = tempfile::tempdir().expect("directory");
    let held = DataDir::open(root.path()).expect("opens");
    let file = DefinitionsFile::open(&held).expect("makes");
    file.submit(vec![put(Kind::User, "guest", "hash")]);
    drop(file);
    let file = DefinitionsFile::open(&held).expect("opens");
    assert_eq!(
        records(&file, Kind::User),
        [("guest".to_owned(), "hash".to_owned())]
    );
}

#[test]
fn a_submission_is_durable_when_the_watermark_says_so() {
    let root = tempfile::tempdir().expect("directory");
    let held = DataDir::open(root.path()).expect("opens");
    let file = DefinitionsFile::open(&held).expect("makes");
    assert_eq!(
        file.submit(Vec::new()),
        1,
        "an empty submission has a number too"
    );
    assert_eq!(file.submit(vec![put(Kind::Queue, "q", "x")]), 2);
    wait(&file, 2);
    assert_eq!(
        records(&file, Kind::Queue),
        [("q".to_owned(), "x".to_owned())]
    );
    assert_eq!(file.fault(), None);
}

#[test]
fn a_burst_is_two_transactions_in_order() {
    let (file, disk) = on_test_disk();
    disk.close_gate();
    file.submit(vec![put(Kind::Queue, "q", "0")]);
    disk.wait_until_at_gate();
    let mut last = 0;
    for number in 1..1_000 {
        last = file.submit(vec![
            put(Kind::Queue, "q", &number.to_string()),
            put(Kind::Binding, &format!("{number:03}"), "x"),
        ]);
    }
    assert_eq!(
        (last, file.watermark().durable(), file.commits()),
        (1_000, 0, 0)
    );
    disk.open_gate();
    wait(&file, last);
    assert_eq!(file.watermark().durable(), last);
    assert_eq!(
        file.commits(),
        2,
        "the one in flight, and all that came meanwhile"
    );
    assert_eq!(
        records(&file, Kind::Queue),
        [("q".to_owned(), "999".to_owned())]
    );
    assert_eq!(records(&file, Kind::Binding).len(), 999);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let (file, disk) = on_test_disk();
    let value = "x".repeat(VALUE_BYTES_MAX);
    disk.close_gate();
    file.submit(vec![put(Kind::Queue, "first", "x")]);
    disk.wait_until_at_gate();
    let last = thread::scope(|scope| {
        let submitting = scope.spawn(|| {
            // Twice the limit: it must wait for the writer at least once.
            for number in 0..16 {
                file.submit(vec![put(Kind::Queue, &number.to_string(), &value)]);
            }
            file.submit(Vec::new())
        });
        disk.open_gate();
        submitting.join().expect("joins")
    });
    wait(&file, last);
    assert_eq!(records(&file, Kind::Queue).len(), 17);
    // One submission above the limit is let in when nothing else waits.
    let large = (0..9)
        .map(|number| put(Kind::Exchange, &number.to_string(), &value))
        .collect();
    wait(&file, file.submit(large));
    assert_eq!(records(&file, Kind::Exchange).len(), 9);
}

#[test]
fn a_failed_sync_is_a_fault_and_is_never_tried_again() {
    let (file, disk) = on_test_disk();
    wait(&file, file.submit(vec![put(Kind::User, "a", "x")]));
    disk.close_gate();
    disk.fail();
    file.submit(vec![put(Kind::User, "b", "x")]);
    disk.wait_until_at_gate();
    let value = "x".repeat(VALUE_BYTES_MAX);
    thread::scope(|scope| {
        // It may wait for room when the fault comes; it must not wait for ever.
        scope.spawn(|| {
            for number in 0..16 {
                file.submit(vec![put(Kind::Queue, &number.to_string(), &value)]);
            }
        });
        disk.open_gate();
    });
    let shared = Arc::clone(&file.shared);
    disk.heal();
    assert_eq!(file.submit(vec![put(Kind::User, "c", "x")]), 19);
    let error = file.close().expect_err("faulted").to_string();
    assert!(
        error.contains("in memory cannot be written") && error.contains("broken"),
        "{error}"
    );
    assert_eq!(shared.watermark.durable(), 1);
    assert_eq!(shared.commits.load(Ordering::Relaxed), 1);
    let pending = shared.pending.lock();
    assert!(pending.changes.is_empty() && pending.bytes == 0);
}

#[test]
fn unusable_files_are_named_and_left_as_they_are() {
    let root = tempfile::tempdir().expect("directory");
    let held = DataDir::open(root.path()).expect("opens");
    let path = root.path().join(DEFINITIONS_FILE);
    let whole = {
        DefinitionsFile::open(&held)
            .expect("makes")
            .close()
            .expect("closes");
        fs::read(&path).expect("reads")
    };
    let zeroed = [&whole[..9], &vec![0; whole.len() - 9]].concat();
    let table: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("short", b"garbage"),
        ("long", &[b'x'; 100_000]),
        ("magic only", &whole[..9]),
        ("cut", &whole[..whole.len() / 2]),
        ("zeroed", &zeroed),
    ];
    for (name, bytes) in table {
        fs::write(&path, bytes).expect("writes");
        let error = DefinitionsFile::open(&held).expect_err(name).to_string();
        let start = format!("definitions file {} cannot be opened: ", path.display());
        assert!(error.starts_with(&start), "{name}: {error}");
        assert!(fs::read(&path).expect("reads") == bytes, "{name}: changed");
    }
}

#[test]
fn only_known_formats_open() {
    let table: [(Option<&[u8]>, &str); 5] = [
        (None, "not one of definitions"),
        (Some(&[0, 0, 0, 0]), "not one of definitions"),
        (Some(b"1"), "not one of definitions"),
        (
            Some(&[0, 0, 0, 2]),
            "format version is 2, and this program knows 1",
        ),
        (Some(&[255, 255, 255, 255]), "format version is 4294967295"),
    ];
    for (version, text) in table {
        let backend = InMemoryBackend::new();
        let database = Builder::new().create_with_backend(backend).expect("makes");
        let change = match version {
            Some(version) => {
                let (key, value) = (FORMAT_KEY.into(), version.into());
                Change::Put {
                    kind: Kind::Node,
                    key,
                    value,
                }
            }
            None => put(Kind::VHost, "/", "x"),
        };
        commit(&database, &[change]).expect("commits");
        let error = DefinitionsFile::start(database, "in memory".into()).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_half_made_file_is_made_again() {
    let root = tempfile::tempdir().expect("directory");
    let held = DataDir::open(root.path()).expect("opens");
    fs::write(root.path().join("definitions.redb.new"), "half").expect("writes");
    DefinitionsFile::open(&held)
        .expect("makes")
        .close()
        .expect("closes");
    assert!(!root.path().join("definitions.redb.new").exists());
}

fn put(kind: Kind, key: &str, value: &str) -> Change {
    Change::Put {
        kind,
        key: key.as_bytes().into(),
        value: value.as_bytes().into(),
    }
}

fn delete(kind: Kind, key: &str) -> Change {
    Change::Delete {
        kind,
        key: key.as_bytes().into(),
    }
}

fn records(file: &DefinitionsFile, kind: Kind) -> Vec<(String, String)> {
    let mut records = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    file.load(kind, &mut |key, value| {
        records.push((text(key), text(value)))
    })
    .expect("loads");
    records
}

/// Blocks until `number` is durable.
fn wait(file: &DefinitionsFile, number: u64) {
    struct Told(SyncSender<()>);
    impl Wake for Told {
        fn wake(&self) {
            let _ = self.0.try_send(());
        }
    }
    let (sender, receiver) = sync_channel(1);
    let told: Arc<dyn Wake> = Arc::new(Told(sender));
    if file.watermark().wait(number, &told) {
        receiver.recv().expect("woken");
    }
}

/// A disk whose syncs wait at a gate while it is closed, and fail while it is broken.
#[derive(Debug)]
struct TestDisk {
    memory: InMemoryBackend,
    state: Arc<(Mutex<DiskState>, Condvar)>,
    arrived: SyncSender<()>,
}

#[derive(Debug, Default)]
struct DiskState {
    is_gate_closed: bool,
    is_broken: bool,
}

/// The test's hand on a [`TestDisk`].
struct DiskControl {
    state: Arc<(Mutex<DiskState>, Condvar)>,
    arrivals: Receiver<()>,
}

impl DiskControl {
    fn close_gate(&self) {
        self.state.0.lock().is_gate_closed = true;
    }

    fn open_gate(&self) {
        self.state.0.lock().is_gate_closed = false;
        self.state.1.notify_all();
    }

    fn wait_until_at_gate(&self) {
        self.arrivals.recv().expect("a sync comes");
    }

    fn fail(&self) {
        self.state.0.lock().is_broken = true;
    }

    fn heal(&self) {
        self.state.0.lock().is_broken = false;
    }
}

fn on_test_disk() -> (DefinitionsFile, DiskControl) {
    let state = Arc::default();
    let (arrived, arrivals) = sync_channel(1);
    let disk = TestDisk {
        memory: InMemoryBackend::new(),
        state: Arc::clone(&state),
        arrived,
    };
    let database = Builder::new().create_with_backend(disk).expect("makes");
    write_format(&database).expect("writes");
    let file = DefinitionsFile::start(database, "in memory".into()).expect("starts");
    (file, DiskControl { state, arrivals })
}

impl StorageBackend for TestDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.0.lock();
        if state.is_gate_closed {
            let _ = self.arrived.try_send(());
        }
        while state.is_gate_closed {
            self.state.1.wait(&mut state);
        }
        if state.is_broken {
            return Err(io::Error::other("broken"));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// FEATURES D2: a definitions file that was cut or changed anywhere is opened with what it has, or
/// refused by name; nothing panics, and looking at it says the same and changes nothing.
#[test]
fn d2_definitions_cut_and_changed_anywhere() {
    let root = tempfile::tempdir().expect("directory");
    let held = DataDir::open(root.path()).expect("opens");
    let path = root.path().join(DEFINITIONS_FILE);
    let file = DefinitionsFile::open(&held).expect("makes");
    for number in 0..300 {
        let value = "x".repeat(number % 200);
        file.submit(vec![put(Kind::Queue, &number.to_string(), &value)]);
    }
    file.close().expect("closes");
    let whole = fs::read(&path).expect("reads");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("is used");
    let start = format!("definitions file {} cannot be ", path.display());
    let (mut opened, mut refused) = (0, 0);
    for step in 0..240 {
        let at = step * used / 240;
        let mut bytes = whole.clone();
        if step % 2 == 0 {
            bytes[at] ^= 1 << (step % 8);
        } else {
            bytes.truncate(at);
        }
        fs::write(&path, &bytes).expect("writes");
        let looked = inspect::inspect(root.path());
        assert!(
            fs::read(&path).expect("reads") == bytes,
            "byte {at}: changed"
        );
        let tried = DefinitionsFile::open(&held).and_then(|file| {
            let mut records = 0;
            file.load(Kind::Queue, &mut |_, _| records += 1)?;
            Ok(records)
        });
        match tried {
            Ok(records) => {
                assert!(records <= 300, "byte {at}: {records}");
                opened += 1;
            }
            Err(error) => {
                assert!(error.to_string().starts_with(&start), "byte {at}: {error}");
                refused += 1;
            }
        }
        if let Err(error) = looked {
            assert!(error.to_string().starts_with(&start), "byte {at}: {error}");
        }
    }
    assert!(
        opened > 0 && refused > 0,
        "{opened} opened, {refused} refused"
    );
}

/// FEATURES D2: looking at sound definitions tells so and shows them; there may be none.
#[test]
fn d2_definitions_are_looked_at() {
    let root = tempfile::tempdir().expect("directory");
    assert!(
        inspect::inspect(root.path())
            .expect("nothing fails")
            .is_none()
    );
    let held = DataDir::open(root.path()).expect("opens");
    let file = DefinitionsFile::open(&held).expect("makes");
    file.submit(vec![put(Kind::Queue, "q", "x")]);
    file.close().expect("closes");
    let looked = inspect::inspect(root.path()).expect("can be read");
    let looked = looked.expect("is there");
    assert!(looked.sound);
    let mut keys = Vec::new();
    let loaded = looked.load(Kind::Queue, &mut |key, _| keys.push(key.to_vec()));
    loaded.expect("can be read");
    assert_eq!(keys, [b"q"]);
    assert!(
        inspect::repair(&held).expect("can be read"),
        "there is nothing to mend"
    );
}
