//! The outbox against a plain list that does the same, its bound, its formats.

use super::command::{Bounds, Command, Outcome, Reason};
use super::event::{Event, GapCause, Position, resync};
use super::state::{self, PARKED_MAX, emit};
use crate::base::{NhsNumber, Timestamp};
use crate::ledger::{Ledger, Writer};
use crate::log::At;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A ledger that is removed with its owner, and a log that only counts.
struct Outbox {
    ledger: Ledger,
    folder: PathBuf,
    index: u64,
}

impl Outbox {
    fn new() -> Outbox {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vertebra-outbox-{}-{count}", std::process::id()));
        let (ledger, _) = Ledger::open(&folder, 256 * 1024 * 1024).expect("a fresh folder");
        Outbox {
            ledger,
            folder,
            index: 0,
        }
    }

    fn switched_on(events_max: u64) -> Outbox {
        let mut outbox = Outbox::new();
        outbox.on(events_max);
        outbox
    }

    fn on(&mut self, events_max: u64) {
        let bounds = Bounds {
            events_max,
            ..Bounds::default()
        };
        self.judge(Command::On {
            bounds,
            unless_decided: false,
        });
    }

    /// One command, by what it does to the ledger.
    fn command<T>(&mut self, write: impl FnOnce(&mut Writer<'_>, At) -> T) -> T {
        self.index += 1;
        let at = At {
            index: self.index,
            time: Timestamp::from_ms(1_000_000 + self.index),
        };
        let mut writer = self.ledger.writer();
        let written = write(&mut writer, at);
        writer.commit();
        written
    }

    fn judge(&mut self, command: Command) -> Outcome {
        self.command(|writer, at| state::apply(writer, at, command))
    }

    /// A command that makes so many events.
    fn emit(&mut self, events: u32) {
        self.command(|writer, at| {
            for n in 0..events {
                let (mailbox, message) = (format!("MB{}", n % 3), format!("{}-{n}", at.index));
                emit(writer, at, Event::MessageArrived { mailbox, message });
            }
        });
    }

    fn positions(&self) -> Vec<Position> {
        let rows = state::rows(&self.ledger, None, usize::MAX);
        rows.into_iter().map(|(position, _)| position).collect()
    }

    /// The meter says what there is.
    fn check(&self) {
        let Some(meter) = state::meter(&self.ledger) else {
            return;
        };
        let rows = state::rows(&self.ledger, None, usize::MAX);
        assert_eq!(meter.events, rows.len() as u64);
        assert_eq!(meter.parked, state::parked(&self.ledger, None, usize::MAX).len() as u64);
        assert!(meter.events <= meter.bounds.events_max && meter.bytes <= meter.bounds.bytes_max);
        if let (Some(gap), Some((first, _))) = (state::gap(&self.ledger), rows.first()) {
            assert!(gap.last < *first, "the gap lies before every row");
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn at(index: u64, ordinal: u32) -> Position {
    Position { index, ordinal }
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("an event is JSON")
}

#[test]
fn nothing_is_written_until_events_are_switched_on_and_nothing_stays_when_they_are_off() {
    let mut outbox = Outbox::new();
    outbox.emit(3);
    assert!(outbox.positions().is_empty() && state::meter(&outbox.ledger).is_none());
    outbox.on(1_000);
    outbox.emit(2);
    outbox.emit(1);
    assert_eq!(outbox.positions(), [at(3, 0), at(3, 1), at(4, 0)]);
    let gap = state::gap(&outbox.ledger).expect("subscribers have seen nothing of what was before");
    assert_eq!((gap.cause, gap.events, gap.last), (GapCause::SwitchedOn, 0, at(2, 0)));
    outbox.check();
    assert_eq!(outbox.judge(Command::Off), Outcome::Done { rows: 3 });
    outbox.emit(1);
    outbox.check();
    assert!(outbox.positions().is_empty() && state::gap(&outbox.ledger).is_none());
    // A node with a broker asks for it again, and is not heard: somebody has decided.
    outbox.judge(Command::On {
        bounds: Bounds::default(),
        unless_decided: true,
    });
    outbox.emit(1);
    assert!(outbox.positions().is_empty());
    outbox.on(1_000);
    outbox.emit(1);
    assert_eq!(outbox.positions().len(), 1);
    assert!(
        state::gap(&outbox.ledger).is_some(),
        "what happened in between is missing"
    );
}

#[test]
fn a_watermark_deletes_what_was_confirmed_and_a_late_one_does_no_harm() {
    let mut outbox = Outbox::switched_on(1_000);
    for _ in 0..5 {
        outbox.emit(2);
    }
    let confirmed = |upto| Command::Confirmed {
        upto,
        parked: Vec::new(),
    };
    assert_eq!(outbox.judge(confirmed(at(3, 0))), Outcome::Done { rows: 3 });
    assert!(
        state::gap(&outbox.ledger).is_none(),
        "the resync event was confirmed too"
    );
    assert_eq!(outbox.positions()[0], at(3, 1));
    assert_eq!(outbox.judge(confirmed(at(2, 1))), Outcome::Done { rows: 0 });
    outbox.check();
    assert_eq!(outbox.judge(confirmed(at(u64::MAX, 0))), Outcome::Done { rows: 7 });
    outbox.check();
    let meter = state::meter(&outbox.ledger).expect("switched on");
    assert_eq!((meter.events, meter.bytes), (0, 0));
}

#[test]
fn at_the_bound_the_oldest_become_one_gap_and_one_resync() {
    let mut outbox = Outbox::switched_on(160);
    outbox.judge(Command::Confirmed {
        upto: at(1, 0),
        parked: Vec::new(),
    });
    let mut made = 0;
    while made < 1_000 {
        outbox.emit(7);
        made += 7;
        outbox.check();
    }
    let gap = state::gap(&outbox.ledger).expect("a thousand do not fit");
    let rows = outbox.positions();
    assert_eq!(
        gap.events + rows.len() as u64,
        made,
        "nothing is lost that is not counted"
    );
    assert_eq!((gap.cause, gap.first), (GapCause::OutboxFull, at(3, 0)));
    assert!(rows.len() >= 150, "no more goes than must: {}", rows.len());
    let told = resync(&gap);
    let body = json(&told.body);
    assert_eq!(body["type"], "events-resync-1");
    assert_eq!(body["data"]["events_missing"], gap.events);
    assert_eq!(body["data"]["cause"], "outbox-full");
    // Nobody was told before: it is still one gap, and gone with the watermark behind it.
    outbox.judge(Command::Confirmed {
        upto: rows[0],
        parked: Vec::new(),
    });
    assert!(state::gap(&outbox.ledger).is_none());
    assert_eq!(state::meter(&outbox.ledger).expect("on").dropped, gap.events);
}

#[test]
fn the_bound_in_bytes_holds_too_and_a_lowered_bound_is_reached() {
    let mut outbox = Outbox::switched_on(1_000_000);
    for _ in 0..40 {
        outbox.emit(100);
    }
    let bounds = Bounds {
        events_max: 1_000_000,
        bytes_max: 64 * 1024,
    };
    outbox.judge(Command::On {
        bounds,
        unless_decided: false,
    });
    for _ in 0..10 {
        outbox.emit(1);
    }
    outbox.check();
    let meter = state::meter(&outbox.ledger).expect("on");
    assert!(meter.bytes <= 64 * 1024 && meter.bytes > 50 * 1024, "{}", meter.bytes);
    assert_eq!(meter.dropped + meter.events, 4_010);
}

#[test]
fn what_is_parked_is_put_back_under_its_own_identifier_or_removed() {
    let mut outbox = Outbox::switched_on(1_000);
    outbox.emit(3);
    let rows = state::rows(&outbox.ledger, None, 10);
    let second = rows[1].1.published(rows[1].0);
    let parked = vec![
        (at(2, 1), Reason::Unroutable),
        (at(2, 2), Reason::Refused),
        (at(9, 9), Reason::Refused),
    ];
    outbox.judge(Command::Confirmed { upto: at(2, 2), parked });
    outbox.check();
    assert!(outbox.positions().is_empty());
    let all = state::parked(&outbox.ledger, None, 10);
    assert_eq!(all.len(), 2, "a row that was never there is not parked");
    assert_eq!((all[0].0, all[0].1.reason), (at(2, 1), Reason::Unroutable));
    let named = |positions| Command::Requeue { positions };
    assert_eq!(outbox.judge(named(vec![at(2, 1), at(7, 7)])), Outcome::Done { rows: 1 });
    let rows = state::rows(&outbox.ledger, None, 10);
    assert_eq!(rows[0].0, at(4, 0));
    assert!(
        rows[0].1.published(rows[0].0) == second,
        "to a subscriber it is the same event"
    );
    assert_eq!(
        outbox.judge(Command::Discard { positions: vec![] }),
        Outcome::Done { rows: 1 }
    );
    outbox.check();
    outbox.judge(Command::Off);
    assert_eq!(outbox.judge(named(vec![])), Outcome::SwitchedOff);
}

#[test]
fn more_parked_events_than_are_kept_push_the_oldest_out_and_are_counted() {
    let mut outbox = Outbox::switched_on(1_000_000);
    let most = u32::try_from(PARKED_MAX).expect("a small number") + 10;
    for _ in 0..most.div_ceil(500) {
        outbox.emit(500);
        let rows = outbox.positions();
        let parked: Vec<_> = rows.iter().map(|&position| (position, Reason::Unroutable)).collect();
        let upto = rows[rows.len() - 1];
        outbox.judge(Command::Confirmed { upto, parked });
    }
    outbox.check();
    let meter = state::meter(&outbox.ledger).expect("on");
    assert_eq!(meter.parked, PARKED_MAX);
    assert_eq!(meter.parked + meter.parked_lost, u64::from(most.div_ceil(500)) * 500);
}

#[test]
fn an_event_is_a_cloud_event_of_identifiers_alone() {
    let number = NhsNumber::parse("9000000009").expect("a number");
    let event = Event::PatientChanged { number, version: 7 };
    let row = state::Row {
        event,
        at: Timestamp::from_ms(1_770_000_000_123),
        origin: None,
    };
    let published = row.published(at(0x4d2, 3));
    let expected = serde_json::json!({
        "specversion": "1.0",
        "id": "00000000000004d2-00000003-019c1c38a47b",
        "source": "/personal-demographics/FHIR/R4",
        "type": "pds-record-change-1",
        "subject": "9000000009",
        "time": "2026-02-02T02:40:00.123Z",
        "datacontenttype": "application/json",
        "partitionkey": "9000000009",
        "sequence": "00000000000004d2-00000003",
        "data": { "nhs_number": "9000000009", "version": 7 },
    });
    assert_eq!(json(&published.body), expected);
    assert_eq!(published.routing_key, "patient.changed");
    assert_eq!(published.id, expected["id"]);
    assert_eq!(
        format!("{:?}", row.event),
        "pds-record-change-1",
        "a log line names nobody"
    );
    let event = Event::MessageExpired {
        mailbox: "X26ABC1".to_owned(),
        message: "20261122150405123456_00002A".to_owned(),
    };
    let published = super::event::published(at(1, 0), row.at, &event);
    assert_eq!(published.routing_key, "message.expired.X26ABC1");
    assert_eq!(
        json(&published.body)["data"],
        serde_json::json!({ "mailbox": "X26ABC1", "message": "20261122150405123456_00002A" })
    );
}

#[test]
fn a_position_survives_its_key_and_its_text() {
    for position in [at(0, 0), at(1, 2), at(u64::MAX, u32::MAX)] {
        assert_eq!(Position::of_key(&position.key()), position);
        assert_eq!(Position::parse(&position.text()), Some(position));
    }
    for text in ["", "-", "1-2", "00000000000004d2-0000000g", "+0000000000004d2-00000000"] {
        assert_eq!(Position::parse(text), None, "{text}");
    }
}

#[test]
fn commands_and_outcomes_have_these_bytes() {
    let golden: [(Command, &str); 5] = [
        (
            Command::On {
                bounds: Bounds {
                    events_max: 300,
                    bytes_max: 70_000,
                },
                unless_decided: true,
            },
            "f8 00 ac02 f0a204 01",
        ),
        (Command::Off, "f8 01"),
        (
            Command::Confirmed {
                upto: at(5, 1),
                parked: vec![(at(4, 0), Reason::Unroutable), (at(5, 0), Reason::Refused)],
            },
            "f8 02 05 01 02 04 00 00 05 00 01",
        ),
        (
            Command::Requeue {
                positions: vec![at(1, 2)],
            },
            "f8 03 01 01 02",
        ),
        (Command::Discard { positions: vec![] }, "f8 04 00"),
    ];
    for (command, text) in golden {
        let bytes = hex::decode(text.replace(' ', "")).expect("hexadecimal");
        assert_eq!(hex::encode(command.encode()), hex::encode(&bytes), "{command:?}");
        assert_eq!(Command::decode(&bytes), Ok(command));
    }
    assert_eq!(hex::encode(Outcome::Done { rows: 300 }.encode()), "f800ac02");
    assert_eq!(hex::encode(Outcome::SwitchedOff.encode()), "f801");
    for wrong in ["", "f8", "f809", "01", "f80100"] {
        assert!(
            Command::decode(&hex::decode(wrong).expect("hexadecimal")).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn rows_gap_and_meter_have_these_bytes() {
    let mut outbox = Outbox::switched_on(300);
    outbox.command(|writer, at| {
        let number = NhsNumber::parse("9000000009").expect("a number");
        emit(writer, at, Event::PatientChanged { number, version: 7 });
    });
    let value = |table: u8, key: &[u8]| {
        use crate::ledger::{Read, Table};
        hex::encode(outbox.ledger.get(Table::permanent(table), key).expect("it is written"))
    };
    assert_eq!(value(110, &at(2, 0).key()), GOLDEN_ROW);
    assert_eq!(value(111, b"meter"), GOLDEN_METER);
    assert_eq!(value(111, b"gap"), GOLDEN_GAP);
}

const GOLDEN_ROW: &str = "010389b4c4c32107c2843d00";
const GOLDEN_METER: &str = "0101ac02808080800401180200000000";
const GOLDEN_GAP: &str = "0100000100c1843d0100c1843d";
