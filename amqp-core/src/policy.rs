//! Policies: terms for all queues and exchanges of a vhost whose names match a pattern.
//!
//! Owns what a policy is, which one applies to what, and how it goes together with arguments.
//! Never touches a queue: [`crate::queue::Queue`] asks, and acts on the answer.
//!
//! At most one policy and one operator policy apply to a queue or an exchange: of those that match
//! the one with the highest priority, and of equal ones the one that was set last. A policy with a
//! setting that a kind of queue does not have does not apply to such queues at all.
//!
//! | Deviation from RabbitMQ | Why | Test |
//! |---|---|---|
//! | patterns have no look-around | the engine is linear in time | `a6_patterns_are_searched` |
//! | of equal priorities the one set last | one can tell | `a6_the_highest_priority_applies` |

mod keys;
mod merge;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::field::{Table, Value};
use crate::limits::{NAME_BYTES_MAX, POLICIES_MAX, POLICY_BYTES_MAX};
use crate::permission::Pattern;
use crate::queue::QueueKind;
use crate::refusal::Refusal;

pub(crate) use keys::{Settings, term};
pub(crate) use merge::effective;

/// Who a policy is set by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scope {
    /// A user's policy.
    Ordinary,
    /// The operator's: it bounds what users may ask for.
    Operator,
}

/// What a policy applies to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ApplyTo {
    /// Queues of every kind, and exchanges.
    #[default]
    All,
    /// Queues of every kind.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
    /// Subscriptions of QoS 0, which keep no messages.
    Qos0Queues,
}

impl ApplyTo {
    const EACH: [(Self, &'static str); 7] = [
        (Self::All, "all"),
        (Self::Queues, "queues"),
        (Self::Exchanges, "exchanges"),
        (Self::ClassicQueues, "classic_queues"),
        (Self::QuorumQueues, "quorum_queues"),
        (Self::Streams, "streams"),
        (Self::Qos0Queues, "qos0_queues"),
    ];

    /// The word in commands and listings.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::EACH.iter().find(|(held, _)| *held == self);
        found.map_or("all", |(_, name)| name)
    }

    /// What this word stands for.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::EACH.iter().find(|(_, held)| *held == name);
        found.map(|(held, _)| *held)
    }

    fn takes_queue(self, what: &Subject<'_>) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::Exchanges => false,
            Self::Qos0Queues => what.direct,
            Self::ClassicQueues => !what.direct && what.kind == QueueKind::Classic,
            Self::QuorumQueues => !what.direct && what.kind == QueueKind::Quorum,
            Self::Streams => !what.direct && what.kind == QueueKind::Stream,
        }
    }
}

/// The wish for a policy, as it was typed.
#[derive(Clone, Debug)]
pub struct PolicyWish<'a> {
    /// The name.
    pub name: &'a str,
    /// The pattern that is searched in names.
    pub pattern: &'a str,
    /// What it applies to.
    pub apply_to: &'a str,
    /// The highest one wins.
    pub priority: i64,
    /// The settings: arguments without `x-`.
    pub definition: Table,
}

/// A policy.
#[derive(Debug)]
pub struct Policy {
    name: Box<str>,
    text: Box<str>,
    pattern: Pattern,
    apply_to: ApplyTo,
    priority: i64,
    definition: Table,
    settings: Settings,
    /// Which one was set later.
    number: u64,
}

impl Policy {
    /// Checks a wish as RabbitMQ does.
    ///
    /// # Errors
    /// 406 with all that is wrong with it.
    fn new(scope: Scope, wish: PolicyWish<'_>, number: u64) -> Result<Self, Refusal> {
        let name = wish.name;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(invalid(&[format!(
                "policy name must have 1 to {NAME_BYTES_MAX} bytes"
            )]));
        }
        let mut bytes = Vec::new();
        let encoded = wish.definition.encode(&mut bytes);
        if encoded.is_err() || bytes.len() + wish.pattern.len() > POLICY_BYTES_MAX {
            return Err(invalid(&[format!(
                "policy has more than {POLICY_BYTES_MAX} bytes"
            )]));
        }
        let mut wrong = Vec::new();
        let settings = Settings::read(scope, &wish.definition)
            .map_err(|why| wrong.push(why))
            .unwrap_or_default();
        let apply_to = ApplyTo::named(wish.apply_to).unwrap_or_else(|| {
            wrong.push(format!(
                "apply-to '{}' unrecognised; should be one of: 'queues', 'classic_queues',  \
                 'quorum_queues', 'streams', 'exchanges', or 'all'",
                wish.apply_to
            ));
            ApplyTo::All
        });
        // An empty expression is found everywhere; permissions have another use for it.
        let searched = if wish.pattern.is_empty() {
            ".*"
        } else {
            wish.pattern
        };
        let pattern = match Pattern::new(searched) {
            Ok(pattern) if wrong.is_empty() => pattern,
            Ok(_) => return Err(invalid(&wrong)),
            Err(bad) => {
                let why = bad.why;
                wrong.push(format!(
                    "pattern should be regular expression but is invalid: {why}"
                ));
                return Err(invalid(&wrong));
            }
        };
        Ok(Self {
            name: name.into(),
            text: wish.pattern.into(),
            pattern,
            apply_to,
            priority: wish.priority,
            definition: wish.definition,
            settings,
            number,
        })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pattern as it was set.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.text
    }

    /// What it applies to.
    #[must_use]
    pub fn apply_to(&self) -> ApplyTo {
        self.apply_to
    }

    /// The highest one wins.
    #[must_use]
    pub fn priority(&self) -> i64 {
        self.priority
    }

    /// The settings as they were set.
    #[must_use]
    pub fn definition(&self) -> &Table {
        &self.definition
    }

    fn applies_to_queue(&self, what: &Subject<'_>) -> bool {
        self.apply_to.takes_queue(what)
            && (what.direct || keys::all_supported(&self.definition, what.kind))
            && self.pattern.matches(what.name)
    }

    fn applies_to_exchange(&self, name: &str) -> bool {
        matches!(self.apply_to, ApplyTo::All | ApplyTo::Exchanges) && self.pattern.matches(name)
    }

    /// What is kept of it on disk, beside vhost and name.
    pub(crate) fn record(&self) -> Table {
        crate::records::table([
            ("pattern", Value::from(&*self.text)),
            ("apply-to", Value::from(self.apply_to.name())),
            ("priority", Value::I64(self.priority)),
            ("definition", Value::Table(self.definition.clone())),
            // Below 2^63: they are counted one by one.
            ("number", Value::I64(self.number as i64)),
        ])
    }
}

/// RabbitMQ's words around what is wrong with a parameter.
pub(crate) fn invalid(wrong: &[String]) -> Refusal {
    Refusal::precondition(format!("Validation failed\n\n{}\n", wrong.join("\n")))
}

/// A queue that asks for its policies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: QueueKind,
    pub(crate) direct: bool,
}

/// The policies of one queue or exchange.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The user's.
    pub policy: Option<Arc<Policy>>,
    /// The operator's.
    pub operator: Option<Arc<Policy>>,
}

impl Applied {
    pub(crate) fn is_nothing(&self) -> bool {
        self.policy.is_none() && self.operator.is_none()
    }

    /// They are the very same ones.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = |one: &Option<Arc<Policy>>, other: &Option<Arc<Policy>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same(&self.policy, &other.policy) && same(&self.operator, &other.operator)
    }

    /// What both come to, by settings' names.
    #[must_use]
    pub fn definition(&self) -> Table {
        let definition = |policy: &Option<Arc<Policy>>| {
            let held = policy.as_ref().map(|policy| policy.definition.clone());
            held.unwrap_or_default()
        };
        merge::definitions(&definition(&self.policy), &definition(&self.operator))
    }

    pub(crate) fn settings(&self) -> Settings {
        let settings = |policy: &Option<Arc<Policy>>| {
            let held = policy.as_ref().map(|policy| policy.settings.clone());
            held.unwrap_or_default()
        };
        merge::settings(settings(&self.policy), settings(&self.operator))
    }
}

/// The policies of one scope, those that win first.
type Ranked = Vec<Arc<Policy>>;

#[derive(Default)]
struct Sets {
    ordinary: Ranked,
    operator: Ranked,
    last: u64,
}

impl Sets {
    fn of(&self, scope: Scope) -> &Ranked {
        match scope {
            Scope::Ordinary => &self.ordinary,
            Scope::Operator => &self.operator,
        }
    }

    fn of_mut(&mut self, scope: Scope) -> &mut Ranked {
        match scope {
            Scope::Ordinary => &mut self.ordinary,
            Scope::Operator => &mut self.operator,
        }
    }
}

/// The policies of a vhost.
#[derive(Default)]
pub(crate) struct Policies {
    sets: RwLock<Sets>,
    /// Moves with every change.
    version: AtomicU64,
    changing: Mutex<()>,
}

impl Policies {
    /// One change at a time, until all that it concerns has seen it.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// Moves with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Sets a policy, in the place of one with its name.
    pub(crate) fn set(&self, scope: Scope, wish: PolicyWish<'_>) -> Result<Arc<Policy>, Refusal> {
        let number = self.sets.read().last + 1;
        self.put(scope, Policy::new(scope, wish, number)?)
    }

    fn put(&self, scope: Scope, policy: Policy) -> Result<Arc<Policy>, Refusal> {
        let policy = Arc::new(policy);
        let mut sets = self.sets.write();
        sets.last = sets.last.max(policy.number);
        let ranked = sets.of_mut(scope);
        let others = ranked
            .iter()
            .filter(|held| held.name != policy.name)
            .count();
        if others >= POLICIES_MAX {
            return Err(invalid(&[format!("there are {POLICIES_MAX} already")]));
        }
        ranked.retain(|held| held.name != policy.name);
        let rank = |held: &Arc<Policy>| (held.priority, held.number);
        let place = ranked.partition_point(|held| rank(held) > rank(&policy));
        ranked.insert(place, Arc::clone(&policy));
        drop(sets);
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(policy)
    }

    /// A policy that was on disk; `false` if this version does not write such ones.
    pub(crate) fn load(&self, scope: Scope, name: &str, record: &Table) -> bool {
        let integer = |name| record.lookup(name).and_then(Value::as_integer);
        let pattern = crate::records::text(record, "pattern");
        let apply_to = crate::records::text(record, "apply-to");
        let (Some(priority), Some(number)) = (integer("priority"), integer("number")) else {
            return false;
        };
        let wish = PolicyWish {
            name,
            pattern: &pattern,
            apply_to: &apply_to,
            priority,
            definition: crate::records::nested(record, "definition"),
        };
        let number = u64::try_from(number).unwrap_or_default();
        let loaded = Policy::new(scope, wish, number).and_then(|policy| self.put(scope, policy));
        loaded.is_ok()
    }

    /// Takes a policy away; `false` if there is none with that name.
    pub(crate) fn clear(&self, scope: Scope, name: &str) -> bool {
        let mut sets = self.sets.write();
        let ranked = sets.of_mut(scope);
        let count = ranked.len();
        ranked.retain(|held| *held.name != *name);
        let cleared = ranked.len() < count;
        drop(sets);
        self.version.fetch_add(1, Ordering::AcqRel);
        cleared
    }

    /// All of them, those that win first.
    pub(crate) fn list(&self, scope: Scope) -> Vec<Arc<Policy>> {
        self.sets.read().of(scope).clone()
    }

    /// What applies to a queue.
    pub(crate) fn of_queue(&self, what: &Subject<'_>) -> Applied {
        self.find(|policy| policy.applies_to_queue(what))
    }

    /// What applies to an exchange.
    pub(crate) fn of_exchange(&self, name: &str) -> Applied {
        self.find(|policy| policy.applies_to_exchange(name))
    }

    fn find(&self, applies: impl Fn(&Policy) -> bool) -> Applied {
        let sets = self.sets.read();
        let first = |ranked: &Ranked| ranked.iter().find(|held| applies(held)).cloned();
        Applied {
            policy: first(&sets.ordinary),
            operator: first(&sets.operator),
        }
    }
}
