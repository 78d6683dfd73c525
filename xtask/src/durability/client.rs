//! An MQTT 3.1.1 client that publishes with QoS 1, as fast as it can or one by one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Publishes that are not acknowledged yet.
const WINDOW: u64 = 1_000;

/// Measures how long something takes.
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measuring takes a clock")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn micros(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1e6
    }
}

/// See the module.
pub(super) struct Client(TcpStream);

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    while length >= 128 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

impl Client {
    pub(super) fn connect(address: String, client_id: &str, clean: bool) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut client = Self(stream);
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        body.extend_from_slice(&[4, u8::from(clean) * 2, 0, 0]);
        text(&mut body, client_id);
        client.0.write_all(&packet(0x10, &body))?;
        let connack: [u8; 4] = client.read()?;
        ensure!(connack[3] == 0, "the broker refuses: {connack:?}");
        Ok(client)
    }

    pub(super) fn subscribe(&mut self, filter: &str) -> Result<()> {
        let mut body = vec![0, 1];
        text(&mut body, filter);
        body.push(1);
        self.0.write_all(&packet(0x82, &body))?;
        let suback: [u8; 5] = self.read()?;
        ensure!(suback[4] == 1, "refused: {suback:?}");
        Ok(())
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn publish(topic: &str, number: u64, payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(payload.len() + topic.len() + 8);
        text(&mut body, topic);
        let id = (number % 65_535) as u16 + 1;
        body.extend_from_slice(&id.to_be_bytes());
        body.extend_from_slice(payload);
        packet(0x32, &body)
    }

    /// Publishes so many, and waits for each PUBACK before the next: microseconds of each.
    pub(super) fn one_by_one(
        &mut self,
        topic: &str,
        size: usize,
        count: usize,
    ) -> Result<Vec<f64>> {
        let payload = vec![b'x'; size];
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            let packet = Self::publish(topic, number as u64, &payload);
            let clock = Stopwatch::start();
            self.0.write_all(&packet)?;
            let puback: [u8; 4] = self.read()?;
            times.push(clock.micros());
            ensure!(puback[0] == 0x40, "not a PUBACK: {puback:?}");
        }
        Ok(times)
    }

    /// Publishes so many, a window of them unacknowledged, and waits for the last PUBACK.
    pub(super) fn publish_all(&mut self, topic: &str, size: usize, count: u64) -> Result<()> {
        let payload = vec![b'x'; size];
        let (mut sent, mut acked) = (0, 0);
        let mut out = Vec::new();
        let mut input = vec![0; 64 * 1_024];
        let mut rest = 0;
        while acked < count {
            while sent < count && sent - acked < WINDOW {
                out.extend_from_slice(&Self::publish(topic, sent, &payload));
                sent += 1;
            }
            self.0.write_all(&out)?;
            out.clear();
            let got = self.0.read(&mut input)?;
            ensure!(got > 0, "the broker has closed the connection");
            // A PUBACK has four bytes.
            acked += ((rest + got) / 4) as u64;
            rest = (rest + got) % 4;
        }
        Ok(())
    }
}
