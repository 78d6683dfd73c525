//! Passwords that verified, so that a connect storm of one user costs one argon2 and not thousands.
//!
//! Owns a bounded map from user name to what verified last. It must never hold a password, only a
//! digest of it under a key that lives as long as the process; it must never remember a failure.
//! An entry counts only for the very stored hash that it was made with, so a changed or deleted
//! password needs no message to this map.

use std::collections::HashMap;

use parking_lot::RwLock;
use rand::CryptoRng;
use sha2::{Digest, Sha256};

use crate::password::same;

/// Most users whose last verified password is remembered: some 300 bytes each, 3 MB in all.
pub const VERIFIED_MAX: usize = 10_000;

/// The last verified password of each user, as a digest.
pub struct Verified {
    /// Keeps the digests useless outside this process.
    key: [u8; KEY_BYTES],
    users: RwLock<HashMap<Box<str>, Entry>>,
}

struct Entry {
    stored: Box<str>,
    digest: [u8; 32],
}

impl Verified {
    /// An empty map under a fresh key from `rng`.
    pub fn new<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = [0; KEY_BYTES];
        rng.fill_bytes(&mut key);
        Self {
            key,
            users: RwLock::new(HashMap::new()),
        }
    }

    /// Whether exactly this password verified against exactly this stored hash.
    pub fn contains(&self, user: &str, stored: &str, password: &[u8]) -> bool {
        let digest = self.digest(password);
        self.users
            .read()
            .get(user)
            .is_some_and(|entry| *entry.stored == *stored && same(&entry.digest, &digest))
    }

    /// Remembers a password that verified; the caller vouches for that. At [`VERIFIED_MAX`] users
    /// an arbitrary other one is forgotten.
    pub fn insert(&self, user: &str, stored: &str, password: &[u8]) {
        let entry = Entry {
            stored: stored.into(),
            digest: self.digest(password),
        };
        let mut users = self.users.write();
        if let Some(known) = users.get_mut(user) {
            *known = entry;
            return;
        }
        if users.len() >= VERIFIED_MAX {
            let evicted = users.keys().next().cloned();
            evicted.and_then(|user| users.remove(&user));
        }
        users.insert(user.into(), entry);
    }

    fn digest(&self, password: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.key)
            .chain_update(password)
            .finalize()
            .into()
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("users", &self.users.read().len())
            .finish_non_exhaustive()
    }
}

const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn verified() -> Verified {
        Verified::new(&mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn only_the_same_user_hash_and_password_hit() {
        let verified = verified();
        verified.insert("u", "hash 1", b"secret");
        let table = [
            ("u", "hash 1", "secret", true),
            ("u", "hash 2", "secret", false),
            ("u", "hash 1", "Secret", false),
            ("u", "hash 1", "", false),
            ("v", "hash 1", "secret", false),
            ("", "hash 1", "secret", false),
        ];
        for (user, stored, password, hit) in table {
            assert_eq!(
                verified.contains(user, stored, password.as_bytes()),
                hit,
                "{user} {stored} {password}"
            );
        }
        verified.insert("u", "hash 2", b"changed");
        assert!(!verified.contains("u", "hash 1", b"secret"));
        assert!(verified.contains("u", "hash 2", b"changed"));
    }

    #[test]
    fn digests_differ_between_processes() {
        let other = Verified::new(&mut StdRng::seed_from_u64(2));
        assert_ne!(verified().digest(b"secret"), other.digest(b"secret"));
    }

    #[test]
    fn the_map_is_bounded_and_keeps_the_newest() {
        let verified = verified();
        for number in 0..VERIFIED_MAX + 100 {
            let user = format!("user {number}");
            verified.insert(&user, "hash", b"secret");
            assert!(verified.contains(&user, "hash", b"secret"));
        }
        assert_eq!(verified.users.read().len(), VERIFIED_MAX);
    }
}
