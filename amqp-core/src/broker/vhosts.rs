//! What administrators do with vhosts.

use super::Broker;
use super::admin::{forget_grants, name_is_usable, no_vhost};
use crate::definitions::{Change, Kind};
use crate::limits;
use crate::peer::CloseReason;
use crate::policy::Scope;
use crate::records::delete;
use crate::refusal::Refusal;
use crate::shelf::Shelves;
use crate::turn::Turn;
use crate::vhost::{Metadata, VHost};

fn check_metadata(metadata: &Metadata) -> Result<(), Refusal> {
    let tags: usize = metadata.tags.iter().map(|tag| tag.len() + 8).sum();
    if metadata.description.len() + tags > limits::METADATA_BYTES_MAX {
        return Err(Refusal::precondition(format!(
            "description and tags have more than {} bytes",
            limits::METADATA_BYTES_MAX
        )));
    }
    Ok(())
}

impl Broker {
    /// Says something else about a vhost.
    ///
    /// # Errors
    /// 404; 406 for texts that are too long.
    pub fn update_vhost(
        &self,
        name: &str,
        change: impl FnOnce(&mut Metadata),
    ) -> Result<(), Refusal> {
        let vhost = self.vhost(name).ok_or_else(|| no_vhost(name))?;
        let _recording = vhost.record().ok_or_else(|| no_vhost(name))?;
        let mut facts = vhost.facts.write();
        let mut metadata = facts.metadata.clone();
        change(&mut metadata);
        check_metadata(&metadata)?;
        facts.metadata = metadata;
        drop(facts);
        self.submit(vec![super::load::record_vhost(&vhost)]);
        Ok(())
    }

    /// Creates a vhost with its built-in exchanges.
    ///
    /// # Errors
    /// 406: it exists, or the name or number of vhosts is not possible.
    pub fn add_vhost(&self, name: &str) -> Result<(), Refusal> {
        self.add_vhost_with(name, Metadata::default())
    }

    /// The same, with what is said about it.
    ///
    /// # Errors
    /// As [`Self::add_vhost`]; 406 for texts that are too long.
    pub fn add_vhost_with(&self, name: &str, metadata: Metadata) -> Result<(), Refusal> {
        let _changing = self.changing_vhosts.lock();
        let change = self.take_vhost(name, metadata)?;
        let record = self.submit(vec![change]);
        let made = self.vhost(name);
        made.iter()
            .for_each(|vhost| vhost.shelves.set_record(record));
        Ok(())
    }

    /// Creates a vhost; its record is the caller's to submit.
    pub(super) fn take_vhost(&self, name: &str, metadata: Metadata) -> Result<Change, Refusal> {
        name_is_usable("vhost", name)?;
        check_metadata(&metadata)?;
        let mut vhosts = self.vhosts.write();
        if vhosts.contains_key(name) {
            return Err(Refusal::precondition(format!(
                "Virtual host '{name}' already exists"
            )));
        }
        if vhosts.len() >= limits::VHOSTS_MAX {
            return Err(Refusal::precondition("too many virtual hosts"));
        }
        let shelves = self.next_queues(Shelves::COUNT);
        let door = |vhost: &_| self.door(name, vhost);
        let events = *self.options.event_vhost == *name;
        let made = VHost::new(name, &self.next_id, &self.epochs, door, (shelves, events));
        made.facts.write().metadata = metadata;
        let record = super::load::record_vhost(&made);
        vhosts.insert(name.into(), made);
        Ok(record)
    }

    /// Deletes a vhost with everything in it; its connections are closed.
    ///
    /// # Errors
    /// 404; 406 if it is protected.
    pub fn delete_vhost(&self, turn: &mut Turn, name: &str) -> Result<(), Refusal> {
        let _changing = self.changing_vhosts.lock();
        let mut vhosts = self.vhosts.write();
        let vhost = vhosts.get(name).ok_or_else(|| no_vhost(name))?;
        if vhost.metadata().protected {
            return Err(Refusal::precondition(format!(
                "Refusing to delete virtual host '{name}' because it is protected from deletion"
            )));
        }
        let vhost = vhosts.remove(name).ok_or_else(|| no_vhost(name))?;
        drop(vhosts);
        vhost.set_deleted();
        self.close_peers(&CloseReason::VHostDeleted(name.into()), |peer| {
            peer.view().vhost == name
        });
        vhost.claims.evict_all(turn);
        for queue in vhost.queues() {
            self.delete_queue_when(&vhost, &queue, |_| true);
        }
        vhost.shelves.forget();
        let mut changes = Vec::new();
        for exchange in vhost.exchanges() {
            // Built-in ones have no record, but their bindings may.
            changes.extend(super::load::forget_bindings(&vhost, &exchange.bound()));
            self.delete_exchange(&vhost, &exchange);
        }
        for (kind, scope) in [
            (Kind::Policy, Scope::Ordinary),
            (Kind::OperatorPolicy, Scope::Operator),
        ] {
            let policies = vhost.policies.list(scope);
            changes.extend(
                policies
                    .iter()
                    .map(|policy| delete(kind, &[name.as_bytes(), policy.name().as_bytes()])),
            );
        }
        changes.push(delete(Kind::VHost, &[name.as_bytes()]));
        for (user, grants) in self.users.clear_vhost(name) {
            changes.extend(forget_grants(&user, name, &grants));
        }
        self.submit(changes);
        Ok(())
    }
}
