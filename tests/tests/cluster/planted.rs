//! The judge of histories is judged: it takes what one right cluster could have told, and finds each kind of wrong.

use rand::{Rng, SeedableRng, rngs::StdRng};
use vertebra_tests::history::{Did, Entry, Got, MailOp, RecordOp, StaleRead, Told, judge};

/// An operation from `call` to `answer` ms.
fn op(client: u32, call: i64, answer: i64, did: Did) -> Entry {
    Entry {
        client,
        node: u64::from(client),
        call_us: call * 1_000,
        return_us: Some(answer * 1_000),
        did,
    }
}

/// One without an answer.
fn lost(client: u32, call: i64, did: Did) -> Entry {
    Entry {
        return_us: None,
        ..op(client, call, call, did)
    }
}

fn began() -> Entry {
    op(0, 0, 1, Did::Record(0, RecordOp::Began { version: 1, value: 10 }))
}

fn change(expected: u32, value: u32, told: Told) -> Did {
    Did::Record(0, RecordOp::Change { expected, value, told })
}

fn read(version: u32, value: u32) -> Did {
    Did::Record(0, RecordOp::Read { version, value })
}

fn stale(version: u32, value: u32, age_s: u64) -> Did {
    stale_on_a_clock_set_forward(version, value, age_s, 0)
}

fn stale_on_a_clock_set_forward(version: u32, value: u32, age_s: u64, set_forward_us: i64) -> Did {
    Did::Stale(StaleRead {
        patient: 0,
        version,
        value,
        age_s,
        life: 1,
        set_forward_us,
    })
}

fn sent(message: usize) -> Did {
    Did::Mail(
        0,
        MailOp::Send {
            message,
            answered: true,
        },
    )
}

fn list(waiting: &[usize]) -> Did {
    strangers(waiting, 0)
}

fn strangers(waiting: &[usize], strangers: usize) -> Did {
    let waiting = waiting.to_vec();
    Did::Mail(0, MailOp::List { waiting, strangers })
}

fn download(message: usize, got: Got) -> Did {
    Did::Mail(0, MailOp::Download { message, got })
}

fn acknowledged(message: usize) -> Did {
    Did::Mail(
        0,
        MailOp::Acknowledge {
            message,
            answered: true,
        },
    )
}

#[track_caller]
fn right(what: &str, history: &[Entry]) {
    if let Err(error) = judge(history) {
        panic!("{what} is right, and was refused: {error}");
    }
}

#[track_caller]
fn wrong(what: &str, history: &[Entry]) {
    assert!(judge(history).is_err(), "{what} was not found");
}

#[test]
fn what_a_right_cluster_tells_is_taken() {
    right(
        "one after the other",
        &[
            began(),
            op(1, 2, 3, change(1, 11, Told::Stored(2))),
            op(2, 4, 5, change(1, 12, Told::Mismatch)),
            op(2, 6, 7, read(2, 11)),
        ],
    );
    right(
        "two at once, one wins, and readers on both sides of the moment",
        &[
            began(),
            op(1, 2, 9, change(1, 11, Told::Stored(2))),
            op(2, 2, 9, change(1, 12, Told::Mismatch)),
            op(3, 3, 4, read(1, 10)),
            op(4, 5, 6, read(2, 11)),
        ],
    );
    right(
        "a change without an answer that is seen later",
        &[
            began(),
            lost(1, 2, change(1, 11, Told::Nothing)),
            op(2, 3, 4, read(1, 10)),
            op(2, 8, 9, read(2, 11)),
        ],
    );
    right(
        "a change without an answer that never was",
        &[
            began(),
            lost(1, 2, change(1, 11, Told::Nothing)),
            op(2, 3, 4, change(1, 12, Told::Stored(2))),
            op(2, 8, 9, read(2, 12)),
        ],
    );
    right(
        "a message from sending to collecting, and an acknowledgement that is repeated",
        &[
            op(1, 1, 5, sent(0)),
            op(2, 2, 3, list(&[])),
            op(2, 4, 5, list(&[0])),
            op(1, 6, 7, sent(1)),
            op(2, 8, 9, download(0, Got::Content)),
            op(2, 10, 11, acknowledged(0)),
            op(2, 12, 13, acknowledged(0)),
            op(3, 12, 13, download(0, Got::Gone)),
            op(3, 14, 15, list(&[1])),
        ],
    );
    right(
        "an old read that says so",
        &[
            began(),
            op(1, 2, 3, change(1, 11, Told::Stored(2))),
            op(2, 9_000, 9_001, stale(1, 10, 8)),
        ],
    );
    right(
        "an age that shrinks while a read of longer ago is under way, which then tells the smaller one",
        &[
            began(),
            op(1, 2, 3, change(1, 11, Told::Stored(2))),
            op(2, 20_000, 24_000, stale(2, 11, 4)),
            op(2, 20_100, 20_200, stale(2, 11, 4)),
        ],
    );
    right(
        "an age that grows by what the clock was set forward",
        &[
            began(),
            op(1, 2, 3, change(1, 11, Told::Stored(2))),
            op(2, 20_000, 20_001, stale_on_a_clock_set_forward(2, 11, 1, 0)),
            op(2, 21_000, 21_001, stale_on_a_clock_set_forward(2, 11, 9, 7_000_000)),
        ],
    );
}

#[test]
fn wrong_histories_of_records_are_found() {
    let stored = op(1, 2, 3, change(1, 11, Told::Stored(2)));
    wrong(
        "an acknowledged change that is lost",
        &[
            began(),
            stored.clone(),
            op(2, 4, 5, read(1, 10)),
            op(2, 6, 7, read(1, 10)),
        ],
    );
    wrong(
        "an acknowledged change that another took the place of",
        &[
            began(),
            stored.clone(),
            op(2, 4, 5, change(1, 12, Told::Stored(2))),
            op(2, 6, 7, read(2, 12)),
        ],
    );
    wrong(
        "an old read served as the present, of a change that is not lost",
        &[
            began(),
            stored.clone(),
            op(2, 4, 5, read(1, 10)),
            op(3, 6, 7, read(2, 11)),
        ],
    );
    wrong(
        "two winners of one version at once",
        &[
            began(),
            op(1, 2, 9, change(1, 11, Told::Stored(2))),
            op(2, 2, 9, change(1, 12, Told::Stored(2))),
        ],
    );
    wrong(
        "a repeated change that was applied twice",
        &[began(), stored.clone(), op(2, 4, 5, read(3, 11))],
    );
    wrong(
        "a refused change that happened",
        &[
            began(),
            op(1, 2, 3, change(1, 11, Told::Mismatch)),
            op(2, 4, 5, read(2, 11)),
        ],
    );
    wrong(
        "a refusal for a version that was right",
        &[began(), op(1, 2, 3, change(1, 11, Told::Mismatch))],
    );
    wrong(
        "a change read before it was committed, and rolled back",
        &[
            began(),
            lost(1, 2, change(1, 11, Told::Nothing)),
            op(2, 3, 4, read(2, 11)),
            op(3, 5, 6, read(1, 10)),
        ],
    );
    wrong(
        "a change seen before anybody asked for it",
        &[
            began(),
            op(2, 2, 3, read(2, 11)),
            op(1, 4, 5, change(1, 11, Told::Stored(2))),
        ],
    );
    wrong(
        "another version in the answer than the record has",
        &[began(), op(1, 2, 3, change(1, 11, Told::Stored(3)))],
    );
    wrong(
        "the right version with another's content",
        &[began(), stored, op(2, 4, 5, read(2, 10))],
    );
}

#[test]
fn wrong_histories_of_mailboxes_are_found() {
    let sent_0 = op(1, 1, 2, sent(0));
    wrong(
        "an accepted message that is lost",
        &[sent_0.clone(), op(2, 3, 4, list(&[]))],
    );
    wrong(
        "an accepted message that is not there to download",
        &[sent_0.clone(), op(2, 3, 4, download(0, Got::Missing))],
    );
    wrong(
        "a message that came back after it was acknowledged",
        &[
            sent_0.clone(),
            op(2, 3, 4, acknowledged(0)),
            op(2, 5, 6, list(&[])),
            op(3, 7, 8, list(&[0])),
        ],
    );
    wrong(
        "an acknowledged message that can be downloaded again",
        &[
            sent_0.clone(),
            op(2, 3, 4, acknowledged(0)),
            op(3, 5, 6, download(0, Got::Content)),
        ],
    );
    wrong(
        "a repeated message that was delivered twice",
        &[sent_0.clone(), op(2, 3, 4, strangers(&[0], 1))],
    );
    wrong("a message listed twice", &[sent_0.clone(), op(2, 3, 4, list(&[0, 0]))]);
    wrong("altered bytes", &[sent_0.clone(), op(2, 3, 4, download(0, Got::Other))]);
    wrong(
        "a message that is gone and nobody acknowledged it",
        &[sent_0.clone(), op(2, 3, 4, download(0, Got::Gone))],
    );
    wrong(
        "a message that is there before it was sent",
        &[op(2, 1, 2, list(&[0])), op(1, 3, 4, sent(0))],
    );
    wrong(
        "two listings that tell two orders",
        &[
            op(1, 1, 9, sent(0)),
            op(2, 1, 9, sent(1)),
            op(3, 2, 3, list(&[0])),
            op(4, 4, 5, list(&[1])),
        ],
    );
}

#[test]
fn wrong_reads_with_an_age_are_found() {
    let stored = op(1, 2, 3, change(1, 11, Told::Stored(2)));
    wrong(
        "what nobody wrote",
        &[began(), stored.clone(), op(2, 9_000, 9_001, stale(2, 99, 1))],
    );
    wrong(
        "what was refused",
        &[
            began(),
            stored.clone(),
            op(1, 4, 5, change(1, 12, Told::Mismatch)),
            op(2, 9_000, 9_001, stale(2, 12, 1)),
        ],
    );
    wrong(
        "a state older than it says",
        &[began(), stored.clone(), op(2, 9_000, 9_001, stale(1, 10, 3))],
    );
    wrong(
        "a state that goes back",
        &[
            began(),
            stored.clone(),
            op(2, 9_000, 9_001, stale(2, 11, 9)),
            op(2, 9_100, 9_101, stale(1, 10, 9)),
        ],
    );
    wrong(
        "an age that grows faster than the clock",
        &[
            began(),
            stored,
            op(2, 20_000, 20_001, stale(2, 11, 1)),
            op(2, 21_000, 21_001, stale(2, 11, 9)),
        ],
    );
    wrong(
        "an age that grows faster than a clock that was set forward by less",
        &[
            began(),
            op(1, 2, 3, change(1, 11, Told::Stored(2))),
            op(2, 20_000, 20_001, stale_on_a_clock_set_forward(2, 11, 1, 0)),
            op(2, 21_000, 21_001, stale_on_a_clock_set_forward(2, 11, 9, 4_000_000)),
        ],
    );
}

/// A right history of one patient and one mailbox: each operation takes effect at a moment between call and answer; some
/// lose their answers.
fn made(random: &mut StdRng) -> Vec<Entry> {
    let mut entries = vec![began()];
    let (mut version, mut value) = (1, 10);
    let mut free_at = [2_i64; 6];
    let mut mail: Vec<(usize, bool)> = Vec::new();
    let mut sends = 0;
    // The moments of effect go up; what lies around them overlaps.
    for step in 0..120 {
        let moment = 10 + step * 3;
        let client = random.random_range(0..free_at.len());
        let call = random.random_range(free_at[client].min(moment - 1)..moment);
        let answer = moment + random.random_range(1..20);
        if free_at[client] >= moment {
            continue;
        }
        free_at[client] = answer + 1;
        let number = u32::try_from(client).expect("six clients") + 1;
        let unanswered = random.random_ratio(1, 12);
        let did = match random.random_range(0..6) {
            0 => read(version, value),
            1 => change(version.saturating_sub(1).max(1), 1_000, Told::Mismatch),
            2 => {
                value = 100 + u32::try_from(step).expect("few steps");
                version += 1;
                change(
                    version - 1,
                    value,
                    if unanswered {
                        Told::Nothing
                    } else {
                        Told::Stored(version)
                    },
                )
            }
            3 => {
                mail.push((sends, true));
                sends += 1;
                Did::Mail(
                    0,
                    MailOp::Send {
                        message: sends - 1,
                        answered: !unanswered,
                    },
                )
            }
            4 => {
                let waiting: Vec<usize> = mail.iter().filter(|(_, here)| *here).map(|(at, _)| *at).collect();
                list(&waiting)
            }
            _ => match mail.iter_mut().find(|(_, here)| *here) {
                Some((message, here)) => {
                    *here = false;
                    Did::Mail(
                        0,
                        MailOp::Acknowledge {
                            message: *message,
                            answered: !unanswered,
                        },
                    )
                }
                None => continue,
            },
        };
        // A refusal for a version that is right would be wrong.
        if matches!(
            did,
            Did::Record(
                _,
                RecordOp::Change {
                    told: Told::Mismatch,
                    ..
                }
            )
        ) && version == 1
        {
            continue;
        }
        let silent = match &did {
            Did::Record(_, RecordOp::Change { told, .. }) => *told == Told::Nothing,
            Did::Mail(_, MailOp::Send { answered, .. } | MailOp::Acknowledge { answered, .. }) => !answered,
            _ => false,
        };
        let entry = op(number, call, answer, did);
        entries.push(if silent { lost(number, call, entry.did) } else { entry });
    }
    entries
}

#[test]
fn made_histories_are_taken_and_one_wrong_answer_in_them_is_found() {
    let mut found = 0;
    for seed in 0..150 {
        let mut random = StdRng::seed_from_u64(seed);
        let entries = made(&mut random);
        right(&format!("the history of seed {seed}"), &entries);
        // What a read tells becomes what nobody wrote; a list loses one, or gets one back.
        let mut spoilt = entries.clone();
        let reads: Vec<usize> = (0..spoilt.len())
            .filter(|&at| match &spoilt[at].did {
                Did::Record(_, RecordOp::Read { .. }) => true,
                Did::Mail(_, MailOp::List { waiting, .. }) => !waiting.is_empty(),
                _ => false,
            })
            .collect();
        let at = reads[random.random_range(0..reads.len())];
        match &mut spoilt[at].did {
            Did::Record(_, RecordOp::Read { value, .. }) => *value += 1_000_000,
            Did::Mail(_, MailOp::List { strangers, .. }) => *strangers = 1,
            _ => unreachable!("only reads and lists were chosen"),
        }
        found += u32::from(judge(&spoilt).is_err());
    }
    assert_eq!(found, 150, "every spoilt history is found");
}
