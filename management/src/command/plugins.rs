//! Plugins of the running broker.

use serde::Deserialize;
use serde_json::json;

use crate::context::Context;
use crate::plugins::{Change, PluginError};
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct Wanted {
    change: Change,
    names: Vec<String>,
}

/// RabbitMQ's exit code for what is wrong with a plugin is 70.
impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        Self::new(Code::Software, error.to_string())
    }
}

pub(super) fn list(context: &Context) -> Result<Answer, Failure> {
    Ok(Answer::One(json!({
        "node": context.node_name,
        "file": context.plugins.file().display().to_string(),
        "plugins": context.plugins.list()?,
    })))
}

pub(super) async fn change(context: &Context, wanted: Wanted) -> Result<Answer, Failure> {
    let changed = context.plugins.change(wanted.change, &wanted.names).await?;
    Ok(Answer::One(json!(changed)))
}
