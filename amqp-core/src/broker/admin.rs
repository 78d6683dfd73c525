//! What administrators do: users, permissions and global parameters. Every change is
//! recorded, and answers with the number of its record, which is durable when the definitions'
//! watermark has passed it.

use std::sync::Arc;

use super::Broker;
use crate::definitions::{Change, Kind};
use crate::field::Value;
use crate::limits;
use crate::peer::CloseReason;
use crate::permission::{Grants, Pattern, TopicGrants, Variables};
use crate::records::{delete, put, table};
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::user::{StoredPassword, User};
use crate::vhost::VHost;

/// A user, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// The tags.
    pub tags: Vec<String>,
}

/// A user's permissions in a vhost, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PermissionView {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The pattern of names it may configure.
    pub configure: String,
    /// The pattern of names it may write to.
    pub write: String,
    /// The pattern of names it may read from.
    pub read: String,
}

/// A user's permissions on the topics of an exchange, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicPermissionView {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// The pattern of keys it may publish under.
    pub write: String,
    /// The pattern of keys it may bind under.
    pub read: String,
}

pub(super) fn name_is_usable(what: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.contains(['\0', '\n', '\r']) {
        return Err(Refusal::precondition(format!(
            "{what} name must have 1 to {} bytes without line breaks",
            limits::NAME_BYTES_MAX
        )));
    }
    Ok(())
}

pub(super) fn no_user(name: &str) -> Refusal {
    Refusal::new(
        ReplyCode::NotFound,
        format!("User \"{name}\" does not exist"),
    )
}

pub(super) fn no_vhost(name: &str) -> Refusal {
    Refusal::new(
        ReplyCode::NotFound,
        format!("Virtual host '{name}' does not exist"),
    )
}

impl Broker {
    /// Creates or replaces a user. The hash is what the verifier of passwords made.
    ///
    /// # Errors
    /// 406: the name or number of users is not possible.
    pub fn put_user(&self, name: &str, user: User) -> Result<(), Refusal> {
        let change = self.take_user(name, user)?;
        self.submit(vec![change]);
        Ok(())
    }

    /// Creates or replaces a user; its record is the caller's to submit.
    pub(super) fn take_user(&self, name: &str, user: User) -> Result<Change, Refusal> {
        name_is_usable("user", name)?;
        let tags = user.tags.iter().map(|tag| Value::from(&**tag)).collect();
        let record = table([
            ("password_hash", Value::from(&*user.password_hash)),
            ("scram_sha_256", Value::from(&*user.scram)),
            ("tags", Value::Array(tags)),
            ("limits", Value::Table(user.limits.table())),
        ]);
        if !self.users.put(name, user) {
            return Err(Refusal::precondition("too many users"));
        }
        Ok(put(Kind::User, &[name.as_bytes()], &record))
    }

    /// Deletes a user with all permissions.
    ///
    /// # Errors
    /// 404.
    pub fn delete_user(&self, name: &str) -> Result<(), Refusal> {
        let granted = self.users.remove(name).ok_or_else(|| no_user(name))?;
        let why = CloseReason::Administrator(format!("user '{name}' is deleted").into());
        self.close_peers(&why, |peer| peer.view().user == name);
        let mut changes = vec![delete(Kind::User, &[name.as_bytes()])];
        for (vhost, exchanges) in granted {
            changes.push(delete(
                Kind::Permission,
                &[name.as_bytes(), vhost.as_bytes()],
            ));
            changes.extend(exchanges.iter().map(|exchange| {
                let parts = [name.as_bytes(), vhost.as_bytes(), exchange.as_bytes()];
                delete(Kind::TopicPermission, &parts)
            }));
        }
        self.submit(changes);
        self.authority_changed(name);
        Ok(())
    }

    /// Replaces a user's tags.
    ///
    /// # Errors
    /// 404.
    pub fn set_user_tags(&self, name: &str, tags: Vec<Box<str>>) -> Result<(), Refusal> {
        let user = self.user(name).ok_or_else(|| no_user(name))?;
        self.put_user(
            name,
            User {
                tags,
                ..User::clone(&user)
            },
        )
    }

    /// Replaces what is stored of a user's password.
    ///
    /// # Errors
    /// 404.
    pub fn set_password(&self, name: &str, password: StoredPassword) -> Result<(), Refusal> {
        let user = self.user(name).ok_or_else(|| no_user(name))?;
        self.put_user(
            name,
            User {
                password_hash: password.hash,
                scram: password.scram,
                ..User::clone(&user)
            },
        )
    }

    /// Every user, in name order.
    #[must_use]
    pub fn list_users(&self) -> Vec<UserView> {
        let view = |(name, user): (Box<str>, Arc<User>)| UserView {
            name: name.into(),
            tags: user.tags.iter().map(ToString::to_string).collect(),
        };
        self.users.all().into_iter().map(view).collect()
    }

    /// Sets what a user may configure, write and read in a vhost.
    ///
    /// # Errors
    /// 404 for user or vhost, 406 for a bad pattern.
    pub fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        [configure, write, read]: [&str; 3],
    ) -> Result<(), Refusal> {
        let held = self.check_user_and_vhost(user, vhost)?;
        let _recording = held.record().ok_or_else(|| no_vhost(vhost))?;
        let had_any = self.users.grants(user, vhost).is_some();
        let change = self.take_permissions(user, vhost, [configure, write, read])?;
        self.submit(vec![change]);
        if had_any {
            // Who had none has nothing to be asked about.
            self.authority_changed(user);
        }
        Ok(())
    }

    /// Sets a user's permissions; their record is the caller's to submit.
    pub(super) fn take_permissions(
        &self,
        user: &str,
        vhost: &str,
        [configure, write, read]: [&str; 3],
    ) -> Result<Change, Refusal> {
        self.check_user_and_vhost(user, vhost)?;
        let pattern =
            |text| Pattern::new(text).map_err(|bad| Refusal::precondition(bad.to_string()));
        let grants = Grants {
            configure: pattern(configure)?,
            write: pattern(write)?,
            read: pattern(read)?,
            topics: std::collections::HashMap::new(),
        };
        self.users.set_grants(user, vhost, grants);
        let record = table([
            ("configure", Value::from(configure)),
            ("write", Value::from(write)),
            ("read", Value::from(read)),
        ]);
        let parts = [user.as_bytes(), vhost.as_bytes()];
        Ok(put(Kind::Permission, &parts, &record))
    }

    /// Takes away everything a user was granted in a vhost.
    ///
    /// # Errors
    /// 404 for user or vhost.
    pub fn clear_permissions(&self, user: &str, vhost: &str) -> Result<(), Refusal> {
        let held = self.check_user_and_vhost(user, vhost)?;
        let recording = held.record().ok_or_else(|| no_vhost(vhost))?;
        if let Some(grants) = self.users.clear_grants(user, vhost) {
            self.submit(forget_grants(user, vhost, &grants));
            drop(recording);
            self.authority_changed(user);
            let text = format!("permissions of user '{user}' in vhost '{vhost}' are cleared");
            self.close_peers(&CloseReason::Administrator(text.into()), |peer| {
                let view = peer.view();
                view.user == user && view.vhost == vhost
            });
        }
        Ok(())
    }

    /// All permissions, by user and vhost.
    #[must_use]
    pub fn list_permissions(&self) -> Vec<PermissionView> {
        let view = |(user, vhost, grants): (Box<str>, Box<str>, Arc<Grants>)| PermissionView {
            user: user.into(),
            vhost: vhost.into(),
            configure: grants.configure.text().to_owned(),
            write: grants.write.text().to_owned(),
            read: grants.read.text().to_owned(),
        };
        self.users.all_grants().into_iter().map(view).collect()
    }

    /// Sets under which topics of an exchange a user may publish and bind.
    ///
    /// # Errors
    /// 404 for user or vhost, 406 for a bad pattern or a user without permissions in that vhost.
    pub fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        [write, read]: [&str; 2],
    ) -> Result<(), Refusal> {
        let held = self.check_user_and_vhost(user, vhost)?;
        let nobody = Variables {
            username: "",
            vhost: "",
            client_id: "",
        };
        for text in [write, read] {
            Pattern::new(&nobody.expand(text))
                .map_err(|bad| Refusal::precondition(bad.to_string()))?;
        }
        let _recording = held.record().ok_or_else(|| no_vhost(vhost))?;
        let topics = TopicGrants {
            write: write.into(),
            read: read.into(),
        };
        if !self.users.set_topics(user, vhost, exchange, Some(topics)) {
            return Err(Refusal::precondition(format!(
                "user '{user}' has no permissions in vhost '{vhost}': set those first"
            )));
        }
        self.authority_changed(user);
        let record = table([("write", Value::from(write)), ("read", Value::from(read))]);
        let parts = [user.as_bytes(), vhost.as_bytes(), exchange.as_bytes()];
        self.submit(vec![put(Kind::TopicPermission, &parts, &record)]);
        Ok(())
    }

    /// Takes away the patterns on one exchange's topics, or on those of all exchanges.
    ///
    /// # Errors
    /// 404 for user or vhost.
    pub fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), Refusal> {
        let held = self.check_user_and_vhost(user, vhost)?;
        let _recording = held.record().ok_or_else(|| no_vhost(vhost))?;
        let Some(grants) = self.users.grants(user, vhost) else {
            return Ok(());
        };
        for name in grants.topics.keys() {
            if exchange.is_some_and(|wanted| *wanted != **name) {
                continue;
            }
            self.users.set_topics(user, vhost, name, None);
            self.authority_changed(user);
            let parts = [user.as_bytes(), vhost.as_bytes(), name.as_bytes()];
            self.submit(vec![delete(Kind::TopicPermission, &parts)]);
        }
        Ok(())
    }

    /// All topic permissions, by user, vhost and exchange.
    #[must_use]
    pub fn list_topic_permissions(&self) -> Vec<TopicPermissionView> {
        let mut all = Vec::new();
        for (user, vhost, grants) in self.users.all_grants() {
            let mut topics: Vec<_> = grants.topics.iter().collect();
            topics.sort_by_key(|(exchange, _)| (*exchange).clone());
            all.extend(
                topics
                    .into_iter()
                    .map(|(exchange, topics)| TopicPermissionView {
                        user: user.to_string(),
                        vhost: vhost.to_string(),
                        exchange: exchange.to_string(),
                        write: topics.write.to_string(),
                        read: topics.read.to_string(),
                    }),
            );
        }
        all
    }

    /// Sets a global runtime parameter.
    ///
    /// # Errors
    /// 406: the name or number of parameters is not possible.
    pub fn set_global_parameter(&self, name: &str, value: Value) -> Result<(), Refusal> {
        name_is_usable("parameter", name)?;
        let record = table([("value", value.clone())]);
        let mut parameters = self.parameters.write();
        if parameters.len() >= limits::PARAMETERS_MAX && !parameters.contains_key(name) {
            return Err(Refusal::precondition("too many global parameters"));
        }
        parameters.insert(name.into(), Arc::new(value));
        drop(parameters);
        self.submit(vec![put(
            Kind::GlobalParameter,
            &[name.as_bytes()],
            &record,
        )]);
        Ok(())
    }

    /// Removes a global runtime parameter.
    ///
    /// # Errors
    /// 404.
    pub fn clear_global_parameter(&self, name: &str) -> Result<(), Refusal> {
        if self.parameters.write().remove(name).is_none() {
            return Err(Refusal::new(
                ReplyCode::NotFound,
                "Parameter does not exist",
            ));
        }
        self.submit(vec![delete(Kind::GlobalParameter, &[name.as_bytes()])]);
        Ok(())
    }

    /// All global runtime parameters, in name order.
    #[must_use]
    pub fn list_global_parameters(&self) -> Vec<(String, Arc<Value>)> {
        let parameters = self.parameters.read();
        parameters
            .iter()
            .map(|(name, value)| (name.to_string(), Arc::clone(value)))
            .collect()
    }

    fn check_user_and_vhost(&self, user: &str, vhost: &str) -> Result<Arc<VHost>, Refusal> {
        self.user(user).ok_or_else(|| no_user(user))?;
        self.vhost(vhost).ok_or_else(|| no_vhost(vhost))
    }
}

pub(super) fn forget_grants(user: &str, vhost: &str, grants: &Grants) -> Vec<Change> {
    let mut changes = vec![delete(
        Kind::Permission,
        &[user.as_bytes(), vhost.as_bytes()],
    )];
    changes.extend(grants.topics.keys().map(|exchange| {
        let parts = [user.as_bytes(), vhost.as_bytes(), exchange.as_bytes()];
        delete(Kind::TopicPermission, &parts)
    }));
    changes
}
