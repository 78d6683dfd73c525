//! The control socket: who may connect, how much may be asked, how long it may take.
//!
//! Owns the socket file and its mode. Never looks into a command. Whoever can open the socket owns
//! the node: it is made with mode 0600 in a directory of mode 0700, and only then moved to where
//! it can be found, so that there is no moment at which somebody else could open it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::command;
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure, REQUEST_BYTES_MAX, Request, SOCKET_FILE};

/// Connections to the control socket at once; the next one waits to be accepted. With
/// [`REQUEST_BYTES_MAX`] it bounds what requests may take: 34 MiB.
pub const CONNECTIONS_MAX: usize = 16;

/// How long a connection may keep us waiting for its next request, or to take some of an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer that are written at once.
const ANSWER_CHUNK_BYTES: usize = 64 * 1_024;

/// The longest path of a Unix socket in bytes (`sun_path` of Linux, less its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why there is no control socket. Each names the path.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The path is longer than the system takes.
    #[error(
        "control socket {} has a path above {SOCKET_PATH_BYTES_MAX} bytes: use a shorter data \
         directory", .0.display()
    )]
    PathTooLong(PathBuf),
    /// It cannot be made.
    #[error("control socket {} cannot be made: {why}", path.display())]
    NotMade {
        /// The socket.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
}

/// A bound control socket. Its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket in a data directory whose lock this process holds: a socket that is there
    /// is stale and gets replaced. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// Every variant of [`ControlError`].
    pub fn bind(data_dir: &Path) -> Result<Self, ControlError> {
        let path = data_dir.join(SOCKET_FILE);
        let private = data_dir.join(".control");
        let made = private.join("s");
        let longest = path.as_os_str().len().max(made.as_os_str().len());
        if longest > SOCKET_PATH_BYTES_MAX {
            return Err(ControlError::PathTooLong(path));
        }
        match bind_private(&private, &made, &path) {
            Ok(listener) => Ok(Self { listener, path }),
            Err(why) => Err(ControlError::NotMade { path, why }),
        }
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until dropped.
    pub async fn serve(self, context: Arc<Context>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let context = Arc::clone(&context);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &context).await {
                            tracing::debug!(%error, "control connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket cannot accept");
                    // Out of file descriptors, most likely: trying at once would only spin.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "control socket not removed");
        }
    }
}

fn bind_private(private: &Path, made: &Path, path: &Path) -> io::Result<UnixListener> {
    // Left by a process that died between the two steps.
    if private.exists() {
        fs::remove_dir_all(private)?;
    }
    DirBuilder::new().mode(0o700).create(private)?;
    let listener = UnixListener::bind(made)?;
    fs::set_permissions(made, Permissions::from_mode(0o600))?;
    // Takes the place of a stale socket in one step.
    fs::rename(made, path)?;
    fs::remove_dir(private)?;
    Ok(listener)
}

/// Answers one request after the other until the client has no more.
async fn converse(mut stream: UnixStream, context: &Context) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = REQUEST_BYTES_MAX as u64 + 1;
        let mut bounded = (&mut reading).take(limit);
        timeout(SILENCE, bounded.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let complete = line.len() <= REQUEST_BYTES_MAX;
        let answer = if complete {
            answer(context, &line).await
        } else {
            let text = format!("request is longer than {REQUEST_BYTES_MAX} bytes");
            Err(Failure::new(Code::Usage, text))
        };
        match answer {
            Ok(Answer::Live(events)) => return live(&mut reading, &mut writing, events).await,
            answer => write_answer(&mut writing, answer).await?,
        }
        if !complete {
            return Ok(());
        }
    }
}

async fn answer(context: &Context, line: &[u8]) -> Result<Answer, Failure> {
    let request: Request = serde_json::from_slice(line)
        .map_err(|why| Failure::new(Code::Usage, format!("not a request: {why}")))?;
    command::run(context, request).await
}

async fn write_answer(
    writing: &mut (impl AsyncWriteExt + Unpin),
    answer: Result<Answer, Failure>,
) -> io::Result<()> {
    let mut out = Vec::new();
    match answer {
        Ok(Answer::One(value)) => append(&mut out, &json!({ "ok": value }))?,
        Err(failure) => append(&mut out, &json!({ "error": failure }))?,
        // It has a form of its own: see `live`.
        Ok(Answer::Live(_)) => append(&mut out, &json!({ "ok": null }))?,
        Ok(Answer::Rows(rows)) => {
            out.extend_from_slice(b"{\"ok\":[");
            for (index, row) in rows.enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                append(&mut out, &row)?;
                if out.len() >= ANSWER_CHUNK_BYTES {
                    timeout(SILENCE, writing.write_all(&out)).await??;
                    out.clear();
                }
            }
            out.extend_from_slice(b"]}");
        }
    }
    out.push(b'\n');
    timeout(SILENCE, writing.write_all(&out)).await??;
    Ok(())
}

/// Writes what happens, a line each, until it ends or the client goes. What a client says
/// meanwhile ends it as well.
async fn live(
    reading: &mut (impl AsyncReadExt + Unpin),
    writing: &mut (impl AsyncWriteExt + Unpin),
    mut events: mpsc::Receiver<Value>,
) -> io::Result<()> {
    let mut byte = [0];
    loop {
        let mut next = tokio::select! {
            event = events.recv() => event,
            _ = reading.read(&mut byte) => return Ok(()),
        };
        let mut out = Vec::new();
        while let Some(event) = next {
            append(&mut out, &json!({ "live": event }))?;
            out.push(b'\n');
            if out.len() >= ANSWER_CHUNK_BYTES {
                break;
            }
            next = events.try_recv().ok();
        }
        if out.is_empty() {
            append(&mut out, &json!({ "ok": null }))?;
            out.push(b'\n');
            timeout(SILENCE, writing.write_all(&out)).await??;
            return Ok(());
        }
        timeout(SILENCE, writing.write_all(&out)).await??;
    }
}

fn append(out: &mut Vec<u8>, value: &Value) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
