//! The protocol as it is: every state of every scene is reached, and none breaks a promise.

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::Config;
use crate::promises::DELETED;
use crate::scenes;
use crate::world::{Action, Protocol};

/// The shortest way to a broken promise.
fn shortest(config: Config, fact: &'static str) -> Vec<Action> {
    let search = Protocol::new(config).checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let path = search.spawn_bfs().join().discovery(fact);
    path.expect("what was found once is found again").into_actions()
}

/// Searches a scene to its end. `least` is a number of states below which the scene has lost its meaning.
fn hold(config: Config, least: usize) {
    let name = config.name;
    let checker = Protocol::new(config.clone()).checker().threads(1).spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("{name}: {states} states, at most {} steps", checker.max_depth());
    let mut broken = checker.discoveries();
    assert!(broken.remove(DELETED).is_some(), "{name}: nothing is ever deleted");
    if let Some(fact) = broken.into_keys().next() {
        panic!("{name}: broken: {fact}\n{:#?}", shortest(config, fact));
    }
    assert!(states >= least, "{name}: {states} states, once there were {least}");
}

#[test]
fn two_writers_and_two_collectors_keep_every_promise() {
    hold(scenes::writers(), 650_000);
}

#[test]
fn two_collectors_and_two_plans_keep_every_promise() {
    hold(scenes::plans(), 1_800_000);
}

#[test]
fn of_two_copies_one_stays() {
    hold(scenes::copies(), 2_800);
}

#[test]
fn a_repack_loses_nothing() {
    hold(scenes::repack(), 29_000);
}

#[test]
fn what_is_recalled_is_whole() {
    hold(scenes::recall(), 850_000);
}

#[test]
fn a_reader_finds_all_while_packs_go() {
    hold(scenes::reader(), 70_000);
}

#[test]
fn a_reader_finds_all_by_lists_that_take_time() {
    hold(scenes::reader_paged(), 57_000);
}

#[test]
fn a_reader_finds_the_last_of_three_copies() {
    hold(scenes::reader_copies(), 22_000);
}

#[test]
fn a_plan_of_any_packs_does_no_harm() {
    hold(scenes::any(), 270_000);
}

#[test]
fn two_plans_of_any_packs_do_no_harm() {
    hold(scenes::any_twice(), 850_000);
}

#[test]
fn a_commit_without_an_answer_is_found_again() {
    hold(scenes::doubt(), 195_000);
}

#[test]
fn a_cache_is_filtered() {
    hold(scenes::runs(), 4_900);
}

#[test]
fn lists_that_take_time_do_no_harm() {
    hold(scenes::paged(), 72_000);
}

#[test]
fn requests_that_arrive_twice_do_no_harm() {
    hold(scenes::echo(), 650_000);
}

#[test]
fn late_deltas_do_no_harm() {
    hold(scenes::late(), 190_000);
}

#[test]
fn late_deltas_and_lists_that_take_time_do_no_harm() {
    hold(scenes::paged_late(), 160_000);
}

#[test]
fn damage_costs_no_more_than_what_it_has_taken() {
    hold(scenes::damaged(), 175_000);
}

#[test]
fn what_is_damaged_before_its_commit_is_not_committed_by_who_has_read_of_it() {
    hold(scenes::damaged_upload(), 220_000);
}

#[test]
fn a_history_that_begins_anew_loses_nothing() {
    hold(scenes::anew(), 740_000);
}

/// Only with KIST_MODEL=deep: 130 million states in a quarter of an hour, and a gigabyte of memory.
#[test]
fn larger_scenes_keep_every_promise() {
    if std::env::var("KIST_MODEL").is_ok_and(|value| value == "deep") {
        for config in scenes::deep() {
            hold(config, 0);
        }
    }
}
