//! Whatever keeps a broker from starting is one sentence that says what to do.

use leveret::server::{StartError, start};
use leveret_config::{Sources, load};

use crate::broker::{TestBroker, config, within};

fn is_one_sentence(text: &str) -> bool {
    text.len() > 20 && !text.contains('\n') && !text.contains("Os {") && !text.contains("Error {")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_port_in_use_is_one_sentence() {
    let broker = TestBroker::start().await;
    for (place, key) in [
        (0, "listeners.tcp.default"),
        (1, "mqtt.listeners.tcp.default"),
    ] {
        let directory = tempfile::tempdir().expect("a data directory");
        let mut wish = config(directory.path());
        wish.net.listeners[place].addresses = vec![[broker.amqp(), broker.mqtt()][place]];
        let port = wish.net.listeners[place].addresses[0].port().to_string();
        let error = within(start(wish)).await.expect_err("in use").to_string();
        assert!(is_one_sentence(&error), "{error}");
        assert!(error.contains(&port) && error.contains(key), "{error}");
        // Nothing is left: the next start finds everything free.
        let server = within(start(config(directory.path())))
            .await
            .expect("starts");
        within(server.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_data_directory_in_use_is_one_sentence() {
    let broker = TestBroker::start().await;
    let wish = config(broker.data_dir());
    let error = within(start(wish)).await.expect_err("in use");
    assert!(matches!(error, StartError::DataDir(_)), "{error}");
    let error = error.to_string();
    assert!(is_one_sentence(&error), "{error}");
    assert!(
        error.contains(&broker.data_dir().display().to_string()),
        "{error}"
    );
    assert!(error.contains(&std::process::id().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_data_directory_that_is_a_file_is_one_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, b"").expect("is written");
    let error = within(start(config(&file)))
        .await
        .expect_err("is a file")
        .to_string();
    assert!(is_one_sentence(&error), "{error}");
}

#[test]
fn o3_mistakes_in_settings_are_one_sentence_each() {
    let table = [
        ("mqtt.prefetsh=5", "mqtt.prefetch"),
        ("mqtt.prefetch=many", "mqtt.prefetch"),
        ("listeners.tcp.default=nowhere:x", "listeners.tcp.default"),
        ("heartbeat=-1", "heartbeat"),
        ("no equals sign", "--set"),
    ];
    for (set, expected) in table {
        let sources = Sources {
            sets: vec![set.to_owned()],
            ..Sources::default()
        };
        let errors = load(&sources).expect_err("a mistake");
        assert_eq!(errors.len(), 1, "{set}: {errors:?}");
        let text = errors[0].to_string();
        assert!(
            is_one_sentence(&text) && text.contains(expected),
            "{set}: {text}"
        );
    }
}
