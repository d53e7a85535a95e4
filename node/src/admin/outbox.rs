//! Events as operators see them: switched on and off, what waits, what was parked. Identifiers of events alone are shown,
//! never whom they are about.

use super::directory::{malformed, page, parse};
use super::{Admin, Answer, Refused, query_value};
use crate::base::RequestId;
use crate::outbox::command::{BYTES_MAX, BYTES_MIN, Bounds, Command, EVENTS_MAX, EVENTS_MIN, NAMED_MAX, Outcome};
use crate::outbox::event::Position;
use crate::outbox::{Phase, state};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A broker that is away, or an event that waits, for longer than this is worth a look, s.
const AWAY_SECONDS: u64 = 30;

/// What an operator sees of events; part of `status` too. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsView {
    /// Events are written.
    pub on: bool,
    /// Nobody has switched them on or off yet.
    pub undecided: bool,
    /// Events that wait.
    pub waiting: u64,
    /// Their bytes in the ledger.
    pub waiting_bytes: u64,
    /// Age of the oldest of them, s.
    pub oldest_seconds: u64,
    /// How many may wait.
    pub events_max: u64,
    /// How many bytes they may take.
    pub bytes_max: u64,
    /// Events missing in the gap that subscribers are yet to be told of; absent without a gap.
    pub gap_events: Option<u64>,
    /// Events that ever went into a gap.
    pub dropped: u64,
    /// Parked events.
    pub parked: u64,
    /// Parked events that were lost because too many were.
    pub parked_lost: u64,
    /// `none` without a broker in this node's configuration, else what its publisher does: `idle`, `connecting`,
    /// `publishing`, `blocked`.
    pub broker: String,
    /// For how long, s.
    pub broker_seconds: u64,
    /// Why the last connection was lost; empty when none was.
    pub broker_fault: String,
    /// What somebody should look at, one sentence each. No part of whether the node is healthy: clients are served without
    /// a broker, and a node must not be restarted or rolled back for want of one.
    pub worries: Vec<String>,
}

/// A parked event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedView {
    /// By which it is put back or removed.
    pub position: String,
    /// CloudEvents `id`.
    pub id: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// `unroutable` or `refused`.
    pub reason: String,
    /// When it happened, ISO.
    pub at: String,
    /// When it was parked, ISO.
    pub since: String,
}

/// Switches events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// On or off; off drops what waits.
    pub on: bool,
    /// How many may wait; what is left out stays, or takes its default of ten million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_max: Option<u64>,
    /// How many bytes they may take; what is left out stays, or takes its default of 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
}

/// Which parked events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Their positions, at most a thousand; empty: the first thousand.
    #[serde(default)]
    pub positions: Vec<String>,
}

fn positions(named: &Named) -> Result<Vec<Position>, Refused> {
    if named.positions.len() > NAMED_MAX {
        return Err(malformed(format!("name at most {NAMED_MAX} events at once")));
    }
    let parsed = named.positions.iter().map(|text| {
        Position::parse(text).ok_or_else(|| malformed("a position is the one that the list of parked events shows"))
    });
    parsed.collect()
}

impl EventsView {
    /// What is worth a look on the node that leads.
    fn worries(&self, configured: bool) -> Vec<String> {
        let mut worries = Vec::new();
        if !self.on {
            return worries;
        }
        if !configured {
            let what = "events are switched on and this node has no [rabbitmq]: they wait up to their bound; configure it, or \
                        run `vertebra events off`";
            worries.push(what.to_owned());
        }
        let away = self.broker != Phase::Publishing.text() && self.broker_seconds >= AWAY_SECONDS;
        if configured && (away || self.oldest_seconds >= AWAY_SECONDS) {
            worries.push(format!(
                "RabbitMQ takes no events ({}): {} wait, the oldest for {} s; clients are not affected",
                self.broker, self.waiting, self.oldest_seconds
            ));
        }
        if self.gap_events.is_some_and(|events| events > 0) {
            worries.push("the outbox was at its bound: events are missing, subscribers are yet to be told".to_owned());
        }
        if self.parked > 0 {
            worries.push(format!(
                "{} events are parked; see `vertebra events parked`",
                self.parked
            ));
        }
        worries
    }
}

impl Admin {
    /// Events now; `leader`: this node leads.
    pub(super) fn events_view(&self, leader: bool) -> EventsView {
        let decided = state::meter(&self.ledger);
        let meter = decided.unwrap_or_default();
        let left_upto = self.events.as_ref().and_then(|figures| *figures.left_upto.lock());
        let oldest = state::rows(&self.ledger, left_upto, 1).pop();
        let now = self.log.time();
        let (broker, broker_seconds, broker_fault) = match &self.events {
            None => ("none".to_owned(), 0, String::new()),
            Some(figures) => {
                let (phase, seconds) = figures.phase();
                (phase.text().to_owned(), seconds, figures.last_fault.lock().clone())
            }
        };
        let mut view = EventsView {
            on: meter.on,
            undecided: decided.is_none(),
            waiting: meter.events,
            waiting_bytes: meter.bytes,
            oldest_seconds: oldest.map_or(0, |(_, row)| now.since_ms(row.at) / 1_000),
            events_max: meter.bounds.events_max,
            bytes_max: meter.bounds.bytes_max,
            gap_events: state::gap(&self.ledger).map(|gap| gap.events),
            dropped: meter.dropped,
            parked: meter.parked,
            parked_lost: meter.parked_lost,
            broker,
            broker_seconds,
            broker_fault,
            worries: Vec::new(),
        };
        if leader {
            view.worries = view.worries(self.events.is_some());
        }
        view
    }

    pub(super) fn events(&self) -> Answer {
        Answer::ok(&self.events_view(self.log.status().leader))
    }

    pub(super) async fn switch_events(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let switch: Switch = parse(body)?;
        let before = state::meter(&self.ledger).unwrap_or_default().bounds;
        let bounds = Bounds {
            events_max: switch.events_max.unwrap_or(before.events_max),
            bytes_max: switch.bytes_max.unwrap_or(before.bytes_max),
        };
        if !(EVENTS_MIN..=EVENTS_MAX).contains(&bounds.events_max) {
            return Err(malformed(format!("events_max is {EVENTS_MIN} to {EVENTS_MAX}")));
        }
        if !(BYTES_MIN..=BYTES_MAX).contains(&bounds.bytes_max) {
            return Err(malformed(format!("bytes_max is {BYTES_MIN} to {BYTES_MAX}")));
        }
        let (command, action) = match switch.on {
            true => (
                Command::On {
                    bounds,
                    unless_decided: false,
                },
                "admin.events.on",
            ),
            false => (Command::Off, "admin.events.off"),
        };
        self.propose_events(&command).await?;
        self.record(id, action, "events", "200").await?;
        Ok(self.events())
    }

    pub(super) fn parked_events(&self, query: &str) -> Result<Answer, Refused> {
        let max = page(query)?;
        let after = match query_value(query, "after") {
            None => None,
            Some(text) => Some(Position::parse(&text).ok_or_else(|| malformed("after is a position"))?),
        };
        let found = state::parked(&self.ledger, after, max);
        let next_after = (found.len() == max).then(|| found.last().map(|(position, _)| position.text()));
        let views: Vec<ParkedView> = found
            .iter()
            .map(|(position, parked)| {
                let published = parked.row.published(*position);
                ParkedView {
                    position: position.text(),
                    id: published.id,
                    kind: published.kind.to_owned(),
                    reason: parked.reason.text().to_owned(),
                    at: parked.row.at.iso(),
                    since: parked.since.iso(),
                }
            })
            .collect();
        Ok(Answer::ok(
            &json!({ "parked": views, "next_after": next_after.flatten() }),
        ))
    }

    pub(super) async fn requeue_events(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let positions = positions(&parse(body)?)?;
        self.change_parked(Command::Requeue { positions }, "admin.events.requeue", id)
            .await
    }

    pub(super) async fn discard_events(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let positions = positions(&parse(body)?)?;
        self.change_parked(Command::Discard { positions }, "admin.events.discard", id)
            .await
    }

    async fn change_parked(&self, command: Command, action: &str, id: RequestId) -> Result<Answer, Refused> {
        let rows = self.propose_events(&command).await?;
        self.record(id, action, "events", "200").await?;
        Ok(Answer::ok(&json!({ "events": rows })))
    }

    /// Proposes; gives how many rows it touched.
    async fn propose_events(&self, command: &Command) -> Result<u64, Refused> {
        let applied = self.log.propose(command.encode()).await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Done { rows }) => Ok(rows),
            Ok(Outcome::SwitchedOff) => Err(Refused::Judged("events are switched off")),
            Err(cause) => {
                tracing::error!(%cause, "a change of events was answered with what is no outcome");
                Err(Refused::Failed)
            }
        }
    }
}
