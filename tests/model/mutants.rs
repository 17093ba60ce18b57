//! Each rule of the protocol is needed: without it the model finds how a promise is broken.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::{Config, Fault};
use crate::promises::{CLEANS, COUNTED, MARKS, READS, RESTORABLE, SOUND, TOLD};
use crate::scenes;
use crate::world::Protocol;

/// Searches for the shortest way to break `promise`; KIST_MODEL=trace prints it.
fn breaks(fault: Fault, scene: Config, promise: &'static str) {
    let config = Config { fault: Some(fault), ..scene };
    let name = config.name;
    let search = Protocol::new(config).checker().threads(1);
    let search = search.finish_when(HasDiscoveries::AnyOf(BTreeSet::from([promise])));
    let checker = search.spawn_bfs().join();
    let states = checker.unique_state_count();
    let Some(path) = checker.discovery(promise) else {
        panic!("{fault:?} in '{name}': {states} states, and none breaks: {promise}");
    };
    let actions = path.into_actions();
    println!("{fault:?} in '{name}': broken after {} steps, {states} states: {promise}", actions.len());
    if std::env::var("KIST_MODEL").is_ok_and(|value| value == "trace") {
        println!("{actions:#?}");
    }
}

// Writers.

#[test]
fn a_log_read_before_the_session_loses_records() {
    breaks(Fault::LogReadBeforeSession, scenes::writers(), RESTORABLE);
}

#[test]
fn a_pack_name_used_twice_loses_records() {
    breaks(Fault::PackNameUsedTwice, scenes::writers(), RESTORABLE);
}

#[test]
fn dedup_onto_a_condemned_pack_loses_records() {
    breaks(Fault::DedupOntoCondemned, scenes::writers(), RESTORABLE);
}

#[test]
fn dedup_onto_a_swept_pack_loses_records() {
    breaks(Fault::DedupOntoSwept, scenes::writers(), RESTORABLE);
}

#[test]
fn dedup_by_a_cache_that_is_not_filtered_loses_records() {
    breaks(Fault::CacheNotFiltered, scenes::runs(), RESTORABLE);
}

#[test]
fn a_recheck_before_the_new_session_loses_records() {
    breaks(Fault::RecheckBeforeSession, scenes::doubt(), RESTORABLE);
}

#[test]
fn dedup_onto_a_delta_of_an_uncommitted_session_of_another_epoch_loses_records() {
    breaks(Fault::DedupOntoForeignDelta, scenes::doubt(), RESTORABLE);
}

#[test]
fn a_writer_that_goes_on_in_a_closed_epoch_is_told_a_falsehood() {
    breaks(Fault::GoesOnInClosedEpoch, scenes::writers(), TOLD);
}

#[test]
fn condemned_packs_named_again_by_a_fenced_writer_lose_records() {
    breaks(Fault::CondemnedPacksNamedAgain, scenes::doubt(), RESTORABLE);
}

#[test]
fn dedup_onto_a_damaged_pack_loses_records() {
    breaks(Fault::DedupOntoDamaged, scenes::damaged(), SOUND);
}

#[test]
fn damaged_packs_named_again_by_a_fenced_writer_lose_records() {
    breaks(Fault::DamagedPacksNamedAgain, scenes::damaged_upload(), SOUND);
}

// Collectors.

#[test]
fn a_plan_without_a_second_mark_loses_records() {
    breaks(Fault::NoSecondMark, scenes::writers(), RESTORABLE);
}

#[test]
fn a_fence_removed_tells_a_writer_a_falsehood() {
    breaks(Fault::FenceRemoved, scenes::writers(), TOLD);
}

#[test]
fn deletion_before_the_sweep_loses_what_is_recalled() {
    breaks(Fault::DeletionBeforeSweep, scenes::recall(), RESTORABLE);
}

#[test]
fn an_index_not_reloaded_for_the_second_mark_loses_records() {
    breaks(Fault::IndexNotReloaded, scenes::doubt(), RESTORABLE);
}

#[test]
fn a_copy_inside_the_plan_is_no_copy() {
    breaks(Fault::CopyInsidePlan, scenes::copies(), RESTORABLE);
}

#[test]
fn a_swept_copy_is_no_copy_where_sweeps_have_no_checkpoint() {
    breaks(Fault::SweptCopy, scenes::copies(), RESTORABLE);
}

#[test]
fn two_open_plans_lose_records() {
    breaks(Fault::TwoOpenPlans, scenes::plans(), RESTORABLE);
}

#[test]
fn a_sweep_behind_a_recall_that_the_mark_has_not_read_loses_records() {
    breaks(Fault::SweepBehindUnreadRecall, scenes::recall(), RESTORABLE);
}

#[test]
fn a_sweep_of_another_s_plan_whose_sessions_were_not_waited_for_loses_records() {
    breaks(Fault::SweepOfPlanNotWaitedFor, scenes::plans(), RESTORABLE);
}

#[test]
fn sessions_listed_before_the_condemn_lose_records() {
    breaks(Fault::SessionsListedBeforeCondemn, scenes::writers(), RESTORABLE);
}

#[test]
fn an_index_loaded_before_the_commits_are_listed_stops_the_mark() {
    breaks(Fault::IndexBeforeCommits, scenes::doubt(), MARKS);
}

#[test]
fn a_condemn_before_the_last_sweep_has_its_checkpoint_loses_records() {
    breaks(Fault::CondemnBeforeCheckpoint, scenes::late(), RESTORABLE);
}

#[test]
fn a_late_delta_of_an_ended_epoch_is_no_copy_where_sweeps_have_no_checkpoint() {
    breaks(Fault::LateDeltaIsCopy, scenes::late(), RESTORABLE);
}

#[test]
fn unindexed_packs_that_are_never_condemned_stay_for_ever() {
    breaks(Fault::UnindexedPacksKept, scenes::runs(), CLEANS);
}

#[test]
fn a_plan_that_nobody_takes_over_stops_all() {
    breaks(Fault::PlanNotTakenOver, scenes::runs(), CLEANS);
}

#[test]
fn a_damaged_copy_is_no_copy() {
    breaks(Fault::DamagedCopy, scenes::damaged(), SOUND);
}

#[test]
fn a_sweep_behind_damage_that_the_mark_has_not_read_loses_records() {
    breaks(Fault::SweepBehindUnreadRecall, scenes::damaged(), SOUND);
}

// The owner, who begins anew.

#[test]
fn sessions_of_an_older_epoch_that_are_not_waited_for_lose_commits() {
    breaks(Fault::OlderEpochsNotWaitedFor, scenes::anew_of_two(), TOLD);
}

#[test]
fn a_renew_that_does_not_say_the_epoch_loses_commits() {
    breaks(Fault::RenewSaysNoEpoch, scenes::anew(), TOLD);
}

#[test]
fn a_writer_that_does_not_heed_a_renew_is_told_a_falsehood() {
    breaks(Fault::RenewNotHeeded, scenes::anew(), TOLD);
}

// Publishing.

#[test]
fn a_generation_on_an_older_checkpoint_loses_records() {
    breaks(Fault::OlderCheckpoint, scenes::copies(), RESTORABLE);
}

#[test]
fn deltas_deleted_before_the_checkpoint_stands_lose_records() {
    breaks(Fault::DeltasDeletedFirst, scenes::writers(), RESTORABLE);
}

#[test]
fn a_gone_commit_deleted_before_its_epoch_has_ended_raises_a_false_alarm() {
    breaks(Fault::GoneCommitDeletedEarly, scenes::reader(), READS);
}

#[test]
fn a_state_without_the_forgets_of_open_epochs_brings_snapshots_back() {
    breaks(Fault::ForgetsOfOpenEpochsLost, scenes::reader(), COUNTED);
}

#[test]
fn a_state_without_the_damaged_packs_lets_writers_refer_to_them() {
    breaks(Fault::DamagedLost, scenes::damaged(), SOUND);
}

// Readers.

#[test]
fn an_ended_epoch_without_a_checkpoint_must_be_listed() {
    breaks(Fault::EndedEpochNotListed, scenes::writers(), COUNTED);
}

#[test]
fn a_log_read_before_the_commits_raises_a_false_alarm() {
    breaks(Fault::LogReadBeforeCommits, scenes::reader(), READS);
}

#[test]
fn a_gap_that_is_not_asked_for_raises_a_false_alarm() {
    breaks(Fault::GapNotAskedFor, scenes::reader_paged(), READS);
}

#[test]
fn a_single_retry_is_not_enough() {
    breaks(Fault::SingleRetry, scenes::reader_copies(), READS);
}
