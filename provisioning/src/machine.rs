//! What is kept about one machine, and every change of it.
//!
//! ```text
//!            arm                enrol (once)             autosign (once)
//!   Idle ──────────▶ Armed ───────────────▶ Issued ─────────────────────▶ Enrolled
//!    ▲  disarm,        │                      │                              │
//!    └─ window over ◀──┴──────────────────────┘ token expired                │
//!            arm again, from anywhere: an older token is worth nothing ◀─────┘
//! ```
//!
//! Invariants: a token is handed out at most once for each arming and redeemed at most once; only digests of secrets are
//! kept. No I/O, no clock: moments come with the call.

use crate::names::{HostName, Moment, ReleaseId, Sha256, Stage, Word};
use crate::secret;
use serde::{Deserialize, Serialize};

/// Where a machine is on its way to a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Enrolment {
    /// Nothing is open.
    Idle,
    /// One token may be handed out.
    Armed {
        /// End of the window.
        until: Moment,
    },
    /// The token is out and not yet redeemed.
    Issued {
        /// Its digest.
        token_sha256: Sha256,
        /// When it was handed out.
        at: Moment,
        /// To which address.
        to: String,
        /// When it is worth nothing any more.
        expires: Moment,
        /// What it is for.
        role: Word,
        /// What it is for.
        datacentre: Word,
    },
    /// The token was redeemed.
    Enrolled {
        /// Its digest, to tell a replay from a guess.
        token_sha256: Sha256,
        /// When.
        at: Moment,
    },
}

/// Boots of one release since the last check-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// The release that was wanted.
    pub release: ReleaseId,
    /// How many boots began.
    pub count: u32,
    /// When the last one began.
    pub last: Moment,
    /// How that was known.
    pub by: BootSign,
}

/// What tells that a boot began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootSign {
    /// The machine fetched its boot file.
    Fetch,
    /// Its initrd said so.
    Report,
}

/// How long after a fetch the initrd's report belongs to the same boot, seconds.
const BOOT_SECONDS: i64 = 900;

/// What a machine said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// How far it came.
    pub stage: Stage,
    /// When it said so.
    pub at: Moment,
    /// The release that it runs, as it says.
    pub release: Option<ReleaseId>,
    /// Why it went no further.
    pub failed: Option<String>,
    /// Whether the report carried the machine's own key.
    pub proved: bool,
}

/// One machine's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineState {
    /// Version of the shape: 1.
    pub format: u32,
    /// The machine.
    pub certname: HostName,
    /// Its enrolment.
    pub enrolment: Enrolment,
    /// Digest of the key with which it reports.
    pub report_key_sha256: Option<Sha256>,
    /// Boots without a check-in.
    pub attempts: Option<Attempts>,
    /// What it said last.
    pub report: Option<Report>,
    /// The last failure since its last check-in.
    pub failure: Option<Report>,
    /// Release of its last check-in: it was healthy with it.
    pub healthy_release: Option<ReleaseId>,
    /// Moment of that check-in.
    pub healthy_at: Option<Moment>,
    /// The release of the last healthy check-in before `healthy_release`.
    pub healthy_before: Option<ReleaseId>,
}

/// The version of the shape.
pub const FORMAT: u32 = 1;

/// Why no token is handed out. A stranger hears the same sentence for all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueRefusal {
    /// Nobody armed it, or the window is over.
    #[error("it is not armed")]
    NotArmed,
    /// The window's one token is out.
    #[error(
        "the token of this window was handed out to {to} already; if that was not this machine, disarm it and look"
    )]
    HandedOut {
        /// The address that has it.
        to: String,
    },
}

/// Why a token is not taken. For the CA's log, not for the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemRefusal {
    /// No token is out.
    #[error("no token is out for it; arm it: vertebra-provisioning arm {certname}")]
    NotIssued {
        /// The machine.
        certname: HostName,
    },
    /// It was used.
    #[error("its token was redeemed already; a token is good once, arm the machine again")]
    Replayed,
    /// Another token.
    #[error("the request's challengePassword is not the token that was handed out")]
    WrongToken,
    /// Too late.
    #[error("its token has expired; arm the machine again")]
    Expired,
    /// The request claims another role.
    #[error("the request's pp_role is `{claimed}`, and the token is for `{issued}`")]
    WrongRole {
        /// In the request.
        claimed: String,
        /// In the token.
        issued: Word,
    },
    /// The request claims another data centre.
    #[error("the request's pp_datacenter is `{claimed}`, and the token is for `{issued}`")]
    WrongDatacentre {
        /// In the request.
        claimed: String,
        /// In the token.
        issued: Word,
    },
}

/// To whom and for what a token is handed out.
pub struct Issue<'a> {
    /// Digest of the token.
    pub token: Sha256,
    /// Digest of the key for later reports.
    pub report_key: Sha256,
    /// The address that asked.
    pub to: String,
    /// How long the token is good, seconds.
    pub seconds: i64,
    /// The role it is for.
    pub role: &'a Word,
    /// The data centre it is for.
    pub datacentre: &'a Word,
}

impl MachineState {
    /// A machine of which nothing is known.
    pub fn new(certname: &HostName) -> MachineState {
        MachineState {
            format: FORMAT,
            certname: certname.clone(),
            enrolment: Enrolment::Idle,
            report_key_sha256: None,
            attempts: None,
            report: None,
            failure: None,
            healthy_release: None,
            healthy_at: None,
            healthy_before: None,
        }
    }

    /// Opens the window. An older token is worth nothing from now on.
    pub fn arm(&mut self, until: Moment) {
        self.enrolment = Enrolment::Armed { until };
    }

    /// Closes it, and takes back a token that is out.
    pub fn disarm(&mut self) {
        self.enrolment = match &self.enrolment {
            Enrolment::Idle | Enrolment::Armed { .. } | Enrolment::Issued { .. } => Enrolment::Idle,
            enrolled @ Enrolment::Enrolled { .. } => enrolled.clone(),
        };
    }

    /// End of the window, while it is open.
    pub fn armed_until(&self, now: Moment) -> Option<Moment> {
        match self.enrolment {
            Enrolment::Armed { until } if now < until => Some(until),
            Enrolment::Idle | Enrolment::Armed { .. } | Enrolment::Issued { .. } | Enrolment::Enrolled { .. } => None,
        }
    }

    /// Hands out the window's one token.
    pub fn issue(&mut self, now: Moment, issue: Issue<'_>) -> Result<(), IssueRefusal> {
        match &self.enrolment {
            Enrolment::Armed { until } if now < *until => {}
            Enrolment::Issued { to, .. } => return Err(IssueRefusal::HandedOut { to: to.clone() }),
            Enrolment::Idle | Enrolment::Armed { .. } | Enrolment::Enrolled { .. } => {
                return Err(IssueRefusal::NotArmed);
            }
        }
        self.enrolment = Enrolment::Issued {
            token_sha256: issue.token,
            at: now,
            to: issue.to,
            expires: now.saturating_add(issue.seconds),
            role: issue.role.clone(),
            datacentre: issue.datacentre.clone(),
        };
        self.report_key_sha256 = Some(issue.report_key);
        Ok(())
    }

    /// Takes the token, once. Checked in this order: token, expiry, role, data centre; whoever lacks the token learns
    /// nothing of the rest.
    pub fn redeem(&mut self, now: Moment, token: &str, role: &str, datacentre: &str) -> Result<(), RedeemRefusal> {
        let token_sha256 = match &self.enrolment {
            Enrolment::Idle | Enrolment::Armed { .. } => {
                let certname = self.certname.clone();
                return Err(RedeemRefusal::NotIssued { certname });
            }
            Enrolment::Enrolled { token_sha256, .. } => {
                let replay = secret::matches(token, token_sha256);
                return Err(if replay {
                    RedeemRefusal::Replayed
                } else {
                    RedeemRefusal::WrongToken
                });
            }
            Enrolment::Issued { token_sha256, .. } if !secret::matches(token, token_sha256) => {
                return Err(RedeemRefusal::WrongToken);
            }
            Enrolment::Issued { expires, .. } if now >= *expires => return Err(RedeemRefusal::Expired),
            Enrolment::Issued { role: issued, .. } if issued.as_str() != role => {
                return Err(RedeemRefusal::WrongRole {
                    claimed: crate::names::shown(role),
                    issued: issued.clone(),
                });
            }
            Enrolment::Issued { datacentre: issued, .. } if issued.as_str() != datacentre => {
                return Err(RedeemRefusal::WrongDatacentre {
                    claimed: crate::names::shown(datacentre),
                    issued: issued.clone(),
                });
            }
            Enrolment::Issued { token_sha256, .. } => token_sha256.clone(),
        };
        self.enrolment = Enrolment::Enrolled { token_sha256, at: now };
        Ok(())
    }

    /// Whether `key` is the machine's own.
    pub fn proves(&self, key: &str) -> bool {
        self.report_key_sha256
            .as_ref()
            .is_some_and(|kept| secret::matches(key, kept))
    }

    /// Counts a boot of the wanted release. Signs within `settle` seconds are of one boot, and a report soon after a
    /// fetch is. Says whether it counted.
    pub fn boot_began(&mut self, now: Moment, wanted: &ReleaseId, by: BootSign, settle: i64) -> bool {
        match &mut self.attempts {
            Some(attempts) if attempts.release == *wanted => {
                let same = match (attempts.by, by) {
                    (BootSign::Fetch, BootSign::Report) => settle.max(BOOT_SECONDS),
                    (BootSign::Fetch | BootSign::Report, BootSign::Fetch) | (BootSign::Report, BootSign::Report) => {
                        settle
                    }
                };
                if now < attempts.last.saturating_add(same) {
                    return false;
                }
                attempts.count = attempts.count.saturating_add(1);
                attempts.last = now;
                attempts.by = by;
            }
            other => {
                *other = Some(Attempts {
                    release: wanted.clone(),
                    count: 1,
                    last: now,
                    by,
                });
            }
        }
        true
    }

    /// Keeps what the machine said.
    pub fn reported(&mut self, report: Report) {
        if report.failed.is_some() {
            self.failure = Some(report.clone());
        }
        self.report = Some(report);
    }

    /// A healthy check-in: the release is good, and boots of it are counted anew.
    pub fn healthy(&mut self, now: Moment, release: ReleaseId) {
        if self
            .attempts
            .as_ref()
            .is_some_and(|attempts| attempts.release == release)
        {
            self.attempts = None;
        }
        if self.healthy_release.as_ref().is_some_and(|known| *known != release) {
            self.healthy_before = self.healthy_release.take();
        }
        self.failure = None;
        self.report = Some(Report {
            stage: Stage::Serving,
            at: now,
            release: Some(release.clone()),
            failed: None,
            proved: true,
        });
        self.healthy_release = Some(release);
        self.healthy_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn machine() -> MachineState {
        MachineState::new(&"n1.north.example".parse().expect("a name"))
    }

    fn word(text: &str) -> Word {
        text.parse().expect("a word")
    }

    fn issue(machine: &mut MachineState, now: Moment) -> Result<Secret, IssueRefusal> {
        let token = Secret::random().expect("random numbers");
        let (role, datacentre) = (word("node"), word("north"));
        let asked = Issue {
            token: token.sha256(),
            report_key: token.sha256(),
            to: "10.1.0.11".to_owned(),
            seconds: 100,
            role: &role,
            datacentre: &datacentre,
        };
        machine.issue(now, asked).map(|()| token)
    }

    #[test]
    fn a_token_is_handed_out_once_in_its_window_and_redeemed_once() {
        let mut machine = machine();
        assert_eq!(issue(&mut machine, 0).expect_err("idle"), IssueRefusal::NotArmed);
        machine.arm(60);
        assert_eq!(
            issue(&mut machine, 60).expect_err("the window is over"),
            IssueRefusal::NotArmed
        );
        let token = issue(&mut machine, 59).expect("within the window");
        assert!(matches!(issue(&mut machine, 59), Err(IssueRefusal::HandedOut { .. })));
        let refused = |machine: &mut MachineState, now, token: &str, role, dc| {
            let before = machine.clone();
            let error = machine.redeem(now, token, role, dc).expect_err("refused");
            assert_eq!(*machine, before, "a refusal changes nothing");
            error
        };
        let good = token.reveal().to_owned();
        assert_eq!(
            refused(&mut machine, 60, "x", "node", "north"),
            RedeemRefusal::WrongToken
        );
        assert_eq!(
            refused(&mut machine, 159, &good, "node", "north"),
            RedeemRefusal::Expired
        );
        assert!(matches!(
            refused(&mut machine, 60, &good, "witness", "north"),
            RedeemRefusal::WrongRole { .. }
        ));
        assert!(matches!(
            refused(&mut machine, 60, &good, "node", "south"),
            RedeemRefusal::WrongDatacentre { .. }
        ));
        machine.redeem(60, &good, "node", "north").expect("it is right in all");
        assert_eq!(
            refused(&mut machine, 60, &good, "node", "north"),
            RedeemRefusal::Replayed
        );
        assert_eq!(
            refused(&mut machine, 60, "x", "node", "north"),
            RedeemRefusal::WrongToken
        );
    }

    #[test]
    fn arming_again_makes_the_older_token_worthless() {
        let mut machine = machine();
        machine.arm(60);
        let old = issue(&mut machine, 0).expect("armed");
        machine.arm(60);
        let refusal = machine
            .redeem(1, old.reveal(), "node", "north")
            .expect_err("taken back");
        assert!(matches!(refusal, RedeemRefusal::NotIssued { .. }));
        let new = issue(&mut machine, 1).expect("armed again");
        assert_eq!(
            machine.redeem(1, old.reveal(), "node", "north"),
            Err(RedeemRefusal::WrongToken)
        );
        machine.disarm();
        assert!(machine.redeem(1, new.reveal(), "node", "north").is_err());
    }

    #[test]
    fn requests_of_one_boot_are_counted_once_and_a_check_in_counts_anew() {
        let mut machine = machine();
        let [one, two]: [ReleaseId; 2] = ["1", "2"].map(|id| id.parse().expect("a release"));
        assert!(machine.boot_began(0, &two, BootSign::Fetch, 20));
        assert!(!machine.boot_began(19, &two, BootSign::Fetch, 20));
        assert!(machine.boot_began(20, &two, BootSign::Fetch, 20));
        assert!(!machine.boot_began(900, &two, BootSign::Report, 20), "its own initrd");
        assert_eq!(machine.attempts.as_ref().map(|a| a.count), Some(2));
        machine.healthy(30, one.clone());
        assert_eq!(
            machine.attempts.as_ref().map(|a| a.count),
            Some(2),
            "another release says nothing of this one"
        );
        machine.healthy(31, two.clone());
        assert_eq!(machine.attempts, None);
        assert_eq!(machine.healthy_before, Some(one.clone()));
        assert!(machine.boot_began(40, &two, BootSign::Fetch, 20));
        assert!(
            machine.boot_began(41, &one, BootSign::Fetch, 20),
            "another wanted release begins at one"
        );
        assert_eq!(machine.attempts.map(|a| (a.release, a.count)), Some((one, 1)));
    }
}
