//! What an operator does with members: take one out, send a node's clients elsewhere.

use super::{Admin, Answer, Refused};
use crate::base::{NodeId, RequestId};
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The answer leaves before the process does.
const END_AFTER: Duration = Duration::from_millis(200);
/// Not zero, so that systemd starts the node again.
const EXIT_TO_RESTART: i32 = 75;

/// Whom to take out.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaving {
    /// Number; this node when it is not given.
    id: Option<NodeId>,
}

impl Admin {
    pub(super) async fn leave(&self, leaving: Leaving, id: RequestId) -> Result<Answer, Refused> {
        let member = leaving.id.unwrap_or(self.config.node.id);
        self.record(id, "admin.cluster.leave", &member.to_string(), "asked")
            .await?;
        self.log.leave(member).await.map_err(Refused::Cluster)?;
        Ok(Answer::ok(&json!({ "left": member })))
    }

    /// The node ends once it has answered, and goes on alone when it is started again, which systemd does.
    pub(super) async fn go_alone(&self, id: RequestId) -> Result<Answer, Refused> {
        self.record(id, "admin.cluster.go_alone", "node", "asked").await?;
        self.log.go_alone().map_err(Refused::Cluster)?;
        tokio::task::spawn_local(async {
            tokio::time::sleep(END_AFTER).await;
            tracing::warn!("ending, to go on alone");
            std::process::exit(EXIT_TO_RESTART);
        });
        Ok(Answer::ok(&json!({ "alone": self.config.node.id })))
    }

    /// Readiness goes first, so that whoever sends clients here stops; then leadership.
    pub(super) async fn drain(&self, drained: bool, id: RequestId) -> Result<Answer, Refused> {
        let action = if drained {
            "admin.cluster.drain"
        } else {
            "admin.cluster.undrain"
        };
        self.record(id, action, "node", "asked").await?;
        self.drained.store(drained, Ordering::Relaxed);
        if drained && self.log.status().leader && !self.log.cluster().others.is_empty() {
            self.log.hand_over().await.map_err(Refused::Cluster)?;
        }
        Ok(Answer::ok(&json!({ "drained": drained })))
    }
}
