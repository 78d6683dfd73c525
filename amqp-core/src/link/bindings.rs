//! Bindings of queues and exchanges, with their permissions.

use std::sync::Arc;

use super::Link;
use crate::exchange::{Attached, Bound, Destination, End, Exchange, ExchangeKind, Terms};
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
        let arguments = encoded(&wish.arguments)?;
        let terms = Terms {
            key: wish.key,
            form: wish.form,
            arguments: &arguments,
        };
        let _recording = queue.journaled().then(|| self.vhost.recording.lock());
        let attached = source.attach(self.vhost.topology(), End::Queue(&queue), &terms);
        let created = match attached {
            Attached::Made(bound) => {
                self.record(&bound);
                true
            }
            Attached::Known | Attached::Gone => false,
            Attached::Full => return Err(too_many("queue", wish.queue)),
        };
        self.recorded(queue.record());
        Ok(BindingMade { queue, created })
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
        // What cannot be encoded was never bound.
        let Ok(arguments) = encoded(&wish.arguments) else {
            return;
        };
        let terms = Terms {
            key: wish.key,
            form: wish.form,
            arguments: &arguments,
        };
        if let Some(bound) = queue.find_binding(source, &terms) {
            self.remove(&bound, source);
        }
        // Somebody else may have unbound it a moment ago.
        self.recorded(queue.record());
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
        let arguments = encoded(&arguments)?;
        let terms = Terms {
            key,
            form: Form::Dotted,
            arguments: &arguments,
        };
        let _recording = to.properties().durable.then(|| self.vhost.recording.lock());
        match from.attach(self.vhost.topology(), End::Exchange(&to), &terms) {
            Attached::Made(bound) => self.record(&bound),
            Attached::Known | Attached::Gone => {}
            Attached::Full => return Err(too_many("exchange", destination)),
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
        // What cannot be encoded was never bound.
        let Ok(arguments) = encoded(arguments) else {
            return Ok(());
        };
        let terms = Terms {
            key,
            form: Form::Dotted,
            arguments: &arguments,
        };
        if let Some(bound) = to.find_incoming(&from, &terms) {
            self.remove(&bound, &from);
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

    fn record(&self, bound: &Bound) {
        if let Some(number) = self.broker.record_binding(&self.vhost, bound) {
            self.changed(bound, number);
        }
    }

    /// Whoever hears next of the queue or its bindings waits for this record as well.
    fn changed(&self, bound: &Bound, number: u64) {
        self.recorded(number);
        if let Destination::Queue(queue) = bound.destination()
            && let Some(queue) = queue.upgrade()
        {
            queue.set_record(number);
        }
    }

    fn remove(&self, bound: &Bound, source: &Arc<Exchange>) {
        let recording = self.vhost.recording.lock();
        // Somebody else may have unbound it meanwhile, and bound an equal one that stays.
        let Some(left) = source.detach(self.vhost.topology(), bound) else {
            return;
        };
        if let Some(number) = self.broker.forget_binding(&self.vhost, bound) {
            self.changed(bound, number);
        }
        drop(recording);
        if !left && source.properties().auto_delete {
            self.delete_exchange(source);
        }
    }
}

/// Arguments as a binding keeps them.
fn encoded(arguments: &Table) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    arguments
        .encode(&mut out)
        .map_err(|why| Refusal::precondition(format!("arguments cannot be kept: {why}")))?;
    Ok(out)
}

fn too_many(what: &str, name: &str) -> Refusal {
    Refusal::precondition(format!(
        "{what} '{name}' has {} bindings already",
        limits::BINDINGS_PER_DESTINATION_MAX
    ))
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
