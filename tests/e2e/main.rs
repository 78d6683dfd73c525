//! End to end: the whole broker in this process, real clients over real sockets.
//!
//! Every test has a broker of its own, on ports that the system chooses, in a data directory that
//! goes away. Tests wait for events, never for time: what has no event is asked for until it is so.

mod alarms;
mod amqp;
mod amqp_tutorials;
mod auth;
mod bench;
mod bridge;
mod broker;
mod caps;
mod channels;
mod clock;
mod confirms;
mod connect;
mod control;
mod crash;
mod exactly_once;
mod exchanges;
mod fixture;
mod hostile;
mod mqtt;
mod packet;
mod plugins;
mod policies;
mod presence;
mod program;
mod publish;
mod reauthorise;
mod restart;
mod scram;
mod second_client;
mod sessions;
mod start;
mod store;
mod streams;
mod survive;
mod tail;
mod takeovers;
mod terminal;
mod transactions;
