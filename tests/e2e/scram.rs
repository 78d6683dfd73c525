//! SCRAM-SHA-256 by a client that computes it from the RFCs, over the hash alone: nothing here is
//! shared with the broker's side.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broker::{TestBroker, within};
use crate::mqtt::{Mqtt5, options5};
use crate::packet::{AUTH, CONNACK, CONNECT, DISCONNECT, PUBACK, PUBLISH};

const METHOD: &[u8] = b"SCRAM-SHA-256";

/// RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(message);
    let outer = Sha256::new().chain_update(padded(0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

fn xor(one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// `Hi` of RFC 5802: the first block of PBKDF2.
fn hi(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut last = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut all = last;
    for _ in 1..iterations {
        last = hmac(password, &last);
        all = xor(all, last);
    }
    all
}

/// What the server said first.
struct Challenge {
    nonce: String,
    salt: Vec<u8>,
    iterations: u32,
    text: String,
}

impl Challenge {
    fn parse(data: &[u8]) -> Self {
        let text = String::from_utf8(data.to_vec()).expect("is text");
        let value = |name: &str| {
            let mut attributes = text.split(',');
            let found = attributes.find_map(|each| each.strip_prefix(name));
            found.expect("it has all three").to_owned()
        };
        Self {
            nonce: value("r="),
            salt: STANDARD.decode(value("s=")).expect("is base64"),
            iterations: value("i=").parse().expect("is a number"),
            text,
        }
    }
}

/// The client's last message, and what the server must answer.
fn prove(bare: &str, challenge: &Challenge, password: &str) -> (String, String) {
    let salted = hi(password.as_bytes(), &challenge.salt, challenge.iterations);
    let client_key = hmac(&salted, b"Client Key");
    let last = format!("c=biws,r={}", challenge.nonce);
    let signed = format!("{bare},{},{last}", challenge.text);
    let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
    let proof = STANDARD.encode(xor(client_key, signature));
    let server = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
    let server = format!("v={}", STANDARD.encode(server));
    (format!("{last},p={proof}"), server)
}

/// A client that says byte for byte what it is told to.
struct Raw {
    stream: TcpStream,
    nonces: u32,
}

/// A packet: its first byte, and what is behind the length.
type Packet = (u8, Vec<u8>);

fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn length(out: &mut Vec<u8>, mut bytes: usize) {
    while bytes > 127 {
        out.push((bytes % 128) as u8 | 128);
        bytes /= 128;
    }
    out.push(bytes as u8);
}

/// Authentication Method and Data, with their length before them.
fn properties(data: &str) -> Vec<u8> {
    let mut block = vec![0x15];
    counted(&mut block, METHOD);
    block.push(0x16);
    counted(&mut block, data.as_bytes());
    let mut out = Vec::new();
    length(&mut out, block.len());
    out.extend_from_slice(&block);
    out
}

/// Authentication Data among a packet's properties, which begin here.
fn data_of(block: &[u8]) -> Vec<u8> {
    let at = block
        .windows(METHOD.len())
        .position(|window| window == METHOD)
        .expect("the method is named");
    let rest = &block[at + METHOD.len()..];
    assert_eq!(rest[0], 0x16);
    let bytes = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
    rest[3..3 + bytes].to_vec()
}

impl Raw {
    async fn open(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await;
        Self {
            stream: stream.expect("it listens"),
            nonces: 0,
        }
    }

    async fn send(&mut self, first: u8, body: &[u8]) {
        let mut out = vec![first];
        length(&mut out, body.len());
        out.extend_from_slice(body);
        within(self.stream.write_all(&out)).await.expect("it reads");
    }

    async fn read(&mut self) -> Packet {
        let read = async {
            let first = self.stream.read_u8().await.expect("a packet");
            let (mut bytes, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.expect("a length");
                bytes |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    break;
                }
            }
            let mut body = vec![0; bytes];
            self.stream.read_exact(&mut body).await.expect("a body");
            (first, body)
        };
        within(read).await
    }

    /// Whether the broker closes the connection without another word.
    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = within(self.stream.read_to_end(&mut rest)).await;
        read.is_err() || rest.is_empty()
    }

    fn bare(&mut self, user: &str) -> String {
        self.nonces += 1;
        format!("n={user},r=abc{}", self.nonces)
    }

    /// CONNECT, up to the server's challenge.
    async fn begin(&mut self, user: &str) -> (String, Challenge) {
        let bare = self.bare(user);
        let mut body = b"\0\x04MQTT\x05\x02\0\0".to_vec();
        body.extend_from_slice(&properties(&format!("n,,{bare}")));
        counted(&mut body, b"raw");
        self.send(CONNECT, &body).await;
        let challenge = self.challenge().await;
        (bare, challenge)
    }

    async fn challenge(&mut self) -> Challenge {
        let (first, body) = self.read().await;
        assert_eq!((first, body[0]), (AUTH, 0x18));
        Challenge::parse(&data_of(&body[1..]))
    }

    async fn auth(&mut self, code: u8, data: &str) {
        let body = [&[code][..], &properties(data)].concat();
        self.send(AUTH, &body).await;
    }

    /// Logs in; the CONNACK's code. The server has proved itself if it is 0.
    async fn log_in(&mut self, user: &str, password: &str) -> u8 {
        let (bare, challenge) = self.begin(user).await;
        let (last, server) = prove(&bare, &challenge, password);
        self.auth(0x18, &last).await;
        let (first, body) = self.read().await;
        assert_eq!(first, CONNACK);
        if body[1] == 0 {
            assert_eq!(data_of(&body[2..]), server.as_bytes(), "it knows as well");
        } else {
            assert!(self.is_closed().await);
        }
        body[1]
    }
}

async fn code(broker: &TestBroker, user: &str, password: &str) -> u8 {
    Raw::open(broker.mqtt()).await.log_in(user, password).await
}

/// FEATURES M13: what is stored at `add_user` and `change_password` is enough for SCRAM, over a
/// restart as well, and a password login goes on as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m13_scram_knows_the_passwords_of_users() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "first, =", &["/"]).await;
    assert_eq!(code(&broker, "guest", "guest").await, 0, "the default user");
    assert_eq!(code(&broker, "anna", "first, =").await, 0);
    assert_eq!(code(&broker, "anna", "guest").await, 0x86);
    let broker = broker.restart().await;
    assert_eq!(code(&broker, "anna", "first, =").await, 0);
    assert_eq!(code(&broker, "guest", "guest").await, 0);

    let wish = json!({ "username": "anna", "password": "second" });
    broker.ctl("change_password", wish).await;
    assert_eq!(code(&broker, "anna", "first, =").await, 0x86);
    assert_eq!(code(&broker, "anna", "second").await, 0);
    let mut options = options5(broker.mqtt(), "plain");
    options.set_credentials("anna", "second");
    Mqtt5::connect(options).await.expect("a password will do");
    broker
        .ctl("clear_password", json!({ "username": "anna" }))
        .await;
    assert_eq!(code(&broker, "anna", "second").await, 0x86);
}

/// FEATURES M13: of a hash alone there is no verifier: that user is told nothing else than one who
/// is unknown, today and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m13_scram_tells_nobody_which_users_there_are() {
    let broker = TestBroker::start().await;
    // RabbitMQ's hash of "password".
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    let wish = json!({ "username": "imported", "password": hash, "pre_hashed": true });
    broker.ctl("add_user", wish).await;
    broker.permit("imported", "/", [".*"; 3]).await;
    let mut salts = Vec::new();
    let mut broker = broker;
    for _ in 0..2 {
        let mut seen = Vec::new();
        for user in ["guest", "imported", "nobody"] {
            let (_, challenge) = Raw::open(broker.mqtt()).await.begin(user).await;
            assert_eq!((challenge.salt.len(), challenge.iterations), (16, 15_000));
            assert_eq!(code(&broker, user, "password").await, 0x86);
            seen.push(challenge.salt);
        }
        salts.push(seen);
        broker = broker.restart().await;
    }
    assert_eq!(salts[0], salts[1]);
}

/// FEATURES M13: a connection proves itself again while it publishes, and ends if it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m13_scram_again_while_messages_go_on() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &["/"]).await;
    let mut raw = Raw::open(broker.mqtt()).await;
    assert_eq!(raw.log_in("anna", "secret").await, 0);
    for password in ["secret", "changed", "secret"] {
        let wish = json!({ "username": "anna", "password": "changed" });
        let bare = raw.bare("anna");
        raw.auth(0x19, &format!("n,,{bare}")).await;
        let challenge = raw.challenge().await;
        raw.send(PUBLISH | 2, b"\0\x01t\0\x07\0x").await;
        assert_eq!(raw.read().await.0, PUBACK);
        let (last, server) = prove(&bare, &challenge, password);
        raw.auth(0x18, &last).await;
        let (first, body) = raw.read().await;
        if first == DISCONNECT {
            assert_eq!(body[0], 0x87);
            assert!(raw.is_closed().await);
            return;
        }
        assert_eq!((first, body.first()), (AUTH, Some(&0)));
        assert_eq!(data_of(&body[1..]), server.as_bytes());
        broker.ctl("change_password", wish).await;
    }
    panic!("an old password is good for nothing");
}
