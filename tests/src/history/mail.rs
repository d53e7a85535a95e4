//! A mailbox as the set of its messages and what became of each: not there yet, waiting, acknowledged, in that order only.

use porcupine_rs::Model;

/// What was done with a mailbox. Messages are numbered by the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailOp {
    /// Sent, `true`: and accepted.
    Send {
        /// Message.
        message: usize,
        /// Whether there was an answer.
        answered: bool,
    },
    /// The inbox was listed, all of it.
    List {
        /// Messages, as listed.
        waiting: Vec<usize>,
        /// Listed messages that nobody sent, or the second of two with one content.
        strangers: usize,
    },
    /// Downloaded.
    Download {
        /// Message.
        message: usize,
        /// What came.
        got: Got,
    },
    /// Acknowledged.
    Acknowledge {
        /// Message.
        message: usize,
        /// Whether there was an answer.
        answered: bool,
    },
}

/// What came of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// The bytes that were sent.
    Content,
    /// Other bytes.
    Other,
    /// 410: it was acknowledged.
    Gone,
    /// 404: there is no such message.
    Missing,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Not there.
    Absent,
    /// In the inbox.
    Waiting,
    /// Collected.
    Acknowledged,
}

/// The model: the fate of each message of one mailbox, by its number.
#[derive(Clone, Debug)]
pub struct Mail;

fn fate(state: &[Fate], message: usize) -> Fate {
    state.get(message).copied().unwrap_or(Fate::Absent)
}

fn with(state: &[Fate], message: usize, fate: Fate) -> Vec<Fate> {
    let mut state = state.to_vec();
    if state.len() <= message {
        state.resize(message + 1, Fate::Absent);
    }
    state[message] = fate;
    state
}

impl Model for Mail {
    type State = Vec<Fate>;
    type Op = (u32, MailOp);
    type Metadata = ();

    fn init() -> Self::State {
        Vec::new()
    }

    fn step(state: &Self::State, (_, op): &Self::Op) -> (bool, Self::State) {
        match op {
            // A send that is repeated is one operation here, whatever was answered in between: it happens once.
            MailOp::Send { message, .. } => match fate(state, *message) {
                Fate::Absent => (true, with(state, *message, Fate::Waiting)),
                Fate::Waiting | Fate::Acknowledged => (false, state.clone()),
            },
            MailOp::List { waiting, strangers } => {
                let all = state.iter().enumerate();
                let expected: Vec<usize> = all
                    .filter(|(_, fate)| **fate == Fate::Waiting)
                    .map(|(at, _)| at)
                    .collect();
                let mut listed = waiting.clone();
                listed.sort_unstable();
                (*strangers == 0 && listed == expected, state.clone())
            }
            MailOp::Download { message, got } => {
                let right = match got {
                    Got::Content => Fate::Waiting,
                    Got::Gone => Fate::Acknowledged,
                    Got::Missing => Fate::Absent,
                    Got::Other => return (false, state.clone()),
                };
                (fate(state, *message) == right, state.clone())
            }
            MailOp::Acknowledge { message, answered } => match fate(state, *message) {
                Fate::Waiting | Fate::Acknowledged => (true, with(state, *message, Fate::Acknowledged)),
                // Without an answer it may come last of all, or never have reached anybody.
                Fate::Absent => (!answered, state.clone()),
            },
        }
    }
}
