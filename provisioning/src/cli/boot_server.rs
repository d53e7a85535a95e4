//! Commands of the boot server and of the Puppet CA.

use super::{CliError, ReleaseCommand, Sites, Target, print};
use crate::autosign;
use crate::config::Config;
use crate::inventory::{Inventory, Machine};
use crate::names::{HostName, ReleaseId, Word, moment_text, now, shown};
use crate::page;
use crate::publish;
use crate::releases::{self, Releases};
use crate::store::{Locked, Store};
use std::fmt::Write as _;
use std::io::Read as _;

fn inventory(config: &Config) -> Result<Inventory, CliError> {
    Ok(Inventory::load(&config.inventory, config.hiera.as_ref())?)
}

fn machine<'a>(inventory: &'a Inventory, node: &str) -> Result<&'a Machine, CliError> {
    inventory.find(node).ok_or_else(|| CliError::NoMachine(shown(node)))
}

fn site(inventory: &Inventory, name: &str) -> Result<Word, CliError> {
    let known = || inventory.sites.keys().map(Word::as_str).collect::<Vec<_>>().join(", ");
    let found = inventory.sites.keys().find(|site| site.as_str() == name);
    found.cloned().ok_or_else(|| CliError::NoSite {
        name: shown(name),
        known: known(),
    })
}

pub(super) fn render(config: &Config, check: bool) -> Result<(), CliError> {
    let inventory = inventory(config)?;
    let store = Store::open(&config.state)?;
    let (sites, machines) = (inventory.sites.len(), inventory.machines.len());
    if check {
        let files = publish::tree(config, &store, &inventory)?.len();
        print(&format!(
            "{sites} sites, {machines} machines, {files} files: no mistakes\n"
        ));
        return Ok(());
    }
    let locked = store.lock()?;
    let written = publish::publish(config, &store, &locked, &inventory)?;
    print(&format!(
        "{sites} sites, {machines} machines: {} files changed, {} removed in {}\n",
        written.changed,
        written.removed,
        config.output.display()
    ));
    Ok(())
}

pub(super) fn arm(config: &Config, node: &str, minutes: i64) -> Result<(), CliError> {
    let inventory = inventory(config)?;
    let machine = machine(&inventory, node)?;
    let store = Store::open(&config.state)?;
    let until = now() + minutes * 60;
    store.lock()?.change(&machine.certname, |state| state.arm(until))?;
    let certname = &machine.certname;
    let mut text = format!(
        "{certname} is armed until {} UTC: one token, for role {} in {}\n",
        moment_text(until),
        machine.role,
        machine.site
    );
    if store.releases()?.wanted(machine).0.is_none() {
        writeln!(
            text,
            "It boots nothing yet: vertebra-provisioning release promote ID --site {}",
            machine.site
        )
        .expect("a String takes all");
    }
    writeln!(
        text,
        "If the Puppet CA knows it from before: puppetserver ca clean --certname {certname}"
    )
    .expect("a String takes all");
    print(&text);
    Ok(())
}

pub(super) fn disarm(config: &Config, node: &str) -> Result<(), CliError> {
    let inventory = inventory(config)?;
    let machine = machine(&inventory, node)?;
    let store = Store::open(&config.state)?;
    store
        .lock()?
        .change(&machine.certname, crate::machine::MachineState::disarm)?;
    print(&format!("{} is not armed\n", machine.certname));
    Ok(())
}

pub(super) fn status(config: &Config, json: bool) -> Result<(), CliError> {
    let inventory = inventory(config)?;
    let store = Store::open(&config.state)?;
    let at = now();
    let rows = page::rows(config, &store, &inventory, at)?;
    if json {
        let value = serde_json::json!({"format": 1, "at": at, "machines": rows});
        print(&format!("{value:#}\n"));
        return Ok(());
    }
    let mut cells = vec![
        [
            "MACHINE",
            "SITE",
            "ROLE",
            "WANTED",
            "BOOTS",
            "RUNNING",
            "STAGE",
            "ENROLMENT",
            "WHY IT FAILED",
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        cells.push([
            row.name,
            row.site,
            row.role,
            or_dash(row.wanted),
            or_dash(row.served),
            or_dash(row.running),
            or_dash(row.stage),
            match row.armed_until {
                Some(until) => format!("armed until {}", moment_text(until)),
                None => row.enrolment.to_owned(),
            },
            or_dash(row.failed),
        ]);
    }
    print(&table(&cells));
    Ok(())
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").expect("a String takes all");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn autosign(config: &Config, certname: &str) -> Result<(), CliError> {
    let certname: HostName = certname.parse()?;
    let mut request = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(autosign::REQUEST_BYTES_MAX)
        .read_to_end(&mut request);
    read.map_err(|error| autosign::AutosignError::NotARequest(error.to_string()))?;
    match autosign::judge(config, &certname, &request) {
        Ok(()) => {
            eprintln!("vertebra-provisioning: {certname}: signed, its token is used up");
            Ok(())
        }
        Err(error) => {
            eprintln!(
                "vertebra-provisioning: {certname}: not signed; its request stays with the CA until: puppetserver ca clean --certname {certname}"
            );
            Err(error.into())
        }
    }
}

/// Changes the list of releases, and renders what it means at once.
fn change(
    config: &Config,
    inventory: &Inventory,
    what: impl FnOnce(&mut Releases) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let store = Store::open(&config.state)?;
    let locked = store.lock()?;
    let mut releases = store.releases()?;
    what(&mut releases)?;
    locked.write_releases(&releases)?;
    publish(config, &store, &locked, inventory)
}

fn publish(config: &Config, store: &Store, locked: &Locked<'_>, inventory: &Inventory) -> Result<(), CliError> {
    let written = publish::publish(config, store, locked, inventory)?;
    print(&format!(
        "{} boot files changed, {} removed\n",
        written.changed, written.removed
    ));
    Ok(())
}

pub(super) fn release(config: &Config, command: ReleaseCommand) -> Result<(), CliError> {
    match command {
        ReleaseCommand::Add { folder } => {
            let store = Store::open(&config.state)?;
            let copied = releases::copy(&folder, &store.releases_folder())?;
            let locked = store.lock()?;
            let mut list = store.releases()?;
            let manifest = &copied.manifest;
            let known = list.stored.get(&manifest.release).map(|stored| &stored.manifest);
            releases::place(&copied, &store.releases_folder(), known)?;
            print(&format!(
                "{} ({}) is in the store, every digest right\n",
                manifest.release, manifest.flavour
            ));
            let stored = releases::Stored {
                added: now(),
                manifest: manifest.clone(),
            };
            list.stored.entry(manifest.release.clone()).or_insert(stored);
            locked.write_releases(&list)?;
            Ok(())
        }
        ReleaseCommand::List { json } => list(config, json),
        ReleaseCommand::Verify { release } => verify(config, release.as_ref()),
        ReleaseCommand::Promote { release, sites } => {
            let inventory = inventory(config)?;
            let sites = chosen(&inventory, &sites)?;
            verify(config, Some(&release))?;
            change(config, &inventory, |releases| {
                releases.promote(&release, &sites, &inventory, now())?;
                let flavour = releases.bootable(&release)?.manifest.flavour;
                let chosen = |machine: &&Machine| machine.flavour == flavour && sites.contains(&machine.site);
                let count = inventory.machines.values().filter(chosen).count();
                print(&format!(
                    "{release} is for the {count} machines of flavour {flavour} there\n"
                ));
                Ok(())
            })
        }
        ReleaseCommand::Pin { release, target } => {
            let inventory = inventory(config)?;
            verify(config, Some(&release))?;
            change(config, &inventory, |releases| match (&target.node, &target.site) {
                (Some(node), _) => Ok(releases.pin_machine(&release, machine(&inventory, node)?)?),
                (None, name) => {
                    let site = site(&inventory, name.as_deref().unwrap_or(""))?;
                    Ok(releases.pin_site(&release, &site, &inventory)?)
                }
            })
        }
        ReleaseCommand::Unpin { target } => unpin(config, &target),
        ReleaseCommand::Finalise { release } => {
            let inventory = inventory(config)?;
            change(config, &inventory, |releases| {
                let floor = releases.finalise(&release)?;
                print(&format!("no release below state version {floor} is booted any more\n"));
                Ok(())
            })
        }
        ReleaseCommand::Retry { node } => {
            let inventory = inventory(config)?;
            let machine = machine(&inventory, &node)?;
            let store = Store::open(&config.state)?;
            let locked = store.lock()?;
            locked.change(&machine.certname, |state| state.attempts = None)?;
            publish(config, &store, &locked, &inventory)
        }
        ReleaseCommand::Retire { release } => {
            let inventory = inventory(config)?;
            change(config, &inventory, |releases| Ok(releases.retire(&release)?))?;
            // Off the list first: what is on the list is whole.
            let store = Store::open(&config.state)?;
            let locked = store.lock()?;
            // Unless somebody has added it again meanwhile.
            if !store.releases()?.stored.contains_key(&release) {
                locked.remove_release(&release)?;
            }
            Ok(())
        }
    }
}

fn chosen(inventory: &Inventory, sites: &Sites) -> Result<Vec<Word>, CliError> {
    match &sites.site {
        Some(name) => Ok(vec![site(inventory, name)?]),
        None => Ok(inventory.sites.keys().cloned().collect()),
    }
}

fn unpin(config: &Config, target: &Target) -> Result<(), CliError> {
    let inventory = inventory(config)?;
    change(config, &inventory, |releases| match (&target.node, &target.site) {
        (Some(node), _) => {
            // A machine that has left the inventory can still be unpinned, by its certname.
            let certname = match inventory.find(node) {
                Some(machine) => machine.certname.clone(),
                None => node.parse()?,
            };
            Ok(releases.unpin_machine(&certname)?)
        }
        (None, name) => Ok(releases.unpin_site(&name.as_deref().unwrap_or("").parse()?)?),
    })
}

fn list(config: &Config, json: bool) -> Result<(), CliError> {
    let releases = Store::open(&config.state)?.releases()?;
    if json {
        let value = serde_json::to_value(&releases).expect("releases have a JSON form");
        print(&format!("{value:#}\n"));
        return Ok(());
    }
    let mut rows = vec![["RELEASE", "FLAVOUR", "STATE VERSION", "ADDED", "BOOTED BY"].map(str::to_owned)];
    for (id, stored) in &releases.stored {
        let mut users: Vec<String> = Vec::new();
        for (site, wanted) in &releases.sites {
            users.extend(
                wanted
                    .values()
                    .filter(|wanted| wanted.release == *id)
                    .map(|_| site.to_string()),
            );
        }
        for (site, pins) in &releases.site_pins {
            users.extend(
                pins.values()
                    .filter(|pin| *pin == id)
                    .map(|_| format!("{site} (pinned)")),
            );
        }
        let pinned = releases.machine_pins.iter().filter(|(_, pin)| *pin == id);
        users.extend(pinned.map(|(machine, _)| format!("{machine} (pinned)")));
        rows.push([
            id.to_string(),
            stored.manifest.flavour.to_string(),
            stored.manifest.state_version.to_string(),
            moment_text(stored.added),
            users.join(", "),
        ]);
    }
    print(&table(&rows));
    print(&format!(
        "lowest state version that is booted: {}\n",
        releases.state_version_floor
    ));
    Ok(())
}

fn verify(config: &Config, release: Option<&ReleaseId>) -> Result<(), CliError> {
    let store = Store::open(&config.state)?;
    let releases = store.releases()?;
    if let Some(release) = release
        && !releases.stored.contains_key(release)
    {
        return Err(releases::RuleError::Unknown(release.clone()).into());
    }
    for id in releases
        .stored
        .keys()
        .filter(|id| release.is_none_or(|release| release == *id))
    {
        releases::verify(&store.releases_folder().join(id.as_str()))?;
        print(&format!("{id}: every digest right\n"));
    }
    Ok(())
}
