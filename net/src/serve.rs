//! From an accepted stream to a running connection: the one place that knows both protocols.
//!
//! Owns the choice of the machine and its task. Must never look at a byte.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use leveret_core::doorbell::Doorbell;
use leveret_core::login::{Reply, Request};
use leveret_core::peer::Accepted;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::crew;
use crate::driver::{Driver, Surroundings};
use crate::listener::Place;
use crate::machine::Machine;
use crate::options::Protocol;
use crate::transport::{Tcp, Transport};

/// The two protocols of a broker, ready to take connections.
#[derive(Debug)]
pub struct Protocols {
    /// What all MQTT connections share.
    pub mqtt: Arc<leveret_mqtt::Node>,
    /// What all AMQP connections share.
    pub amqp: Arc<leveret_amqp::Node>,
    /// What all connections share.
    pub surroundings: Arc<Surroundings>,
}

impl Protocols {
    /// Starts a task that runs the connection to its end, here or on another thread.
    pub(crate) fn serve(
        &self,
        protocol: Protocol,
        stream: TcpStream,
        accepted: Accepted,
        place: Place,
    ) {
        let now = self.surroundings.clock.now();
        match protocol {
            Protocol::Mqtt => {
                let machine = leveret_mqtt::Connection::new(&self.mqtt, accepted, now);
                self.spawn(machine, stream, place);
            }
            Protocol::Amqp => {
                let machine = leveret_amqp::Connection::new(&self.amqp, accepted, now);
                self.spawn(machine, stream, place);
            }
        }
    }

    fn spawn<M: Machine + 'static>(&self, machine: M, stream: TcpStream, place: Place) {
        let driver = Driver::new(machine, Tcp::Here(stream), Arc::clone(&self.surroundings));
        let mut served = Served(Some((driver, place)));
        match crew::placement() {
            Some(other) => served.leave(&other),
            None => drop(tokio::spawn(served)),
        }
    }
}

/// A driver that is counted as long as it lives, on whatever thread; `None` once it has left for
/// another.
struct Served<M: Machine, S>(Option<(Driver<M, S>, Place)>);

impl<M: Machine + 'static, S: Transport> Served<M, S> {
    /// Goes to another thread. Whoever rings in between is heard there: the bell stays pressed.
    fn leave(&mut self, to: &Handle) {
        let Some((mut driver, place)) = self.0.take() else {
            return;
        };
        if driver.depart().is_err() {
            // Dropped, which tells the machine.
            return;
        }
        to.spawn(async move {
            if driver.arrive().is_ok() {
                tokio::spawn(Self(Some((driver, place))));
            }
        });
    }
}

impl<M: Machine + 'static, S: Transport> Future for Served<M, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((driver, _)) = &mut self.0 else {
            return Poll::Ready(());
        };
        if Pin::new(&mut *driver).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let who = std::ptr::from_ref(driver).addr();
        let to = crew::departure(who).filter(|_| driver.may_depart());
        match to {
            Some(to) => {
                self.leave(&to);
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    }
}

/// The machines have these as methods of their own, which come first where a path names both.
macro_rules! machine {
    ($connection:ty $(, $more:item)?) => {
        impl Machine for $connection {
            $($more)?

            fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
                Self::handle_input(self, turn, input)
            }

            fn handle_wake(&mut self, turn: &mut Turn) {
                Self::handle_wake(self, turn);
            }

            fn handle_timeout(&mut self, turn: &mut Turn) {
                Self::handle_timeout(self, turn);
            }

            fn handle_reply(&mut self, turn: &mut Turn, reply: Reply) {
                Self::handle_reply(self, turn, reply);
            }

            fn handle_close(&mut self, turn: &mut Turn) {
                Self::handle_close(self, turn);
            }

            fn poll_timeout(&self) -> Option<Time> {
                Self::poll_timeout(self)
            }

            fn poll_request(&mut self) -> Option<Request> {
                Self::poll_request(self)
            }

            fn poll_output(&mut self, out: &mut Vec<u8>) {
                Self::poll_output(self, out);
            }

            fn wants_input(&self) -> bool {
                Self::wants_input(self)
            }

            fn is_closed(&self) -> bool {
                Self::is_closed(self)
            }

            fn peer(&self) -> SocketAddr {
                Self::peer(self)
            }

            fn doorbell(&self) -> &Doorbell {
                Self::doorbell(self)
            }
        }
    };
}

machine!(
    leveret_mqtt::Connection,
    fn is_left(&self) -> bool {
        Self::is_left(self)
    }
);
machine!(leveret_amqp::Connection);
