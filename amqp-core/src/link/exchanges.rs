//! Exchange operations, with their permissions and RabbitMQ's refusals.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Link;
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
    /// 403, 404 (passive), 406 for another declaration, an unknown kind or arguments not served.
    pub fn exchange_declare(&self, wish: &DeclareExchange<'_>) -> Result<(), Refusal> {
        let vhost = self.vhost.name();
        if wish.passive {
            self.check_any(Resource::Exchange, wish.name)?;
            return self.vhost.find_exchange(wish.name).map(|_| ());
        }
        if wish.name.is_empty() {
            return Err(Refusal::default_exchange());
        }
        let Some(kind) = ExchangeKind::named(wish.kind) else {
            return Err(Refusal::precondition(format!(
                "unknown exchange type '{}'",
                wish.kind
            )));
        };
        self.check(Permission::Configure, Resource::Exchange, wish.name)?;
        crate::records::check_arguments(&wish.arguments)?;
        if let Some(held) = self.vhost.exchange(wish.name) {
            self.recorded(held.record.load(Ordering::Acquire));
            return equivalent(&held, kind, wish, vhost);
        }
        if wish.name.starts_with("amq.") {
            return Err(Refusal::reserved_name(Resource::Exchange, wish.name));
        }
        if wish.arguments.lookup("alternate-exchange").is_some() {
            return Err(Refusal::not_implemented(
                "exchange argument 'alternate-exchange' is not served by this version",
            ));
        }
        if self.vhost.exchanges_full() {
            return Err(Refusal::precondition(format!(
                "cannot declare exchange '{}' in vhost '{vhost}': exchange limit of {} is reached",
                wish.name,
                crate::limits::EXCHANGES_MAX
            )));
        }
        let properties = ExchangeProperties {
            kind,
            durable: wish.durable,
            auto_delete: wish.auto_delete,
            internal: wish.internal,
            arguments: wish.arguments.clone(),
        };
        let id = self.broker.next_id();
        let _recording = self.vhost.recording.lock();
        if self.vhost.is_deleted() {
            return Err(self.vhost_gone());
        }
        match self
            .vhost
            .add_exchange(Exchange::new(id, wish.name, properties))
        {
            Ok(exchange) if wish.durable => {
                self.recorded(self.broker.record_exchange(&self.vhost, &exchange));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(held) => {
                self.recorded(held.record.load(Ordering::Acquire));
                equivalent(&held, kind, wish, vhost)
            }
        }
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
        self.check(Permission::Configure, Resource::Exchange, name)?;
        let vhost = self.vhost.name();
        if name.starts_with("amq.") {
            return Err(Refusal::new(
                crate::reply_code::ReplyCode::AccessRefused,
                format!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed"),
            ));
        }
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
}

fn equivalent(
    held: &Exchange,
    kind: ExchangeKind,
    wish: &DeclareExchange<'_>,
    vhost: &str,
) -> Result<(), Refusal> {
    let current = held.properties();
    let rows = [
        (
            "type",
            kind.name().to_owned(),
            current.kind.name().to_owned(),
        ),
        (
            "durable",
            wish.durable.to_string(),
            current.durable.to_string(),
        ),
        (
            "auto_delete",
            wish.auto_delete.to_string(),
            current.auto_delete.to_string(),
        ),
        (
            "internal",
            wish.internal.to_string(),
            current.internal.to_string(),
        ),
    ];
    for (key, received, current) in rows {
        if received != current {
            let (received, current) = (format!("'{received}'"), format!("'{current}'"));
            return Err(Refusal::inequivalent(
                key,
                Resource::Exchange,
                wish.name,
                vhost,
                &received,
                &current,
            ));
        }
    }
    Ok(())
}
