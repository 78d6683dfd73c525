//! Bindings of queues and exchanges, with their permissions.

use std::sync::Arc;

use super::Link;
use crate::exchange::{Binding, Destination, Exchange, ExchangeKind};
use crate::field::Table;
use crate::key::{self, Form};
use crate::limits;
use crate::permission::Permission;
use crate::queue::Queue;
use crate::refusal::{Refusal, Resource};

/// Which binding of a queue is meant.
#[derive(Clone, Debug)]
pub struct BindQueue<'a> {
    /// The queue's name.
    pub queue: &'a str,
    /// The exchange's name.
    pub exchange: &'a str,
    /// The binding key.
    pub key: &'a [u8],
    /// How the key is written.
    pub form: Form,
    /// The arguments.
    pub arguments: Table,
}

/// What a bind found.
#[derive(Clone, Debug)]
pub struct BindingMade {
    /// The queue.
    pub queue: Arc<Queue>,
    /// There was no such binding before.
    pub created: bool,
}

impl Link {
    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// 403, 404, 405, and 406 for a key with more wildcards or words than can be matched.
    pub fn queue_bind(&self, wish: &BindQueue<'_>) -> Result<BindingMade, Refusal> {
        let (queue, source) = self.ends(wish)?;
        check_key(&source, wish.key, wish.form)?;
        check_match(&source, &wish.arguments)?;
        crate::records::check_arguments(&wish.arguments)?;
        if queue.binding_count() >= limits::BINDINGS_PER_DESTINATION_MAX {
            return Err(Refusal::precondition(format!(
                "queue '{}' has {} bindings already",
                wish.queue,
                limits::BINDINGS_PER_DESTINATION_MAX
            )));
        }
        let _recording = queue.journaled().then(|| self.vhost.recording.lock());
        let made = self.vhost.bind(Binding {
            source: Arc::downgrade(&source),
            destination: Destination::Queue(Arc::downgrade(&queue)),
            key: wish.key.into(),
            form: wish.form,
            arguments: wish.arguments.clone(),
        });
        if let Some(binding) = &made {
            self.record(binding);
        }
        self.recorded(queue.record());
        Ok(BindingMade {
            queue,
            created: made.is_some(),
        })
    }

    /// Removes a queue's binding. One that is not there is no error. Says how many bindings the
    /// queue has left.
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn queue_unbind(&self, wish: &BindQueue<'_>) -> Result<usize, Refusal> {
        let (queue, source) = self.ends(wish)?;
        self.unbind(&queue, &source, wish);
        Ok(queue.binding_count())
    }

    /// Removes a binding that the connection itself made, whatever its user may do by now.
    pub fn queue_unbind_own(&self, wish: &BindQueue<'_>) {
        if let (Some(queue), Some(source)) = (
            self.vhost.queue(wish.queue),
            self.vhost.exchange(wish.exchange),
        ) {
            self.unbind(&queue, &source, wish);
        }
    }

    fn unbind(&self, queue: &Arc<Queue>, source: &Arc<Exchange>, wish: &BindQueue<'_>) {
        let wanted = |held: &Arc<Binding>| held.is(source, wish.key, wish.form, &wish.arguments);
        if let Some(binding) = queue.find_binding(wanted) {
            self.remove(&binding, source);
        }
    }

    /// The queue and exchange of a binding, if the user may connect them.
    fn ends(&self, wish: &BindQueue<'_>) -> Result<(Arc<Queue>, Arc<Exchange>), Refusal> {
        if wish.exchange.is_empty() {
            return Err(Refusal::default_exchange());
        }
        self.check(Permission::Write, Resource::Queue, wish.queue)?;
        self.check(Permission::Read, Resource::Exchange, wish.exchange)?;
        let queue = self.usable_queue(wish.queue)?;
        let source = self.vhost.find_exchange(wish.exchange)?;
        self.check_key_topic(&source, wish.key, wish.form)?;
        Ok((queue, source))
    }

    /// Binds an exchange to another.
    ///
    /// # Errors
    /// As [`Self::queue_bind`].
    pub fn exchange_bind(
        &self,
        destination: &str,
        source: &str,
        key: &[u8],
        arguments: Table,
    ) -> Result<(), Refusal> {
        let (to, from) = self.exchange_ends(destination, source, key)?;
        check_key(&from, key, Form::Dotted)?;
        check_match(&from, &arguments)?;
        crate::records::check_arguments(&arguments)?;
        if to.incoming().len() >= limits::EXCHANGE_HOPS_MAX {
            return Err(Refusal::precondition(format!(
                "exchange '{destination}' has {} bindings already",
                limits::EXCHANGE_HOPS_MAX
            )));
        }
        let _recording = to.properties().durable.then(|| self.vhost.recording.lock());
        let made = self.vhost.bind(Binding {
            source: Arc::downgrade(&from),
            destination: Destination::Exchange(Arc::downgrade(&to)),
            key: key.into(),
            form: Form::Dotted,
            arguments,
        });
        if let Some(binding) = &made {
            self.record(binding);
        }
        Ok(())
    }

    /// Removes a binding between exchanges. One that is not there is no error.
    ///
    /// # Errors
    /// 403, 404.
    pub fn exchange_unbind(
        &self,
        destination: &str,
        source: &str,
        key: &[u8],
        arguments: &Table,
    ) -> Result<(), Refusal> {
        let (to, from) = self.exchange_ends(destination, source, key)?;
        let bindings = to.incoming();
        let found = bindings
            .iter()
            .find(|held| held.is(&from, key, Form::Dotted, arguments));
        if let Some(binding) = found {
            self.remove(binding, &from);
        }
        Ok(())
    }

    fn exchange_ends(
        &self,
        destination: &str,
        source: &str,
        key: &[u8],
    ) -> Result<(Arc<Exchange>, Arc<Exchange>), Refusal> {
        if destination.is_empty() || source.is_empty() {
            return Err(Refusal::default_exchange());
        }
        self.check(Permission::Write, Resource::Exchange, destination)?;
        self.check(Permission::Read, Resource::Exchange, source)?;
        let to = self.vhost.find_exchange(destination)?;
        let from = self.vhost.find_exchange(source)?;
        self.check_key_topic(&from, key, Form::Dotted)?;
        Ok((to, from))
    }

    fn check_key_topic(&self, source: &Exchange, key: &[u8], form: Form) -> Result<(), Refusal> {
        if source.properties().kind != ExchangeKind::Topic {
            return Ok(());
        }
        self.check_topic(
            Permission::Read,
            source.name(),
            &key::dotted_text(key, form),
        )
    }

    fn record(&self, binding: &Binding) {
        if let Some(number) = self.broker.record_binding(&self.vhost, binding) {
            self.recorded(number);
        }
    }

    fn remove(&self, binding: &Arc<Binding>, source: &Arc<Exchange>) {
        let recording = self.vhost.recording.lock();
        if let Some(number) = self.broker.forget_binding(&self.vhost, binding) {
            self.recorded(number);
        }
        let left = self.vhost.unbind(binding);
        drop(recording);
        if !left && source.properties().auto_delete {
            self.delete_exchange(source);
        }
    }
}

/// Refuses a headers binding whose `x-match` nobody knows.
fn check_match(source: &Exchange, arguments: &Table) -> Result<(), Refusal> {
    let Some(value) = arguments.lookup("x-match") else {
        return Ok(());
    };
    let known = ["all", "any", "all-with-x", "any-with-x"];
    let usable = value.as_str().is_some_and(|word| known.contains(&word));
    if source.properties().kind != ExchangeKind::Headers || usable {
        return Ok(());
    }
    Err(Refusal::precondition(
        "Invalid x-match field value; expected all, any, all-with-x, or any-with-x",
    ))
}

/// Refuses what would make matching expensive.
fn check_key(source: &Exchange, key: &[u8], form: Form) -> Result<(), Refusal> {
    if source.properties().kind != ExchangeKind::Topic {
        return Ok(());
    }
    let multi = form.words(key).filter(|word| *word == b"#").count();
    if multi > limits::MULTI_WILDCARDS_MAX {
        return Err(Refusal::precondition(format!(
            "Topic binding key '{}' uses {multi} '#' wildcards, at most {} are allowed",
            String::from_utf8_lossy(key),
            limits::MULTI_WILDCARDS_MAX
        )));
    }
    // Both separators count: a slashed key stands under its dotted form as well.
    let separators = key
        .iter()
        .filter(|byte| matches!(byte, b'.' | b'/'))
        .count();
    if separators >= limits::BINDING_WORDS_MAX {
        return Err(Refusal::precondition(format!(
            "Topic binding key has more than {} words",
            limits::BINDING_WORDS_MAX
        )));
    }
    Ok(())
}
