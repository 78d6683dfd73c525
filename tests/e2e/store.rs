//! `leveret store` on data directories of the real program: sound, torn, damaged, in use, missing,
//! and of a newer version.

use std::fs;
use std::path::{Path, PathBuf};

use lapin::BasicProperties;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use rustix::process::Signal;

use crate::amqp::{channel, declare, try_connect};
use crate::broker::within;
use crate::program::{Program, code, run, stderr, stdout};

/// Messages in the queue `kept`; the first of them is settled.
const MESSAGES: u32 = 20;

/// A data directory with some messages; the broker was killed or stopped.
async fn filled(directory: &Path, signal: Signal) {
    let program = Program::start(directory);
    let address = program.address("AMQP 0-9-1").parse().expect("an address");
    let connection = try_connect(address, "guest:guest", "%2f").await;
    let connection = connection.expect("connects");
    let channel = channel(&connection).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    declare(&channel, "kept", durable).await;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    for number in 0..MESSAGES {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("text/plain".into());
        let body = format!("message {number}");
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(
            "".into(),
            "kept".into(),
            options,
            body.as_bytes(),
            properties,
        );
        within(within(sent).await.expect("is sent"))
            .await
            .expect("is confirmed");
        if number == 0 {
            let got = channel.basic_get("kept".into(), BasicGetOptions::default());
            let got = within(got).await.expect("may").expect("is there");
            let acked = got.delivery.ack(BasicAckOptions::default());
            within(acked).await.expect("is sent");
        }
    }
    let closed = connection.close(200, "".into());
    within(closed).await.expect("closes");
    program.stop(signal);
}

fn segment(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("journal")).expect("lists");
    let mut names: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    names.sort();
    names.pop().expect("a segment")
}

/// Everything in a directory but the lock.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let folders = [directory.to_path_buf(), directory.join("journal")];
    for entry in folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("lists"))
    {
        let path = entry.expect("an entry").path();
        if path.is_file() && !path.ends_with("leveret.lock") {
            found.push((path.clone(), fs::read(&path).expect("reads")));
        }
    }
    found.sort();
    found
}

fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("it is used")
        + 1
}

/// FEATURES D2: what was stopped in order is sound, and can be read record by record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_sound_store_is_checked_and_dumped() {
    let directory = tempfile::tempdir().expect("a data directory");
    filled(directory.path(), Signal::TERM).await;
    let before = contents(directory.path());
    let checked = run(&["store", "check"], directory.path());
    let text = stdout(&checked);
    assert_eq!(code(&checked), Some(0), "{text}{}", stderr(&checked));
    assert!(
        text.contains("\twhole\n") && text.contains(" 19 messages of 1 queues"),
        "{text}"
    );
    assert!(text.ends_with("Nothing is damaged\n"), "{text}");

    let only = ["store", "dump", "--queue", "kept", "--limit-bytes", "7"];
    let dumped = run(&only, directory.path());
    assert_eq!(code(&dumped), Some(0), "{}", stderr(&dumped));
    let rows: Vec<serde_json::Value> = stdout(&dumped)
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect();
    let published: Vec<_> = rows.iter().filter(|row| row["kind"] == "publish").collect();
    assert_eq!(published.len(), 20);
    for (place, row) in published.iter().enumerate() {
        assert_eq!(
            (&row["vhost"], &row["name"]),
            (&"/".into(), &"kept".into()),
            "{row}"
        );
        assert_eq!(row["wanted"], place > 0, "{row}");
        let message = &row["message"];
        assert_eq!(
            (&message["key"], &message["payload"]),
            (&"kept".into(), &"message".into())
        );
        assert_eq!(message["properties"]["content_type"], "text/plain");
        assert_eq!(message["properties"]["delivery_mode"], 2);
    }
    assert!(rows.iter().any(|row| row["kind"] == "settle"));
    let all = stdout(&run(&["store", "dump"], directory.path()));
    assert!(all.contains("\"kind\":\"batch\""), "{all}");
    let lines_of = |vhost| {
        let dumped = run(&["store", "dump", "--vhost", vhost], directory.path());
        assert_eq!(code(&dumped), Some(0), "{}", stderr(&dumped));
        stdout(&dumped).lines().count()
    };
    assert_eq!((lines_of("/"), lines_of("none")), (rows.len(), 0));
    let unknown = run(&["store", "dump", "--queue", "none"], directory.path());
    assert_eq!(code(&unknown), Some(69));
    assert!(contents(directory.path()) == before, "nothing is changed");

    let repaired = run(&["store", "repair"], directory.path());
    assert_eq!(code(&repaired), Some(0), "{}", stderr(&repaired));
    assert!(stdout(&repaired).ends_with("Nothing was damaged\n"));
}

/// FEATURES D2: what a crash tore is told and is no damage; a repair cuts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_torn_store_is_cut() {
    let directory = tempfile::tempdir().expect("a data directory");
    filled(directory.path(), Signal::KILL).await;
    let segment = segment(directory.path());
    let bytes = fs::read(&segment).expect("reads");
    let end = used(&bytes);
    fs::write(&segment, &bytes[..end - 3]).expect("writes");
    let checked = run(&["store", "check"], directory.path());
    let text = stdout(&checked);
    assert_eq!(code(&checked), Some(0), "{text}");
    assert!(
        text.contains("torn at ") && text.contains(&segment.display().to_string()),
        "{text}"
    );
    let repaired = run(&["store", "repair"], directory.path());
    assert_eq!(code(&repaired), Some(0), "{}", stderr(&repaired));
    let text = stdout(&repaired);
    assert!(text.contains("where a crash tore it"), "{text}");
    let again = stdout(&run(&["store", "check"], directory.path()));
    assert!(!again.contains("torn"), "{again}");
}

/// FEATURES D2: a flipped bit is found with its place, and mended as a start does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_flipped_bit_is_found_and_mended() {
    let directory = tempfile::tempdir().expect("a data directory");
    filled(directory.path(), Signal::TERM).await;
    let segment = segment(directory.path());
    let mut bytes = fs::read(&segment).expect("reads");
    let needle = b"message 11";
    let at = bytes
        .windows(needle.len())
        .position(|found| found == needle);
    bytes[at.expect("it is there")] ^= 4;
    fs::write(&segment, &bytes).expect("writes");

    let checked = run(&["store", "check"], directory.path());
    let text = stdout(&checked);
    assert_eq!(code(&checked), Some(1), "{text}");
    assert!(text.contains("a checksum that does not fit"), "{text}");
    assert!(text.contains(" 18 messages"), "{text}");
    let dumped = run(&["store", "dump"], directory.path());
    assert_eq!(code(&dumped), Some(1), "{}", stderr(&dumped));
    assert!(
        stderr(&dumped).contains("is damaged at "),
        "{}",
        stderr(&dumped)
    );
    assert!(stdout(&dumped).contains("\"kind\":\"publish\""));
    let repaired = run(&["store", "repair"], directory.path());
    let text = stdout(&repaired);
    assert_eq!(code(&repaired), Some(1), "{text}{}", stderr(&repaired));
    assert!(
        text.contains(".damaged") && text.contains("18 messages, 18 before"),
        "{text}"
    );
    let again = run(&["store", "check"], directory.path());
    assert_eq!(code(&again), Some(0));
    assert!(stdout(&again).contains("was set aside by an earlier start"));

    let program = Program::start(directory.path());
    let listed = run(
        &["ctl", "list_queues", "name", "messages", "-s"],
        directory.path(),
    );
    assert_eq!(stdout(&listed), "kept\t18\n");
    drop(program);
}

/// A directory that cannot be worked on is named, and why, and stays as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_stores_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().expect("a data directory");
    let missing = directory.path().join("none");
    for command in ["check", "dump", "repair"] {
        let refused = run(&["store", command], &missing);
        assert_eq!(code(&refused), Some(69), "{command}");
        assert!(
            stderr(&refused).contains("cannot be read"),
            "{}",
            stderr(&refused)
        );
        let empty = run(&["store", command], directory.path());
        assert_eq!(code(&empty), Some(69), "{command}");
        assert!(stderr(&empty).contains("has neither"), "{}", stderr(&empty));
    }
    assert!(!missing.exists());
    let program = Program::start(directory.path());
    for command in ["check", "dump", "repair"] {
        let refused = run(&["store", command], directory.path());
        assert_eq!(code(&refused), Some(69), "{command}");
        let text = stderr(&refused);
        let pid = format!(
            "(pid {}): stop the broker first",
            program.pid().as_raw_nonzero()
        );
        assert!(text.contains(&pid), "{text}");
    }
    program.stop(Signal::TERM);

    filled(directory.path(), Signal::TERM).await;
    let segment = segment(directory.path());
    let mut bytes = fs::read(&segment).expect("reads");
    // Of both copies of the header: another version, and its checksum.
    for copy in [0, 32] {
        bytes[copy + 8] = 3;
        let sum = crc32c::crc32c(&bytes[copy..copy + 28]);
        bytes[copy + 28..copy + 32].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&segment, &bytes).expect("writes");
    let before = contents(directory.path());
    for command in ["check", "dump", "repair"] {
        let refused = run(&["store", command], directory.path());
        assert_eq!(code(&refused), Some(74), "{command}: {}", stderr(&refused));
        let text = stderr(&refused);
        assert!(
            text.contains("has format 3, this version reads 2: use a newer"),
            "{text}"
        );
    }
    assert!(contents(directory.path()) == before, "nothing is changed");
    // The broker says the same, and does not start.
    let refused = run(&["server"], directory.path());
    assert_eq!(code(&refused), Some(74));
    assert!(
        stderr(&refused).contains("use a newer program"),
        "{}",
        stderr(&refused)
    );
    assert!(
        fs::read(&segment).expect("reads") == bytes,
        "it is not changed"
    );
}

/// FEATURES D2: definitions that cannot be read are said so, beside a journal that can; with the
/// hint what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_damaged_definitions_are_told() {
    let directory = tempfile::tempdir().expect("a data directory");
    filled(directory.path(), Signal::TERM).await;
    let file = directory.path().join("definitions.redb");
    fs::write(&file, b"garbage").expect("writes");
    let checked = run(&["store", "check"], directory.path());
    assert_eq!(code(&checked), Some(74));
    assert!(
        stdout(&checked).contains(" 19 messages"),
        "{}",
        stdout(&checked)
    );
    let told = stderr(&checked);
    assert!(told.contains(&file.display().to_string()), "{told}");
    let dumped = run(&["store", "dump"], directory.path());
    assert_eq!(code(&dumped), Some(0));
    assert!(stdout(&dumped).contains("\"message 11\"") && stderr(&dumped).contains("Warning"));
    let repaired = run(&["store", "repair"], directory.path());
    assert_eq!(code(&repaired), Some(74));
    assert!(stderr(&repaired).contains("Put a copy of the file in its place"));
    assert!(fs::read(&file).expect("reads") == b"garbage");
}
