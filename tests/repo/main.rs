//! Whole repositories, with everything against them: damaged objects, runs that were killed at any moment,
//! keys that may not, stores that can't. In one process and in memory, through the doors that the command
//! line uses.

mod alarms;
mod attributes;
mod checks;
mod churn;
#[path = "../support/cluster.rs"]
mod cluster;
mod cluster_copy;
#[path = "../support/compare.rs"]
mod compare;
mod copy;
mod copy_keys;
mod crash;
mod cutting;
mod damage;
mod deleting;
mod domains;
mod endless;
mod forgetting;
mod gc;
mod keys;
mod matrix;
mod planted;
mod refused;
mod repair;
mod restoring;
mod revoked;
mod roles;
mod rounds;
mod scene;
mod stolen;
mod stores;
mod thief;
