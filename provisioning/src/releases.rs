//! Releases: what is in the store, which one each site or machine shall boot, and below which nobody goes back.
//!
//! Owns: manifests, the rules of promotion. Must never know: how a release is served. Invariant: nothing points at a
//! release that is not whole in the store, was retired, or has a lower `state_version` than a finalised one.

mod add;

pub use add::{AddError, Copied, copy, place, verify};

use crate::inventory::{Inventory, Machine};
use crate::names::{Flavour, HostName, Moment, ReleaseId, Sha256, Word};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFile {
    /// Its digest.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
}

/// `manifest.json`. Fields that are not known here are left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The release.
    pub release: ReleaseId,
    /// For which machines.
    pub flavour: Flavour,
    /// The source it was built from.
    pub commit: String,
    /// Date of the source, seconds.
    pub source_date_epoch: i64,
    /// Version of what nodes of this release keep on disk.
    pub state_version: u64,
    /// Its files by name.
    pub files: BTreeMap<String, ReleaseFile>,
}

/// What every release has.
pub const FILES_NEEDED: [&str; 3] = ["vmlinuz", "initrd.img", "root.squashfs"];
/// The signed image for UEFI HTTP boot.
pub const EFI_FILE: &str = "vertebra.efi";

/// A release in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// When it was added.
    pub added: Moment,
    /// Its manifest, as it was then.
    pub manifest: Manifest,
}

/// What a site boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The release.
    pub release: ReleaseId,
    /// The one before.
    pub previous: Option<ReleaseId>,
    /// Since when.
    pub at: Moment,
}

/// `releases.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Releases {
    /// Version of the shape: 1.
    pub format: u32,
    /// Lowest `state_version` that may be booted.
    pub state_version_floor: u64,
    /// What is in the store.
    pub stored: BTreeMap<ReleaseId, Stored>,
    /// What is promoted, by site and flavour.
    pub sites: BTreeMap<Word, BTreeMap<Flavour, Wanted>>,
    /// Sites held to a release.
    pub site_pins: BTreeMap<Word, BTreeMap<Flavour, ReleaseId>>,
    /// Machines held to a release.
    pub machine_pins: BTreeMap<HostName, ReleaseId>,
}

impl Default for Releases {
    fn default() -> Releases {
        Releases {
            format: FORMAT,
            state_version_floor: 0,
            stored: BTreeMap::new(),
            sites: BTreeMap::new(),
            site_pins: BTreeMap::new(),
            machine_pins: BTreeMap::new(),
        }
    }
}

/// The version of the shape.
pub const FORMAT: u32 = 1;

/// Why a release is not promoted, pinned, finalised or retired.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not in the store.
    #[error("there is no release {0} in the store; add it: vertebra-provisioning release add FOLDER")]
    Unknown(ReleaseId),
    /// Below the floor.
    #[error(
        "release {release} has state version {state_version}, and {floor} was finalised: nodes have written what it cannot read; \
         promote one with state version {floor} or more"
    )]
    BelowFloor {
        /// The release.
        release: ReleaseId,
        /// Its version.
        state_version: u64,
        /// The lowest allowed.
        floor: u64,
    },
    /// Finalised while something may still boot an older one.
    #[error("{what} still boots release {release}, whose state version is {state_version}; promote or unpin it first")]
    StillOlder {
        /// Site or machine.
        what: String,
        /// What it boots.
        release: ReleaseId,
        /// Its version.
        state_version: u64,
    },
    /// A pin to a release for other machines.
    #[error("release {release} is of flavour {flavour}, and {machine} boots {wants}")]
    WrongFlavour {
        /// The release.
        release: ReleaseId,
        /// Its flavour.
        flavour: Flavour,
        /// The machine.
        machine: HostName,
        /// The machine's flavour.
        wants: Flavour,
    },
    /// A UEFI machine may ask for the signed image, and there is none.
    #[error("release {0} has no vertebra.efi, and {1} is a UEFI machine that may boot it over HTTP")]
    NoEfi(ReleaseId, HostName),
    /// Retired while in use.
    #[error("release {release} is {how} {what}; promote another one first")]
    InUse {
        /// The release.
        release: ReleaseId,
        /// In which way.
        how: &'static str,
        /// By whom.
        what: String,
    },
    /// Nothing was pinned.
    #[error("{0} is not pinned")]
    NotPinned(String),
}

impl Releases {
    /// A release that may be booted.
    pub fn bootable(&self, release: &ReleaseId) -> Result<&Stored, RuleError> {
        let stored = self
            .stored
            .get(release)
            .ok_or_else(|| RuleError::Unknown(release.clone()))?;
        let state_version = stored.manifest.state_version;
        if state_version < self.state_version_floor {
            return Err(RuleError::BelowFloor {
                release: release.clone(),
                state_version,
                floor: self.state_version_floor,
            });
        }
        Ok(stored)
    }

    /// Lets sites boot a release, those of its flavour. The one before is kept to go back to.
    pub fn promote(
        &mut self,
        release: &ReleaseId,
        sites: &[Word],
        inventory: &Inventory,
        now: Moment,
    ) -> Result<(), RuleError> {
        let flavour = self.bootable(release)?.manifest.flavour;
        for machine in inventory
            .machines
            .values()
            .filter(|m| sites.contains(&m.site) && m.flavour == flavour)
        {
            self.fits(release, machine)?;
        }
        for site in sites {
            let wanted = self.sites.entry(site.clone()).or_default();
            let previous = match wanted.get(&flavour) {
                Some(wanted) if wanted.release == *release => continue,
                Some(wanted) => Some(wanted.release.clone()),
                None => None,
            };
            let new = Wanted {
                release: release.clone(),
                previous,
                at: now,
            };
            wanted.insert(flavour, new);
        }
        Ok(())
    }

    fn fits(&self, release: &ReleaseId, machine: &Machine) -> Result<(), RuleError> {
        let manifest = &self.bootable(release)?.manifest;
        if manifest.flavour != machine.flavour {
            return Err(RuleError::WrongFlavour {
                release: release.clone(),
                flavour: manifest.flavour,
                machine: machine.certname.clone(),
                wants: machine.flavour,
            });
        }
        if machine.firmware == crate::names::Firmware::Uefi && !manifest.files.contains_key(EFI_FILE) {
            return Err(RuleError::NoEfi(release.clone(), machine.certname.clone()));
        }
        Ok(())
    }

    /// Holds one machine to a release, whatever its site boots.
    pub fn pin_machine(&mut self, release: &ReleaseId, machine: &Machine) -> Result<(), RuleError> {
        self.fits(release, machine)?;
        self.machine_pins.insert(machine.certname.clone(), release.clone());
        Ok(())
    }

    /// Holds a site to a release, whatever is promoted.
    pub fn pin_site(&mut self, release: &ReleaseId, site: &Word, inventory: &Inventory) -> Result<(), RuleError> {
        let flavour = self.bootable(release)?.manifest.flavour;
        for machine in inventory
            .machines
            .values()
            .filter(|m| m.site == *site && m.flavour == flavour)
        {
            self.fits(release, machine)?;
        }
        self.site_pins
            .entry(site.clone())
            .or_default()
            .insert(flavour, release.clone());
        Ok(())
    }

    /// Lets a machine go with its site again.
    pub fn unpin_machine(&mut self, certname: &HostName) -> Result<(), RuleError> {
        match self.machine_pins.remove(certname) {
            Some(_) => Ok(()),
            None => Err(RuleError::NotPinned(certname.to_string())),
        }
    }

    /// Lets a site boot what is promoted again.
    pub fn unpin_site(&mut self, site: &Word) -> Result<(), RuleError> {
        match self.site_pins.remove(site) {
            Some(_) => Ok(()),
            None => Err(RuleError::NotPinned(format!("site {site}"))),
        }
    }

    /// No release below this one's state version is ever booted again.
    pub fn finalise(&mut self, release: &ReleaseId) -> Result<u64, RuleError> {
        let floor = self.bootable(release)?.manifest.state_version;
        for (what, used) in self.uses() {
            let state_version = self.stored.get(&used).map_or(0, |stored| stored.manifest.state_version);
            if state_version < floor {
                return Err(RuleError::StillOlder {
                    what,
                    release: used,
                    state_version,
                });
            }
        }
        self.state_version_floor = self.state_version_floor.max(floor);
        Ok(self.state_version_floor)
    }

    /// Who boots what: promotions and pins.
    fn uses(&self) -> Vec<(String, ReleaseId)> {
        let mut uses = Vec::new();
        for (site, wanted) in &self.sites {
            uses.extend(
                wanted
                    .values()
                    .map(|wanted| (format!("site {site}"), wanted.release.clone())),
            );
        }
        for (site, pins) in &self.site_pins {
            uses.extend(
                pins.values()
                    .map(|release| (format!("site {site} (pinned)"), release.clone())),
            );
        }
        uses.extend(
            self.machine_pins
                .iter()
                .map(|(name, release)| (format!("{name} (pinned)"), release.clone())),
        );
        uses
    }

    /// Takes a release off the list. Refused while anybody boots it or would go back to it.
    pub fn retire(&mut self, release: &ReleaseId) -> Result<(), RuleError> {
        if !self.stored.contains_key(release) {
            return Err(RuleError::Unknown(release.clone()));
        }
        let in_use = |how, what| {
            Err(RuleError::InUse {
                release: release.clone(),
                how,
                what,
            })
        };
        if let Some((what, _)) = self.uses().into_iter().find(|(_, used)| used == release) {
            return in_use("booted by", what);
        }
        for (site, wanted) in &self.sites {
            let before = wanted.values().filter_map(|wanted| wanted.previous.as_ref());
            // One below the floor is nothing to go back to.
            if before
                .into_iter()
                .any(|previous| previous == release && self.bootable(previous).is_ok())
            {
                return in_use("what machines go back to at", format!("site {site}"));
            }
        }
        self.stored.remove(release);
        Ok(())
    }

    /// The release that a machine shall boot, and the site's one before it.
    pub fn wanted(&self, machine: &Machine) -> (Option<&ReleaseId>, Option<&ReleaseId>) {
        let promoted = self
            .sites
            .get(&machine.site)
            .and_then(|site| site.get(&machine.flavour));
        let site_pin = self
            .site_pins
            .get(&machine.site)
            .and_then(|site| site.get(&machine.flavour));
        // A pin from before the machine's flavour was changed holds nothing.
        let of_its_flavour = |pin: &&ReleaseId| {
            let stored = self.stored.get(*pin);
            stored.is_some_and(|stored| stored.manifest.flavour == machine.flavour)
        };
        let own_pin = self.machine_pins.get(&machine.certname).filter(of_its_flavour);
        let pin = own_pin.or(site_pin);
        match (pin, promoted) {
            (Some(pin), Some(promoted)) if *pin != promoted.release => (Some(pin), Some(&promoted.release)),
            (Some(pin), promoted) => (Some(pin), promoted.and_then(|promoted| promoted.previous.as_ref())),
            (None, Some(promoted)) => (Some(&promoted.release), promoted.previous.as_ref()),
            (None, None) => (None, None),
        }
    }
}
