//! Random commands, judged by the rules over the real ledger and by the model; every answer and every question compared.
//! `MESH_SEEDS` runs more seeds; a failure prints its own.

use super::super::planted::{Planted, with};
use super::model::Model;
use super::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const STEPS: usize = 250;
const MAILBOXES: [&str; 4] = ["A", "AB", "B", "Z"];
const WORKFLOWS: [&str; 3] = ["W", "WX", "V"];
const LOCAL_IDS: [&str; 2] = ["order 1", "order 2"];
const CONTENTS: [&str; 3] = ["one", "two and", "three, too"];

struct Run {
    world: World,
    model: Model,
    rng: StdRng,
    log: Vec<(At, Command)>,
    tokens: Vec<Nonce>,
    /// Every kind of answer that came.
    answers: BTreeSet<String>,
}

/// Runs one seed; the first difference ends it.
fn run(seed: u64) -> Result<Run, String> {
    let mut run = Run {
        world: World::new(),
        model: Model::default(),
        rng: StdRng::seed_from_u64(seed),
        log: Vec::new(),
        tokens: Vec::new(),
        answers: BTreeSet::new(),
    };
    let said = |what: String, step: usize| format!("seed {seed}, step {step}: {what}");
    run.start().map_err(|what| said(what, 0))?;
    for step in 0..STEPS {
        run.step().map_err(|what| said(what, step))?;
        if step % 25 == 0 || step == STEPS - 1 {
            run.compare().map_err(|what| said(what, step))?;
        }
        if step % 60 == 59 {
            run.world.checkpoint();
        }
    }
    run.end().map_err(|what| said(what, STEPS))?;
    Ok(run)
}

impl Run {
    fn start(&mut self) -> Result<(), String> {
        for name in &MAILBOXES[..3] {
            self.apply(Command::PutMailbox(mailbox(name, "X26")))?;
        }
        self.apply(Command::PutWorkflow(workflow_of("V", &["A", "B"], &["AB", "B"])))
    }

    fn apply(&mut self, command: Command) -> Result<(), String> {
        let outcome = self.world.apply(&command);
        let at = self.world.at;
        let expected = self.model.apply(at, &command);
        self.log.push((at, command));
        self.answers.insert(match &outcome {
            Outcome::Sent { repeated, .. } => format!("sent, repeated {repeated}"),
            Outcome::Done | Outcome::Swept { .. } | Outcome::Refused(_) => format!("{outcome:?}"),
        });
        same("outcome", &outcome, &expected)?;
        same("holds", &self.world.faults, &Vec::new())
    }

    fn step(&mut self) -> Result<(), String> {
        self.pass_time();
        match self.rng.random_range(0..100) {
            0..34 => {
                let command = self.send();
                self.apply(command)
            }
            34..58 => {
                let command = self.send_chunk();
                self.apply(command)
            }
            58..74 => {
                let command = Command::Acknowledge {
                    nonce: self.token(),
                    mailbox: self.mailbox(),
                    message: self.message(),
                };
                self.apply(command)
            }
            74..77 => {
                let nonce = self.token();
                self.apply(Command::Spend { nonce })
            }
            77..79 => {
                let command = Command::Handshake {
                    nonce: self.token(),
                    mailbox: self.mailbox(),
                    client: "client".to_owned(),
                };
                self.apply(command)
            }
            79..82 => {
                let name = MAILBOXES[..3].choose(&mut self.rng).expect("not empty");
                let changed = Mailbox {
                    active: self.rng.random_bool(0.9),
                    safe_retry: self.rng.random_bool(0.8),
                    ..mailbox(name, "X26")
                };
                self.apply(Command::PutMailbox(changed))
            }
            82..86 => {
                let all = [
                    Status::Uploading,
                    Status::Accepted,
                    Status::Acknowledged,
                    Status::Undeliverable,
                    Status::Error,
                ];
                let command = Command::AddEvent {
                    message: self.message(),
                    status: *all.choose(&mut self.rng).expect("not empty"),
                    code: None,
                    event: None,
                    description: None,
                    linked: None,
                };
                self.apply(command)
            }
            86 if self.rng.random_bool(0.3) => {
                let mailbox = self.rng.random_bool(0.8).then(|| self.mailbox());
                self.apply(Command::Reset { mailbox })
            }
            _ => self.sweep(),
        }
    }

    /// Mostly little; sometimes to the very moment, or the one before, at which something is due.
    fn pass_time(&mut self) {
        let now = self.world.at.time;
        let ms = match self.rng.random_range(0..40) {
            0 => self.rng.random_range(0..3 * 3600 * 1000),
            1 => SAFE_RETRY_MS - self.rng.random_range(0..2),
            2..6 => {
                let moments: Vec<u64> = self
                    .model
                    .messages
                    .iter()
                    .flat_map(|message| [message.expires, message.arrived.plus_ms(PURGE_MS)])
                    .map(|moment| moment.since_ms(now))
                    .filter(|&ms| ms > 0)
                    .collect();
                moments
                    .choose(&mut self.rng)
                    .map_or(0, |ms| ms - self.rng.random_range(0..2))
            }
            _ => self.rng.random_range(0..3000),
        };
        self.world.pass(ms);
    }

    fn sweep(&mut self) -> Result<(), String> {
        let mut reached: Vec<(u64, Vec<MessageId>)> = Vec::new();
        loop {
            let messages_max = self.rng.random_range(1..12);
            let command = Command::Sweep { messages_max };
            let before: BTreeSet<MessageId> = self.reports().into_iter().collect();
            let outcome = self.world.apply(&command);
            self.log.push((self.world.at, command));
            let new = self.reports().into_iter().filter(|id| !before.contains(id)).collect();
            reached.push((self.world.at.index, new));
            let Outcome::Swept { messages } = outcome else {
                return Err(format!("swept, not {outcome:?}"));
            };
            if messages < messages_max {
                break;
            }
        }
        let sequence_of = |id: &MessageId| match message(&self.world.ledger, id) {
            Some(report) => report.sequence,
            None => 0,
        };
        let mut sequence = sequence_of;
        self.model.sweep(self.world.at.time, &mut sequence);
        same(
            "due after a sweep",
            &sweep_due(&self.world.ledger, self.world.at.time),
            &false,
        )?;
        // The index that the rules gave a report is that of the command that made it.
        for (index, reports) in reached {
            for id in reports {
                let found = sequence_of(&id) / SEQUENCES_PER_COMMAND;
                same("the command of a report", &found, &index)?;
            }
        }
        same("holds", &self.world.faults, &Vec::new())
    }

    fn reports(&self) -> Vec<MessageId> {
        MAILBOXES
            .iter()
            .flat_map(|mailbox| self.world.inbox(mailbox))
            .filter(|id| self.world.message(id).report)
            .collect()
    }

    fn token(&mut self) -> Nonce {
        if self.rng.random_bool(0.05)
            && let Some(nonce) = self.tokens.choose(&mut self.rng)
        {
            return nonce.clone();
        }
        let late_ms = if self.rng.random_bool(0.1) { 4 * 3600 * 1000 } else { 0 };
        let age_ms = self.rng.random_range(0..TOKEN_MS + late_ms);
        let mut nonce = self.world.nonce();
        nonce.stamped = nonce.stamped.minus_ms(age_ms);
        self.tokens.push(nonce.clone());
        nonce
    }

    fn mailbox(&mut self) -> MailboxId {
        let likely = if self.rng.random_bool(0.95) { 3 } else { 4 };
        id(MAILBOXES[..likely].choose(&mut self.rng).expect("not empty"))
    }

    fn body(&mut self) -> Body {
        let content = CONTENTS.choose(&mut self.rng).expect("not empty");
        if self.rng.random_bool(0.7) {
            return inline(content);
        }
        let age_ms = match self.rng.random_range(0..8) {
            0 => UPLOAD_LEASE_MS,
            1 => UPLOAD_LEASE_MS - 1,
            _ => self.rng.random_range(0..UPLOAD_LEASE_MS),
        };
        upload(content, 40_000, self.world.at.time.minus_ms(age_ms), self.rng.random())
    }

    fn send(&mut self) -> Command {
        let mut metadata = metadata(WORKFLOWS.choose(&mut self.rng).expect("not empty"), None);
        if self.rng.random_bool(0.7) {
            metadata.local_id = LOCAL_IDS.choose(&mut self.rng).map(|text| text.to_string());
        }
        if self.rng.random_bool(0.1) {
            metadata.subject = Some("another subject".to_owned());
        }
        let chunks = if self.rng.random_bool(0.5) {
            1
        } else {
            self.rng.random_range(2..4)
        };
        let (sender, recipient) = (self.mailbox(), self.mailbox());
        let body = self.body();
        send(
            self.token(),
            sender.as_str(),
            recipient.as_str(),
            &metadata,
            chunks,
            body,
        )
    }

    fn send_chunk(&mut self) -> Command {
        let message = match self
            .model
            .messages
            .iter()
            .filter(|message| message.chunks > 1)
            .collect::<Vec<_>>()
            .choose(&mut self.rng)
        {
            Some(chosen) if self.rng.random_bool(0.9) => chosen.id.clone(),
            _ => self.message(),
        };
        let found = self.model.messages.iter().find(|other| other.id == message);
        let sender = found.and_then(|found| found.sender.clone());
        let total = found.map_or(3, |found| found.chunks);
        let sender = match sender {
            Some(sender) if self.rng.random_bool(0.95) => id(&sender),
            _ => self.mailbox(),
        };
        let chunks = if self.rng.random_bool(0.97) { total } else { total + 1 };
        let chunk = self
            .rng
            .random_range(0..=total + 1)
            .max(u32::from(self.rng.random_bool(0.9)));
        let body = self.body();
        let mut command = send_chunk(self.token(), sender.as_str(), &message, chunk, chunks, body);
        if let Command::SendChunk { content_encoding, .. } = &mut command
            && self.rng.random_bool(0.03)
        {
            *content_encoding = Some("gzip".to_owned());
        }
        command
    }

    /// Mostly one that exists.
    fn message(&mut self) -> MessageId {
        let exists = self
            .model
            .messages
            .choose(&mut self.rng)
            .map(|message| message.id.clone());
        match exists {
            Some(message) if self.rng.random_bool(0.95) => message,
            _ => MessageId::new(START, self.rng.random_range(0..500)),
        }
    }

    /// Every question, for every mailbox and message.
    fn compare(&mut self) -> Result<(), String> {
        same("what is held", &self.world.held, &self.model.held())?;
        for name in MAILBOXES {
            self.compare_mailbox(name)?;
        }
        for message in &self.model.messages {
            self.compare_message(message)?;
        }
        let ledger = &self.world.ledger;
        for nonce in &self.tokens {
            // A token may have been dropped with its hour; one that is known was spent.
            let known = spent(ledger, nonce);
            let used = self.log.iter().any(|(_, command)| command.nonce() == Some(nonce));
            same("a token that nobody used is not spent", &(known && !used), &false)?;
        }
        Ok(())
    }

    fn compare_mailbox(&mut self, name: &str) -> Result<(), String> {
        let ledger = &self.world.ledger;
        let mailbox = id(name);
        let waiting = self.model.inbox(name);
        let ids: Vec<MessageId> = waiting.iter().map(|message| message.id.clone()).collect();
        same("inbox", &self.world.inbox(name), &ids)?;
        let oldest = waiting.first().map(|message| message.expires.minus_ms(INBOX_MS));
        same("depth", &inbox_depth(ledger, &mailbox), &(waiting.len() as u64, oldest))?;

        let (negated, text) = (
            self.rng.random_bool(0.5),
            ["W", "X", "V"].choose(&mut self.rng).expect("not empty").to_string(),
        );
        let pattern = match self.rng.random_range(0..3) {
            0 => Pattern::Equals(text.clone()),
            1 => Pattern::StartsWith(text.clone()),
            _ => Pattern::Contains(text.clone()),
        };
        let fits = |workflow: &str| {
            let found = match &pattern {
                Pattern::Equals(_) => workflow == text,
                Pattern::StartsWith(_) => workflow.find(&text) == Some(0),
                Pattern::Contains(_) => workflow.contains(&text),
            };
            found ^ negated
        };
        let expected: Vec<MessageId> = waiting
            .iter()
            .filter(|message| fits(&message.metadata.workflow))
            .map(|message| message.id.clone())
            .collect();
        let filter = WorkflowFilter { negated, pattern };
        let (max, scan_max) = (self.rng.random_range(1..5), self.rng.random_range(1..8));
        let mut paged = Vec::new();
        let mut after = 0;
        loop {
            let page = inbox(ledger, &mailbox, after, max, Some(&filter), scan_max);
            if page.messages.len() > max {
                return Err("a page longer than asked for".to_owned());
            }
            paged.extend(page.messages);
            match page.next_after {
                Some(next) if next > after => after = next,
                Some(_) => return Err("a page that leads nowhere".to_owned()),
                None => break,
            }
        }
        same("filtered pages", &paged, &expected)?;

        let ids =
            |messages: Vec<Message>| -> Vec<MessageId> { messages.into_iter().map(|message| message.id).collect() };
        let theirs = self
            .model
            .by_time(|message| Model::is_received(message) && message.recipient == name);
        same("received", &ids(received(ledger, &mailbox, START, None, 9999)), &theirs)?;
        let theirs = self.model.by_time(|message| message.sender.as_deref() == Some(name));
        same("sent", &ids(sent(ledger, &mailbox, START, None, 9999)), &theirs)?;
        for local_id in LOCAL_IDS {
            let mut theirs = self.model.by_time(|message| {
                message.sender.as_deref() == Some(name) && message.metadata.local_id.as_deref() == Some(local_id)
            });
            theirs.reverse();
            same("by local id", &by_local_id(ledger, &mailbox, local_id, 9999), &theirs)?;
        }
        Ok(())
    }

    fn compare_message(&self, theirs: &super::model::ModelMessage) -> Result<(), String> {
        let ledger = &self.world.ledger;
        let Some(ours) = message(ledger, &theirs.id) else {
            return Err(format!("{} is lost", theirs.id));
        };
        same("status", &ours.status(), &theirs.status)?;
        same("sequence", &ours.sequence, &theirs.sequence)?;
        same("metadata", &ours.metadata, &theirs.metadata)?;
        same(
            "times",
            &(ours.created, ours.expires),
            &(theirs.created, theirs.expires),
        )?;
        same("bytes", &ours.bytes, &theirs.bytes())?;
        same("report", &ours.report, &theirs.sender.is_none())?;
        if let Some(linked) = &theirs.linked {
            let found = ours.events.iter().find_map(|event| event.linked.clone());
            same("linked", &found, &Some(linked.to_string()))?;
        }
        for number in 0..=theirs.chunks + 1 {
            let found = chunk(ledger, &theirs.id, number).map(|stored| match stored {
                Stored::Entry { index, .. } => Held::Entry(index),
                Stored::Upload(manifest) => Held::Upload(manifest.upload),
            });
            same("chunk", &found, &theirs.stored(number))?;
        }
        Ok(())
    }

    /// Long after, nothing is left of any message.
    fn end(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.world.pass(PURGE_MS + INBOX_MS);
            self.sweep()?;
        }
        self.compare()?;
        same("messages at the end", &self.model.messages.len(), &0)?;
        let about_mailboxes = 10..=14;
        let depths = super::super::tables::DEPTHS.id;
        let mut left = self.world.dump();
        left.retain(|(table, _, _)| !about_mailboxes.contains(&table.id) && table.id != depths);
        same("entries at the end", &left.len(), &0)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, expected: &T) -> Result<(), String> {
    match ours == expected {
        true => Ok(()),
        false => Err(format!("{what}: {ours:?}, the model says {expected:?}")),
    }
}

fn seeds() -> u64 {
    std::env::var("MESH_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(40)
}

#[test]
fn random_commands_are_judged_as_the_model_judges_them() {
    let mut answers = BTreeSet::new();
    for seed in 0..seeds() {
        match run(seed) {
            Ok(run) => answers.extend(run.answers),
            Err(what) => panic!("{what}"),
        }
    }
    // Done, sent, sent again, and every refusal but the one that takes 100 GiB.
    assert_eq!(answers.len(), 3 + 13, "not every answer came: {answers:?}");
}

#[test]
fn the_same_commands_give_the_same_state_byte_for_byte() {
    for seed in 1000..1005 {
        let first = run(seed).unwrap_or_else(|what| panic!("{what}"));
        let mut second = World::new();
        for (at, command) in &first.log {
            second.at = At {
                index: at.index - 1,
                time: at.time,
            };
            second.apply(command);
        }
        // The first was checkpointed on the way, the second never: neither shows in the state.
        assert_eq!(first.world.dump(), second.dump(), "seed {seed}");
        assert_eq!(first.world.held, second.held, "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let all = [
        Planted::ReplayAccepted,
        Planted::RetryIgnoresContent,
        Planted::AcknowledgeKeepsBody,
        Planted::AcknowledgeStaysInInbox,
        Planted::DoubleRelease,
        Planted::ExpiryWithoutReport,
        Planted::ExpiryEarly,
        Planted::PurgeLeavesIndex,
    ];
    for bug in all {
        let caught = (0..40).find_map(|seed| {
            let result = with(bug, || std::panic::catch_unwind(|| run(seed).err()));
            match result {
                Ok(what) => what,
                Err(_) => Some("an assertion of the rules themselves".to_owned()),
            }
        });
        assert!(caught.is_some(), "{bug:?} is not caught");
    }
}
