//! The internal backend: logins against the hashes that the broker itself stores.
//!
//! Owns how much logging in may cost: how many argon2 run at once and how many wait. It must never
//! look up users (the caller brings the stored hash), judge vhosts or permissions, or block a
//! thread that serves connections. [`Internal::check_now`] answers what costs microseconds;
//! the rest goes through [`Internal::login`].
//!
//! Every failed login costs one argon2, whether the user is unknown, has no password, has one of
//! RabbitMQ's quick hashes or an argon2id hash: time tells nobody which user names exist.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rand::CryptoRng;
use tokio::sync::Semaphore;

use crate::cache::Verified;
use crate::password::{HashError, PasswordHash, is_acceptable, verify};

/// Most argon2 at once, whatever the number of cores: 19 MiB each for new hashes, 304 MiB in all.
/// Below it, as many run as the machine has cores.
pub const LOGINS_RUNNING_MAX: usize = 16;

/// Most logins that wait for their argon2; those beyond are told that the broker is busy.
pub const LOGINS_WAITING_MAX: usize = 10_000;

/// How a login ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The password is this user's.
    Accepted,
    /// Unknown user or wrong password; which of them is not said.
    Refused,
    /// Too many logins are waiting: nothing was verified, and the client may try again later.
    Busy,
}

/// The internal backend of one broker.
#[derive(Debug)]
pub struct Internal {
    verified: Verified,
    /// What is verified for users who have no usable hash; no password has it.
    nobody: Option<Arc<PasswordHash>>,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    slow: AtomicU64,
}

impl Internal {
    /// A backend that has seen no login yet, with keys from `rng`.
    pub fn new<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            verified: Verified::new(rng),
            nobody: PasswordHash::of_nobody(rng).map(Arc::new),
            running: Arc::new(Semaphore::new(cores.min(LOGINS_RUNNING_MAX))),
            waiting: AtomicUsize::new(0),
            slow: AtomicU64::new(0),
        }
    }

    /// Answers in microseconds, or not at all: `Some(true)` if the password verified before or has
    /// one of RabbitMQ's hashes, `Some(false)` for a password that nobody can have, `None` if
    /// [`Self::login`] must be asked. A wrong password is never answered here, because a quick
    /// refusal would tell that the user exists. `stored` is `None` for an unknown user.
    pub fn check_now(&self, user: &str, stored: Option<&str>, password: &[u8]) -> Option<bool> {
        if !is_acceptable(password) {
            return Some(false);
        }
        let stored = stored?;
        if self.verified.contains(user, stored, password) {
            return Some(true);
        }
        let hash = PasswordHash::parse(stored).ok()?;
        (hash.is_quick() && verify(&hash, password)).then_some(true)
    }

    /// Logs in, on a blocking thread where it takes argon2, when its turn has come. `stored` is
    /// the user's stored hash, `None` for an unknown user. Dropping the future gives up the place
    /// in the queue. Must run inside a tokio runtime.
    pub async fn login(&self, user: &str, stored: Option<&str>, password: &[u8]) -> Outcome {
        match self.check_now(user, stored, password) {
            Some(true) => return Outcome::Accepted,
            Some(false) => return Outcome::Refused,
            None => {}
        }
        let Some(hash) = self.slow_hash(user, stored) else {
            return Outcome::Refused;
        };
        let Some(place) = Waiting::take(&self.waiting) else {
            return Outcome::Busy;
        };
        let Ok(permit) = Arc::clone(&self.running).acquire_owned().await else {
            return Outcome::Busy;
        };
        drop(place);
        // Another connection of this user may have verified the same password meanwhile.
        if stored.is_some_and(|stored| self.verified.contains(user, stored, password)) {
            return Outcome::Accepted;
        }
        self.slow.fetch_add(1, Ordering::Relaxed);
        let tried: Box<[u8]> = password.into();
        // The permit goes with the work, which goes on even if the client has gone, and comes back
        // with its result: the next in line must find that in the map.
        let verifying = tokio::task::spawn_blocking(move || (verify(&hash, &tried), permit));
        let (accepted, permit) = match verifying.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(user, %error, "a login could not be verified");
                return Outcome::Busy;
            }
        };
        let outcome = match stored {
            Some(stored) if accepted => {
                self.verified.insert(user, stored, password);
                Outcome::Accepted
            }
            _ => Outcome::Refused,
        };
        drop(permit);
        outcome
    }

    /// Logins since the start that took an argon2: a number for metrics.
    pub fn slow_logins(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }

    /// What an argon2 is to be run against: the user's hash, or nobody's where the user is
    /// unknown, has no usable hash, or has a quick one that has just failed.
    fn slow_hash(&self, user: &str, stored: Option<&str>) -> Option<Arc<PasswordHash>> {
        match stored.map(PasswordHash::parse) {
            Some(Ok(hash)) if !hash.is_quick() => return Some(Arc::new(hash)),
            Some(Err(error)) if error != HashError::Empty => {
                tracing::warn!(user, %error, "this user cannot log in");
            }
            _ => {}
        }
        self.nobody.clone()
    }
}

/// A place among the logins that wait; given back when dropped, also by a cancelled login.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = waiting.fetch_add(1, Ordering::AcqRel);
        let place_held = Self(waiting);
        (place < LOGINS_WAITING_MAX).then_some(place_held)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::password::{Hashing, PASSWORD_BYTES_MAX, hash_new};

    fn internal() -> Internal {
        Internal::new(&mut StdRng::seed_from_u64(1))
    }

    fn stored(hashing: Hashing, password: &[u8]) -> String {
        hash_new(hashing, password, &mut StdRng::seed_from_u64(2))
            .expect("hashes")
            .to_string()
    }

    #[tokio::test]
    async fn outcomes() {
        let internal = internal();
        let argon2id = stored(Hashing::Argon2id, b"right");
        let sha256 = stored(Hashing::RabbitSha256, b"right");
        let sha512 = stored(Hashing::RabbitSha512, b"right");
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        let none = None::<bool>;
        let table: &[(Option<&str>, &str, Option<bool>, Outcome)] = &[
            (Some(&argon2id), "wrong", none, Outcome::Refused),
            (Some(&argon2id), "right", none, Outcome::Accepted),
            // Now remembered; a wrong one still is not.
            (Some(&argon2id), "right", Some(true), Outcome::Accepted),
            (Some(&argon2id), "wrong", none, Outcome::Refused),
            (Some(&sha256), "right", Some(true), Outcome::Accepted),
            (Some(&sha256), "wrong", none, Outcome::Refused),
            (Some(&sha512), "right", Some(true), Outcome::Accepted),
            (None, "right", none, Outcome::Refused),
            (Some(""), "right", none, Outcome::Refused),
            (Some("garbage"), "right", none, Outcome::Refused),
            (Some(&sha256), "", Some(false), Outcome::Refused),
            (Some(&sha256), &long, Some(false), Outcome::Refused),
            (None, "", Some(false), Outcome::Refused),
            (None, &long, Some(false), Outcome::Refused),
        ];
        for (row, (stored, password, now, outcome)) in table.iter().enumerate() {
            let password = password.as_bytes();
            assert_eq!(
                internal.check_now("u", *stored, password),
                *now,
                "row {row}"
            );
            assert_eq!(
                internal.login("u", *stored, password).await,
                *outcome,
                "row {row}"
            );
        }
        assert_eq!(internal.waiting.load(Ordering::Acquire), 0);
    }

    #[test]
    fn too_many_waiting_are_busy_and_giving_up_frees_the_place() {
        let internal = internal();
        let held = internal.running.available_permits();
        internal
            .running
            .try_acquire_many(held as u32)
            .expect("idle")
            .forget();
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut first = pin!(internal.login("u", None, b"secret"));
            assert!(first.as_mut().poll(&mut context).is_pending());
            internal
                .waiting
                .fetch_add(LOGINS_WAITING_MAX - 1, Ordering::AcqRel);
            let mut beyond = pin!(internal.login("u", None, b"secret"));
            assert_eq!(
                beyond.as_mut().poll(&mut context),
                Poll::Ready(Outcome::Busy)
            );
        }
        internal
            .waiting
            .fetch_sub(LOGINS_WAITING_MAX - 1, Ordering::AcqRel);
        assert_eq!(internal.waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn a_storm_of_one_user_verifies_once() {
        let internal = Arc::new(internal());
        let hash = stored(Hashing::Argon2id, b"right");
        let permits = internal.running.available_permits();
        internal
            .running
            .try_acquire_many(permits as u32)
            .expect("idle")
            .forget();
        let storm: Vec<_> = (0..1_000)
            .map(|_| {
                let (internal, hash) = (Arc::clone(&internal), hash.clone());
                tokio::spawn(async move { internal.login("u", Some(&hash), b"right").await })
            })
            .collect();
        // With one permit they pass one at a time: the first verifies, the rest find its result.
        internal.running.add_permits(1);
        for login in storm {
            assert_eq!(login.await.expect("joins"), Outcome::Accepted);
        }
        assert_eq!(internal.slow_logins(), 1);
    }
}
