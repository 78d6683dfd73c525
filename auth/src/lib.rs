//! Password hashes and login backends of Leveret.
//!
//! Owns who is who: it says whether a password belongs to a user's stored hash, and bounds what
//! that costs. It must never know vhosts, tags or permissions (the core's), read a socket, or keep
//! a password in clear text longer than one call.
//!
//! Deviations from RabbitMQ:
//!
//! | RabbitMQ | Here | Test |
//! |---|---|---|
//! | new passwords are hashed with SHA-256 | with argon2id | `password::tests::new_hashes_verify` |
//! | `rabbit_password_hashing_md5` verifies | is refused | `password::tests::refused_forms` |
//! | passwords have no maximum length | 4,096 bytes | `password::tests::bounds` |

pub mod cache;
pub mod login;
pub mod password;
pub mod scram;
