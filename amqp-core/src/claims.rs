//! Identifiers that one connection at a time may own in a vhost (MQTT client ids), and what an
//! absent owner left.
//!
//! The newest claim of a user wins; an identifier may be bound to the user who has it. The core
//! does not know what an owner leaves: it keeps it, hands it to the next claimant and drops it when
//! its time is over.

mod storm;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use crate::limits;
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::turn::Turn;
use storm::Storms;

/// A connection that owns an identifier.
pub trait Owner: Send + Sync {
    /// Another connection has claimed the identifier: stop, give back what is unsettled, and hand
    /// over what the next owner should have. Runs on the claimant's thread.
    fn evict(&self, turn: &mut Turn) -> Option<Box<dyn Leftover>>;

    /// The user that it has logged in as.
    fn user(&self) -> &str;

    /// The other end.
    fn peer(&self) -> SocketAddr;
}

/// What an owner leaves for the next.
pub trait Leftover: Any + Send + Sync {
    /// Nobody came for it in time: whatever it keeps alive elsewhere must go.
    fn forgotten(&self, turn: &mut Turn);

    /// The user whose it is.
    fn user(&self) -> &str;

    /// The permissions of its user have changed: it gives up what may not be had any more.
    fn reauthorise(&self) {}

    /// Itself, for the next owner to recognise.
    fn as_any(&self) -> &dyn Any;
}

enum Claim {
    Held(Arc<dyn Owner>),
    Left(Arc<dyn Leftover>),
}

impl Claim {
    /// Who has it, if that is not this user.
    fn other_than(&self, user: &str) -> Option<Denied> {
        let (owner, peer) = match self {
            Self::Held(held) => (held.user(), Some(held.peer())),
            Self::Left(rest) => (rest.user(), None),
        };
        (owner != user).then(|| Denied::Bound {
            owner: owner.into(),
            peer,
        })
    }
}

/// A wish for an identifier.
pub struct Wanted<'a> {
    /// The identifier.
    pub id: &'a str,
    /// Who wants it.
    pub owner: &'a Arc<dyn Owner>,
    /// The queues that tell whose it is when nobody has claimed it since the broker was started.
    pub queues: &'a [String],
    /// Nobody gets it but the user whose it is.
    pub bound: bool,
    /// What becomes of who has it.
    pub manner: Manner,
}

/// What a claimant does with who has the identifier.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Manner {
    /// Whoever is connected goes.
    #[default]
    Evict,
    /// It is not claimed while somebody who has it is connected.
    Yield,
    /// It is claimed only if there is nothing of it: no connection, no session, no queue.
    Fresh,
}

/// What a claimant finds.
#[derive(Default)]
pub struct Previous {
    /// A live connection owned the identifier and was evicted.
    pub evicted: bool,
    /// What the former owner left.
    pub rest: Option<Arc<dyn Leftover>>,
}

/// Why a claim is refused: nobody was evicted.
pub(crate) enum Denied {
    /// The vhost has [`limits::CLAIMS_MAX`].
    Full,
    /// Somebody has it, and the claimant does not want to disturb.
    Taken,
    /// It is this user's, who is connected from there now.
    Bound {
        owner: Box<str>,
        peer: Option<SocketAddr>,
    },
}

impl Denied {
    /// What the claimant is told: not whose it is.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Full => Refusal::new(ReplyCode::ResourceError, "too many client identifiers"),
            Self::Taken => Refusal::new(ReplyCode::ResourceLocked, "the client id is in use"),
            Self::Bound { .. } => Refusal::new(
                ReplyCode::NotAllowed,
                "the session of this client id belongs to another user",
            ),
        }
    }
}

/// The claims of one vhost.
#[derive(Default)]
pub(crate) struct Claims {
    held: DashMap<Box<str>, Claim>,
    storms: Mutex<Storms>,
}

impl Claims {
    /// Claims what is wanted, evicting who owns it. `restored` says whose it is if nobody has
    /// claimed it. Between that look and the claim nobody else gets it.
    pub(crate) fn claim(
        &self,
        turn: &mut Turn,
        wanted: &Wanted<'_>,
        restored: impl FnOnce() -> Option<Box<str>>,
    ) -> Result<Previous, Denied> {
        let (id, owner) = (wanted.id, wanted.owner);
        if self.held.len() >= limits::CLAIMS_MAX && !self.held.contains_key(id) {
            return Err(Denied::Full);
        }
        let user = owner.user();
        let claim = Claim::Held(Arc::clone(owner));
        let replaced = match self.held.entry(id.into()) {
            Entry::Occupied(_) if wanted.manner == Manner::Fresh => return Err(Denied::Taken),
            Entry::Occupied(mut entry) => {
                let denied = entry.get().other_than(user).filter(|_| wanted.bound);
                if let Some(denied) = denied {
                    return Err(denied);
                }
                let is_held = matches!(entry.get(), Claim::Held(_));
                if is_held && wanted.manner == Manner::Yield {
                    return Err(Denied::Taken);
                }
                Some(entry.insert(claim))
            }
            Entry::Vacant(entry) => {
                let fresh = wanted.manner == Manner::Fresh;
                let known = (wanted.bound || fresh).then(restored).flatten();
                if fresh && known.is_some() {
                    return Err(Denied::Taken);
                }
                if let Some(owner) = known.filter(|owner| **owner != *user) {
                    return Err(Denied::Bound { owner, peer: None });
                }
                entry.insert(claim);
                None
            }
        };
        Ok(match replaced {
            None => Previous::default(),
            Some(Claim::Left(rest)) => Previous {
                evicted: false,
                rest: Some(rest),
            },
            Some(Claim::Held(former)) => {
                self.count(turn, id, &*former, &**owner);
                let rest = former.evict(turn).map(Arc::from);
                Previous {
                    evicted: true,
                    rest,
                }
            }
        })
    }

    /// Two clients that share an identifier throw each other out without end: somebody should know.
    fn count(&self, turn: &Turn, id: &str, former: &dyn Owner, owner: &dyn Owner) {
        if let Some(evictions) = self.storms.lock().evicted(id, turn.now) {
            let (users, peers) = ([former.user(), owner.user()], [former.peer(), owner.peer()]);
            tracing::warn!(
                client_id = id,
                ?users,
                ?peers,
                evictions,
                "takeover storm: connections with one client id replace each other",
            );
        }
    }

    /// Gives `id` up, leaving `rest` if there is any. If somebody else owns it by now, nothing is
    /// changed and `rest` comes back.
    pub(crate) fn release(
        &self,
        id: &str,
        owner: &Arc<dyn Owner>,
        rest: Option<Box<dyn Leftover>>,
    ) -> Result<Option<Arc<dyn Leftover>>, Option<Box<dyn Leftover>>> {
        let Entry::Occupied(mut entry) = self.held.entry(id.into()) else {
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
        self.held.remove_if(id, |_, claim| same(claim)).is_some()
    }

    /// All that was left, and by whom.
    pub(crate) fn left(&self) -> Vec<(Box<str>, Arc<dyn Leftover>)> {
        let left = self.held.iter().filter_map(|entry| match entry.value() {
            Claim::Held(_) => None,
            Claim::Left(rest) => Some((entry.key().clone(), Arc::clone(rest))),
        });
        left.collect()
    }

    /// Drops everything without a word to anybody: the broker stops.
    pub(crate) fn clear(&self) {
        self.held.clear();
    }

    /// Evicts every live owner: the vhost is going.
    pub(crate) fn evict_all(&self, turn: &mut Turn) {
        let held: Vec<Arc<dyn Owner>> = self
            .held
            .iter()
            .filter_map(|entry| match entry.value() {
                Claim::Held(owner) => Some(Arc::clone(owner)),
                Claim::Left(_) => None,
            })
            .collect();
        for owner in held {
            owner.evict(turn);
        }
        self.held.clear();
    }
}
