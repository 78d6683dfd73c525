//! Users, their passwords and tags.

use leveret_auth::login::Outcome;
use leveret_auth::password::{Hashing, PasswordHash, hash_new, store};
use leveret_core::user::{StoredPassword, User};
use serde::Deserialize;
use serde_json::json;

use super::{check_text, done, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct NamedUser {
    username: String,
}

#[derive(Deserialize)]
pub(super) struct WithPassword {
    username: String,
    password: String,
    /// The password is RabbitMQ's salted SHA-256 in base64, or an argon2id PHC string.
    #[serde(default)]
    pre_hashed: bool,
}

#[derive(Deserialize)]
pub(super) struct Password {
    password: String,
}

#[derive(Deserialize)]
pub(super) struct WithTags {
    username: String,
    tags: Vec<String>,
}

pub(super) fn list(context: &Context) -> Answer {
    let users = context.broker.list_users().into_iter();
    rows(users.map(|user| json!({ "user": user.name, "tags": user.tags })))
}

pub(super) async fn add(context: &Context, wanted: WithPassword) -> Result<Answer, Failure> {
    let WithPassword {
        username,
        password,
        pre_hashed,
    } = wanted;
    if context.broker.user(&username).is_some() {
        let text = format!("User \"{username}\" already exists");
        return Err(Failure::new(Code::Software, text));
    }
    let password = stored(password, pre_hashed).await?;
    context.broker.put_user(
        &username,
        User {
            password_hash: password.hash,
            scram: password.scram,
            ..User::default()
        },
    )?;
    Ok(done())
}

pub(super) fn delete(context: &Context, wanted: &NamedUser) -> Result<Answer, Failure> {
    check_user(context, &wanted.username)?;
    context.broker.delete_user(&wanted.username)?;
    Ok(done())
}

pub(super) async fn change_password(
    context: &Context,
    wanted: WithPassword,
) -> Result<Answer, Failure> {
    check_user(context, &wanted.username)?;
    let password = stored(wanted.password, wanted.pre_hashed).await?;
    context.broker.set_password(&wanted.username, password)?;
    Ok(done())
}

/// Nobody logs in with a password any more.
pub(super) fn clear_password(context: &Context, wanted: &NamedUser) -> Result<Answer, Failure> {
    check_user(context, &wanted.username)?;
    let nothing = StoredPassword::default();
    context.broker.set_password(&wanted.username, nothing)?;
    Ok(done())
}

/// RabbitMQ's hash of a password: what `add_user --pre-hashed-password` takes.
pub(super) async fn hash_password(wanted: Password) -> Result<Answer, Failure> {
    let hashing = tokio::task::spawn_blocking(move || {
        let password = wanted.password.as_bytes();
        hash_new(Hashing::RabbitSha256, password, &mut rand::rng())
    });
    match hashing.await {
        Ok(Ok(hash)) => {
            let text = hash.to_string();
            let hash = text.split_once(':').map_or(&*text, |(_, hash)| hash);
            Ok(Answer::One(json!({ "hash": hash })))
        }
        Ok(Err(why)) => Err(Failure::new(Code::Data, why.to_string())),
        Err(why) => Err(Failure::new(Code::Software, why.to_string())),
    }
}

pub(super) fn set_tags(context: &Context, wanted: WithTags) -> Result<Answer, Failure> {
    check_user(context, &wanted.username)?;
    check_text("list of tags", &wanted.tags.join(","))?;
    let tags = wanted
        .tags
        .into_iter()
        .filter(|tag| !tag.is_empty())
        .map(Into::into)
        .collect();
    context.broker.set_user_tags(&wanted.username, tags)?;
    Ok(done())
}

pub(super) async fn authenticate(
    context: &Context,
    wanted: WithPassword,
) -> Result<Answer, Failure> {
    let name = &wanted.username;
    let stored = context.broker.user(name);
    let stored = stored.as_ref().map(|user| &*user.password_hash);
    match context
        .logins
        .login(name, stored, wanted.password.as_bytes())
        .await
    {
        Outcome::Accepted => Ok(done()),
        Outcome::Refused => Err(Failure::new(
            Code::Data,
            format!(
                "Error: failed to authenticate user \"{name}\"\nuser '{name}' - invalid credentials"
            ),
        )),
        Outcome::Busy => Err(Failure::new(Code::Temporary, "too many logins are waiting")),
    }
}

fn check_user(context: &Context, name: &str) -> Result<(), Failure> {
    match context.broker.user(name) {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            Code::NoUser,
            format!("User \"{name}\" does not exist"),
        )),
    }
}

/// What is stored for a password. Of one that is hashed already there is no verifier for SCRAM.
async fn stored(password: String, pre_hashed: bool) -> Result<StoredPassword, Failure> {
    let refused = |why: String| Failure::new(Code::Data, why);
    if pre_hashed {
        let hashing = if password.starts_with('$') {
            Hashing::Argon2id
        } else {
            Hashing::RabbitSha256
        };
        let hash = PasswordHash::from_parts(hashing, &password);
        return hash
            .map(|hash| hash.to_string().into())
            .map_err(|why| refused(why.to_string()));
    }
    // Some 20 ms of CPU: not on a thread that serves connections.
    let hashing = tokio::task::spawn_blocking(move || store(password.as_bytes(), &mut rand::rng()));
    match hashing.await {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(why)) => Err(refused(why.to_string())),
        Err(why) => Err(Failure::new(Code::Software, why.to_string())),
    }
}
