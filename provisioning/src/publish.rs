//! From inventory and state to the rendered folder: the one path that `render`, `release` and `serve` take.

use crate::boot_plan::{self, BootPlan};
use crate::config::Config;
use crate::inventory::Inventory;
use crate::names::{HostName, Moment, now};
use crate::render::{self, RenderError, Tree, WriteError, Written};
use crate::store::{Locked, Store, StoreError};
use std::collections::BTreeMap;

/// Why nothing (or not all) was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// State could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something to render from is missing.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The folder could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What every machine boots next.
pub fn plans(
    config: &Config,
    store: &Store,
    inventory: &Inventory,
    at: Moment,
) -> Result<BTreeMap<HostName, BootPlan>, StoreError> {
    let releases = store.releases()?;
    let mut plans = BTreeMap::new();
    for machine in inventory.machines.values() {
        let state = store.machine(&machine.certname)?;
        let plan = boot_plan::plan(machine, &state, &releases, &config.fallback, at);
        plans.insert(machine.certname.clone(), plan);
    }
    Ok(plans)
}

/// The tree, in memory.
pub fn tree(config: &Config, store: &Store, inventory: &Inventory) -> Result<Tree, PublishError> {
    let plans = plans(config, store, inventory, now())?;
    Ok(render::render(config, inventory, &store.releases()?, &plans)?)
}

/// Renders and writes, under the lock.
pub fn publish(
    config: &Config,
    store: &Store,
    _locked: &Locked<'_>,
    inventory: &Inventory,
) -> Result<Written, PublishError> {
    Ok(render::write(&config.output, &tree(config, store, inventory)?)?)
}
