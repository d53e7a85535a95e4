//! Mixed releases: who runs what, what may be done next, and the point of no return.

use super::status::{Member, member_of, shown};
use super::{Admin, Answer, Refused};
use crate::base::release;
use crate::base::{RequestId, Timestamp};
use crate::log::level::{self, Speaks};
use crate::log::{MemberView, against_level};
use crate::metrics::ServedFigures;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a node shows of itself to its peers: its line, and what it served. Fields are only ever added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// Its line in `status`.
    #[serde(flatten)]
    pub member: Member,
    /// When its process began to count, ms since 1970.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// What it served since.
    #[serde(default)]
    pub served: Option<ServedFigures>,
}

/// The answer of `GET /admin/upgrade`. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The format level in force.
    pub level: u32,
    /// Since when, ISO; absent when it is the first one's.
    pub level_since: Option<String>,
    /// The release that raised it; empty when none did.
    pub level_release: String,
    /// The level that `finalize` on this node would put in force.
    pub newest: u32,
    /// What stands against that, one sentence each.
    pub against: Vec<String>,
    /// What can be done next, one sentence each.
    pub next: Vec<String>,
    /// Number of the node that answers.
    pub node: u64,
    /// All members; one on a cluster of one.
    pub members: Vec<Running>,
}

/// Which release a member runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Number.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Data centre.
    pub site: String,
    /// As in `status`.
    pub role: String,
    /// Its release; empty while it does not answer.
    pub release: String,
    /// The format levels that it speaks; absent while it does not answer.
    pub speaks: Option<Speaks>,
    /// Since when, ISO; absent where the release does not tell.
    pub since: Option<String>,
    /// What it served since; absent where the release does not tell.
    pub served: Option<ServedFigures>,
}

impl Running {
    fn new(line: Member, speaks: Option<Speaks>, since_ms: Option<u64>, served: Option<ServedFigures>) -> Running {
        Running {
            id: line.id,
            name: line.name,
            site: line.site,
            role: line.role,
            release: if speaks.is_some() { line.release } else { String::new() },
            speaks,
            since: since_ms.map(|ms| Timestamp::from_ms(ms).iso()),
            served,
        }
    }
}

impl Admin {
    /// What this node shows of itself when peers ask how it is, as JSON.
    pub(super) fn shown_to_peers(member: Member, metrics: &crate::metrics::Metrics) -> Vec<u8> {
        let shown = Shown {
            member,
            since_ms: Some(metrics.since_ms),
            served: Some(metrics.served.figures()),
        };
        serde_json::to_vec(&shown).expect("a member's line has a JSON form")
    }

    pub(super) fn upgrade(&self) -> Upgrade {
        let (log, view) = (self.log.status(), self.log.cluster());
        let own = self.own_line(&view);
        let (since_ms, served) = (Some(self.metrics.since_ms), Some(self.metrics.served.figures()));
        let running = |other: &MemberView| {
            let (line, said) = (member_of(other, log.committed), shown(other));
            let (since_ms, served) = said.map_or((None, None), |said| (said.since_ms, said.served));
            Running::new(line, other.speaks, since_ms, served)
        };
        let mut members: Vec<Running> = view.others.iter().map(running).collect();
        members.push(Running::new(own, Some(Speaks::this()), since_ms, served));
        members.sort_by_key(|member| member.id);
        let in_force = level::in_force(&self.ledger);
        let newest = *release::this().levels.end();
        let against = match newest > in_force.level {
            true => against_level(&view, newest),
            false => Vec::new(),
        };
        let mut upgrade = Upgrade {
            level: in_force.level,
            level_since: in_force.since.map(Timestamp::iso),
            level_release: in_force.release,
            newest,
            against,
            next: Vec::new(),
            node: self.config.node.id,
            members,
        };
        upgrade.next = upgrade.next();
        upgrade
    }

    /// Puts the newest level of this node's release in force, if every member speaks it.
    pub(super) async fn finalize(&self, id: RequestId) -> Result<Answer, Refused> {
        let newest = *release::this().levels.end();
        let level = newest.to_string();
        self.record(id, "admin.upgrade.finalize", &level, "asked").await?;
        let raised = self.log.raise_level(newest).await;
        let outcome = if raised.is_ok() { "200" } else { "refused" };
        self.record(id, "admin.upgrade.finalize", &level, outcome).await?;
        raised.map_err(Refused::Cluster)?;
        Ok(Answer::ok(&self.upgrade()))
    }
}

impl Upgrade {
    /// What can be done next.
    fn next(&self) -> Vec<String> {
        let mut next = Vec::new();
        let releases: BTreeSet<&str> = self.members.iter().map(|member| member.release.as_str()).collect();
        let known = || releases.iter().filter(|release| !release.is_empty());
        if known().count() > 1 {
            let names: Vec<&str> = known().copied().collect();
            next.push(format!(
                "members run {}: go on with one after the other, or take the new ones back",
                names.join(" and ")
            ));
        }
        let speaks = self.members.iter().filter_map(|member| member.speaks);
        let newest = speaks.map(|speaks| speaks.newest).max().unwrap_or(self.newest);
        if newest > self.newest {
            next.push(format!(
                "format level {newest} is known to the newer release alone: ask a member that runs it"
            ));
        } else if self.newest <= self.level {
            next.push(format!(
                "format level {} is in force and the newest that this release knows: nothing to finalize",
                self.level
            ));
        } else if self.against.is_empty() {
            next.push(format!(
                "every member speaks format level {newest}: `vertebra upgrade finalize` puts it in force; until then the \
                 release before can come back, afterwards it cannot"
            ));
        } else {
            next.push(format!("format level {newest} waits; the release before can come back"));
        }
        next
    }
}

/// A cluster on its way, for tests.
#[cfg(test)]
pub(crate) fn example() -> Upgrade {
    let running = |id: u64, name: &str, release: &str, speaks: Option<Speaks>| Running {
        id,
        name: name.to_owned(),
        site: "north".to_owned(),
        role: if speaks.is_some() { "follower" } else { "unreachable" }.to_owned(),
        release: release.to_owned(),
        speaks,
        since: speaks.map(|_| "2026-11-27T03:00:00.000Z".to_owned()),
        served: None,
    };
    let (old, new) = (Speaks::default(), Speaks { oldest: 1, newest: 2 });
    let mut upgrade = Upgrade {
        level: 1,
        level_since: None,
        level_release: String::new(),
        newest: 2,
        against: Vec::new(),
        next: Vec::new(),
        node: 1,
        members: vec![
            running(1, "n1", "7.1", Some(new)),
            running(2, "n2", "7.0", Some(old)),
            running(3, "w1", "", None),
        ],
    };
    upgrade.next = upgrade.next();
    upgrade
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_be_done_next_follows_from_who_runs_what() {
        let mixed = example();
        assert!(mixed.next[0].contains("members run 7.0 and 7.1"), "{:?}", mixed.next);
        assert!(
            mixed.next[1].contains("`vertebra upgrade finalize`"),
            "{:?}",
            mixed.next
        );
        let waits = Upgrade {
            against: vec!["n2 is old".to_owned()],
            ..mixed.clone()
        };
        assert!(waits.next()[1].contains("waits"));
        let asked_the_old_one = Upgrade {
            newest: 1,
            ..mixed.clone()
        };
        assert!(asked_the_old_one.next()[1].contains("ask a member that runs it"));
        let done = Upgrade {
            level: 2,
            members: mixed.members[..1].to_vec(),
            ..mixed
        };
        assert_eq!(done.next().len(), 1);
        assert!(done.next()[0].contains("nothing to finalize"));
    }

    #[test]
    fn a_line_of_the_first_release_is_read_too() {
        let line = json!({"id": 1, "name": "n", "site": "s", "role": "leader", "release": "0.1.0", "applied": 1, "lag": 0,
                          "fsync_us": 1, "fsync_us_mean": 1, "disk_free_bytes": 1, "disk_bytes": 1, "certificate_days": 1});
        let shown: Shown = serde_json::from_value(line).expect("it is read");
        assert_eq!((shown.member.id, shown.since_ms, shown.served), (1, None, None));
    }
}
