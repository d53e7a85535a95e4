//! The cluster: many nodes with one history, and nothing lost, whatever fails. Nodes are real processes in network
//! namespaces; one cluster runs at a time.
//!
//! `VERTEBRA_HISTORIES` and `VERTEBRA_SITE_LOSSES` set how often; a failure prints its seed, and `VERTEBRA_SEED` repeats it.

mod planted;
