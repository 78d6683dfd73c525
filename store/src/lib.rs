//! What Leveret keeps on disk.
//!
//! Owns the data directory, the definitions and the journal of messages in it, and the
//! `enabled_plugins` file. It must never know what a definition means, acknowledge what is not on
//! disk, or try a failed sync again.

mod atomic_file;
pub mod data_dir;
pub mod definitions;
pub mod disk;
pub mod enabled_plugins;
pub mod journal;
