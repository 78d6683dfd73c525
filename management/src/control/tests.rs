//! The socket from the client's end.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tokio::io::AsyncReadExt;

use super::*;
use crate::command::tests::context;

async fn say(directory: &Path, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(directory.join(SOCKET_FILE))
        .await
        .expect("connects");
    // The server may close before it has read what is too long.
    let _ = stream.write_all(text).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("is text")
}

#[tokio::test]
async fn o2_the_socket_is_its_owners_and_replaces_a_stale_one() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join(SOCKET_FILE);
    fs::write(&path, "stale").expect("writes");
    fs::create_dir(directory.path().join(".control")).expect("makes");
    let socket = ControlSocket::bind(directory.path()).expect("binds");
    assert_eq!(socket.path(), path);
    let mode = fs::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = fs::read_dir(directory.path())
        .expect("lists")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(names, [SOCKET_FILE]);
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn o2_long_paths_are_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let long = directory.path().join("d".repeat(SOCKET_PATH_BYTES_MAX));
    let error = ControlSocket::bind(&long)
        .expect_err("is too long")
        .to_string();
    assert!(error.contains("shorter data directory"), "{error}");
}

#[tokio::test]
async fn o2_requests_are_answered_line_by_line() {
    let directory = tempfile::tempdir().expect("directory");
    let socket = ControlSocket::bind(directory.path()).expect("binds");
    let serving = tokio::spawn(socket.serve(Arc::new(context(directory.path().to_owned()))));
    let users = "{\"command\":\"list_users\"}\n";
    let guest = "{\"ok\":[{\"user\":\"guest\",\"tags\":[\"administrator\"]}]}\n";
    let add = json!({ "command": "add_vhost", "arguments": { "name": "v" } });
    let table = [
        (users.to_owned(), guest.to_owned()),
        (users.repeat(2), guest.repeat(2)),
        (format!("{add}\n"), "{\"ok\":null}\n".to_owned()),
        (String::new(), String::new()),
    ];
    for (request, expected) in table {
        assert_eq!(say(directory.path(), request.as_bytes()).await, expected);
    }
    let wrong: [&[u8]; 3] = [b"{}\n", b"\xff\n", b"{\"command\":\"x\",\"more\":1}\n"];
    for request in wrong {
        let answer = say(directory.path(), request).await;
        let expected = "{\"error\":{\"code\":\"usage\",\"text\":\"not a request: ";
        assert!(
            answer.starts_with(expected) && answer.ends_with("\"exit\":64}}\n"),
            "{answer}"
        );
    }
    serving.abort();
}

#[tokio::test]
async fn o2_requests_have_a_limit() {
    let directory = tempfile::tempdir().expect("directory");
    let context = Arc::new(context(directory.path().to_owned()));
    let (mut near, far) = UnixStream::pair().expect("pairs");
    let conversation = async { converse(far, &context).await };
    let long = vec![b' '; REQUEST_BYTES_MAX + 1];
    let client = async {
        near.write_all(&long).await.expect("writes");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("reads");
        answer
    };
    let (ended, answer) = tokio::join!(conversation, client);
    ended.expect("ends in peace");
    assert!(answer.contains("request is longer than"), "{answer}");
}
