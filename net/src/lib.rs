//! Listeners and the driver loop of Leveret.

pub mod options;
