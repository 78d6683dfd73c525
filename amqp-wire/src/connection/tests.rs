//! Whole connections in memory: a client made of the codec's client side, the machine, and a real
//! broker; bytes in, bytes out. Each file here is one chapter.

mod blocked;
mod client;
mod confirm;
mod consume;
mod cut;
mod distribute;
mod handshake;
mod numbers;
mod overdue;
mod permissions;
mod refused;
mod reply;
mod secret;
mod states;
mod streams;
mod tutorials;
mod tx;
