//! Identifiers that one connection at a time may own in a vhost (MQTT client ids), and what an
//! absent owner left.
//!
//! The newest claim wins. The core does not know what an owner leaves: it keeps it, hands it to the
//! next claimant and drops it when its time is over.

use std::any::Any;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::limits;
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::turn::Turn;

/// A connection that owns an identifier.
pub trait Owner: Send + Sync {
    /// Another connection has claimed the identifier: stop, give back what is unsettled, and hand
    /// over what the next owner should have. Runs on the claimant's thread.
    fn evict(&self, turn: &mut Turn) -> Option<Box<dyn Leftover>>;
}

/// What an owner leaves for the next.
pub trait Leftover: Any + Send + Sync {
    /// Nobody came for it in time: whatever it keeps alive elsewhere must go.
    fn forgotten(&self, turn: &mut Turn);

    /// Whose it is, if it has what permissions are asked for.
    fn user(&self) -> Option<&str> {
        None
    }

    /// The permissions of its user have changed: it gives up what may not be had any more.
    fn reauthorise(&self) {}

    /// Itself, for the next owner to recognise.
    fn as_any(&self) -> &dyn Any;
}

enum Claim {
    Held(Arc<dyn Owner>),
    Left(Arc<dyn Leftover>),
}

/// What a claimant finds.
#[derive(Default)]
pub struct Previous {
    /// A live connection owned the identifier and was evicted.
    pub evicted: bool,
    /// What the former owner left.
    pub rest: Option<Arc<dyn Leftover>>,
}

/// The claims of one vhost.
#[derive(Default)]
pub(crate) struct Claims(DashMap<Box<str>, Claim>);

impl Claims {
    /// Claims `id`, evicting who owns it.
    pub(crate) fn claim(
        &self,
        turn: &mut Turn,
        id: &str,
        owner: &Arc<dyn Owner>,
    ) -> Result<Previous, Refusal> {
        if self.0.len() >= limits::CLAIMS_MAX && !self.0.contains_key(id) {
            return Err(Refusal::new(
                ReplyCode::ResourceError,
                "too many client identifiers",
            ));
        }
        let replaced = self.0.insert(id.into(), Claim::Held(Arc::clone(owner)));
        Ok(match replaced {
            None => Previous::default(),
            Some(Claim::Left(rest)) => Previous {
                evicted: false,
                rest: Some(rest),
            },
            Some(Claim::Held(former)) => {
                let rest = former.evict(turn).map(Arc::from);
                Previous {
                    evicted: true,
                    rest,
                }
            }
        })
    }

    /// Gives `id` up, leaving `rest` if there is any. If somebody else owns it by now, nothing is
    /// changed and `rest` comes back.
    pub(crate) fn release(
        &self,
        id: &str,
        owner: &Arc<dyn Owner>,
        rest: Option<Box<dyn Leftover>>,
    ) -> Result<Option<Arc<dyn Leftover>>, Option<Box<dyn Leftover>>> {
        let Entry::Occupied(mut entry) = self.0.entry(id.into()) else {
            return Err(rest);
        };
        match entry.get() {
            Claim::Held(held) if Arc::ptr_eq(held, owner) => {}
            _ => return Err(rest),
        }
        Ok(match rest {
            None => {
                entry.remove();
                None
            }
            Some(rest) => {
                let rest: Arc<dyn Leftover> = Arc::from(rest);
                entry.insert(Claim::Left(Arc::clone(&rest)));
                Some(rest)
            }
        })
    }

    /// Drops what was left, if it still is what lies there; says whether it was.
    pub(crate) fn forget(&self, id: &str, rest: &Arc<dyn Leftover>) -> bool {
        let same = |claim: &Claim| matches!(claim, Claim::Left(held) if Arc::ptr_eq(held, rest));
        self.0.remove_if(id, |_, claim| same(claim)).is_some()
    }

    /// All that was left, and by whom.
    pub(crate) fn left(&self) -> Vec<(Box<str>, Arc<dyn Leftover>)> {
        let left = self.0.iter().filter_map(|entry| match entry.value() {
            Claim::Held(_) => None,
            Claim::Left(rest) => Some((entry.key().clone(), Arc::clone(rest))),
        });
        left.collect()
    }

    /// Drops everything without a word to anybody: the broker stops.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    /// Evicts every live owner: the vhost is going.
    pub(crate) fn evict_all(&self, turn: &mut Turn) {
        let held: Vec<Arc<dyn Owner>> = self
            .0
            .iter()
            .filter_map(|entry| match entry.value() {
                Claim::Held(owner) => Some(Arc::clone(owner)),
                Claim::Left(_) => None,
            })
            .collect();
        for owner in held {
            owner.evict(turn);
        }
        self.0.clear();
    }
}
