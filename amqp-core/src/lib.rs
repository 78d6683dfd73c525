//! The AMQP model in process: vhosts, exchanges, queues, users and permissions.
//!
//! Synchronous: no call blocks on a disk or a socket, none reads a clock. Protocol machines come in
//! through [`broker::Broker::open_vhost`] and from then on through a [`link::Link`], where every
//! permission is asked; deliveries go out through a [`sink::Sink`]. What must survive a restart
//! goes through [`definitions::Definitions`] and [`journal::Journal`], and whoever acknowledges it
//! waits for their [`watermark::Watermark`].
//!
//! Lock order: exchange, queue, out-buffer (a sink's), retained messages, journal. Never two queues
//! at once.

pub mod alarms;
mod authority;
pub mod broker;
pub mod claims;
pub mod dead_letter;
pub mod definitions;
pub mod doorbell;
pub mod events;
pub mod exchange;
pub mod field;
pub mod identity;
pub mod journal;
pub mod key;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod lists;
pub mod login;
pub mod message;
mod names;
pub mod options;
pub mod peer;
pub mod permission;
pub mod policy;
pub mod properties;
pub mod quantity;
pub mod queue;
pub mod quota;
mod records;
pub mod refusal;
pub mod replies;
pub mod reply_code;
pub mod retained;
pub mod schedule;
pub mod seam;
mod seldom;
pub mod shelf;
pub mod sink;
pub mod taps;
pub mod time;
mod timers;
pub mod turn;
pub mod user;
pub mod vhost;
pub mod watermark;
