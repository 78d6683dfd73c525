//! Budgets that do not depend on the machine: allocations, wake-ups, reads and writes of each path,
//! bytes of what idle clients hold. No test here looks at a clock.
//!
//! [`paths`] and [`held`] have the tables; everything else plays them, with the real machines and
//! the real driver over sockets in memory.

mod amqp;
mod document;
mod held;
mod mqtt;
mod paths;
mod rig;
mod stage;
mod wire;
