//! Exchange operations, with their permissions and RabbitMQ's refusals.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Link;
use super::queues::{describe, same};
use crate::exchange::kind::{self, Rules};
use crate::exchange::{Exchange, ExchangeKind, ExchangeProperties};
use crate::field::Table;
use crate::permission::Permission;
use crate::refusal::{Refusal, Resource};

/// The wish for an exchange.
#[derive(Clone, Debug)]
pub struct DeclareExchange<'a> {
    /// Its name.
    pub name: &'a str,
    /// The kind's name on the wire.
    pub kind: &'a str,
    /// Only ask whether it is there.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// The arguments.
    pub arguments: Table,
}

impl Link {
    /// Declares an exchange, or checks that the one there is the same.
    ///
    /// # Errors
    /// 403, 404 (passive), 406 for another declaration, an unknown kind or arguments that cannot
    /// be.
    pub fn exchange_declare(&self, wish: &DeclareExchange<'_>) -> Result<(), Refusal> {
        if wish.passive {
            if wish.name.is_empty() {
                return Err(Refusal::default_exchange());
            }
            self.check_any(Resource::Exchange, wish.name)?;
            return self.vhost.find_exchange(wish.name).map(|_| ());
        }
        let kind = ExchangeKind::find(wish.kind)?;
        if wish.name.is_empty() {
            return Err(Refusal::default_exchange());
        }
        self.check(Permission::Configure, Resource::Exchange, wish.name)?;
        crate::records::check_arguments(&wish.arguments)?;
        if let Some(held) = self.vhost.exchange(wish.name) {
            self.recorded(held.record.load(Ordering::Acquire));
            return self.equivalent(&held, kind, wish);
        }
        self.check_new(kind, wish)?;
        let properties = ExchangeProperties {
            kind,
            durable: wish.durable,
            auto_delete: wish.auto_delete,
            internal: wish.internal,
            arguments: wish.arguments.clone(),
        };
        let _recording = self.vhost.recording.lock();
        if self.vhost.is_deleted() {
            return Err(self.vhost_gone());
        }
        match self
            .vhost
            .add_exchange(Exchange::new(wish.name, properties))
        {
            Ok(exchange) if wish.durable => {
                self.recorded(self.broker.record_exchange(&self.vhost, &exchange));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(held) => {
                self.recorded(held.record.load(Ordering::Acquire));
                self.equivalent(&held, kind, wish)
            }
        }
    }

    /// Whether there can be such an exchange: its name, its alternate, its arguments.
    fn check_new(&self, kind: ExchangeKind, wish: &DeclareExchange<'_>) -> Result<(), Refusal> {
        let (name, vhost) = (wish.name, self.vhost.name());
        if name.starts_with("amq.") {
            return Err(Refusal::reserved_name(Resource::Exchange, name));
        }
        if let Some(alternate) = kind::alternate(&wish.arguments, name, vhost)? {
            self.check(Permission::Read, Resource::Exchange, name)?;
            self.check(Permission::Write, Resource::Exchange, alternate)?;
        }
        if self.vhost.exchanges_full() {
            return Err(Refusal::precondition(format!(
                "cannot declare exchange '{name}' in vhost '{vhost}': exchange limit of {} is \
                 reached",
                crate::limits::EXCHANGES_MAX
            )));
        }
        Rules::parse(kind, &wish.arguments).map(|_| ())
    }

    /// Deletes an exchange with its bindings.
    ///
    /// # Errors
    /// 403 for built-in ones, 406 if it is to be unused and is not. A name that is not there is no
    /// error.
    pub fn exchange_delete(&self, name: &str, if_unused: bool) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(Refusal::default_exchange());
        }
        let vhost = self.vhost.name();
        if name.starts_with("amq.") {
            return Err(Refusal::new(
                crate::reply_code::ReplyCode::AccessRefused,
                format!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed"),
            ));
        }
        self.check(Permission::Configure, Resource::Exchange, name)?;
        let Some(exchange) = self.vhost.exchange(name) else {
            return Ok(());
        };
        if if_unused && exchange.in_use() {
            return Err(Refusal::precondition(format!(
                "exchange '{name}' in vhost '{vhost}' in use"
            )));
        }
        self.delete_exchange(&exchange);
        Ok(())
    }

    pub(super) fn delete_exchange(&self, exchange: &Arc<Exchange>) {
        self.recorded(self.broker.delete_exchange(&self.vhost, exchange));
    }

    /// Whether the user has any permission on it at all: what a passive declaration needs.
    pub(super) fn check_any(&self, what: Resource, name: &str) -> Result<(), Refusal> {
        self.check(Permission::Configure, what, name)
            .or_else(|refused| {
                self.check(Permission::Write, what, name)
                    .or_else(|_| self.check(Permission::Read, what, name))
                    .map_err(|_| refused)
            })
    }

    /// Whether a declaration asks for the exchange that is there.
    fn equivalent(
        &self,
        held: &Exchange,
        kind: ExchangeKind,
        wish: &DeclareExchange<'_>,
    ) -> Result<(), Refusal> {
        let current = held.properties();
        let word = |flag: bool| if flag { "true" } else { "false" };
        let rows = [
            ("type", kind.name(), current.kind.name()),
            ("durable", word(wish.durable), word(current.durable)),
            (
                "auto_delete",
                word(wish.auto_delete),
                word(current.auto_delete),
            ),
            ("internal", word(wish.internal), word(current.internal)),
        ];
        let differs = |key: &str, received: &str, current: &str| {
            let vhost = self.vhost.name();
            Refusal::inequivalent(key, Resource::Exchange, wish.name, vhost, received, current)
        };
        for (key, received, current) in rows {
            if received != current {
                let quoted = |word| format!("'{word}'");
                return Err(differs(key, &quoted(received), &quoted(current)));
            }
        }
        let asked = wish.arguments.lookup(kind::ALTERNATE);
        let current = current.arguments.lookup(kind::ALTERNATE);
        if !same(asked, current) {
            let (asked, current) = (describe(asked, current), describe(current, asked));
            return Err(differs(kind::ALTERNATE, &asked, &current));
        }
        Ok(())
    }
}
