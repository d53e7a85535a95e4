//! openraft's own suite over our storage and state machine.

use super::*;
use crate::log::machine::Machine;
use crate::log::open::{Parts, open_parts};
use crate::log::store::LogStore;
use crate::log::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

struct Builder;

/// Closes the journal and removes the folder.
struct Guard {
    store: Arc<Store>,
    folder: Option<Folder>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.store.stop();
        let (journal, folder) = (self.store.journal.clone(), self.folder.take());
        tokio::task::spawn_local(async move {
            journal.close().await;
            drop(folder);
        });
    }
}

impl StoreBuilder<TypeConfig, LogStore, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<TypeConfig>> {
        let folder = Folder::new("suite");
        let parts = open_parts(&config(&folder), journal_config(&folder), MAP_BYTES, apply()).await;
        let Parts { store, machine, .. } = parts.expect("a new folder opens");
        tokio::task::spawn_local(store.clone().drive());
        tokio::task::spawn_local(store.clone().drive_committed());
        let guard = Guard {
            store: store.clone(),
            folder: Some(folder),
        };
        Ok((guard, LogStore(store), machine))
    }
}

#[test]
fn openrafts_own_suite_passes_over_journal_and_ledger() {
    tokio_uring::start(async {
        Suite::test_all(Builder).await.expect("the suite passes");
    });
}
