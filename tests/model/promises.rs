//! What must hold in every state, and what must come about in some.

use stateright::Property;

use crate::collector::{Collector, CollectorAt};
use crate::config::Config;
use crate::log::Entry;
use crate::reader::ReaderAt;
use crate::sets::{has, members, only};
use crate::store::Store;
use crate::world::{Protocol, World};

pub const RESTORABLE: &str = "every record of a snapshot that counts is indexed and in a pack that is there";
pub const SOUND: &str =
    "what damage has not taken stays sound, and who has read of it takes nothing from there";
pub const COUNTED: &str = "a reader sees the snapshots that were committed and not forgotten, and no others";
pub const TOLD: &str = "what a writer was told is committed counts until it is forgotten";
pub const READS: &str = "a reader misses nothing of a snapshot that stays, and raises no alarm";
pub const MARKS: &str = "a mark can read each snapshot that stays";
pub const ONE_PLAN: &str = "at most one plan is open, and each entry has its effect";
pub const CLEANS: &str = "one collector alone can delete all that is dead, from here";
pub const DELETED: &str = "something that was forgotten is deleted";

/// What can be wrong in a state.
pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(RESTORABLE, |protocol: &Protocol, world: &World| {
            is_restorable(&protocol.config, &world.store)
        }),
        Property::always(SOUND, |protocol: &Protocol, world: &World| {
            is_sound(&protocol.config, &world.store)
        }),
        Property::always(COUNTED, |protocol: &Protocol, world: &World| {
            is_counted(&protocol.config, &world.store)
        }),
        Property::always(TOLD, |protocol: &Protocol, world: &World| is_true(&protocol.config, &world.store)),
        Property::always(READS, |_: &Protocol, world: &World| does_read(world)),
        Property::always(MARKS, |_: &Protocol, world: &World| {
            world.collectors.iter().all(|collector| collector.at != CollectorAt::Stuck)
        }),
        Property::always(ONE_PLAN, |protocol: &Protocol, world: &World| {
            let log = &world.store.log;
            let meaning = world.store.truth(&protocol.config, log.head);
            // To who has read a condemn that is lost, the owner's has no effect.
            let has_lost = log.has_behind(0, |entry| matches!(entry, Entry::Lost { .. }));
            (meaning.idle == 0 || has_lost) && meaning.second == 0
        }),
        Property::always(CLEANS, |protocol: &Protocol, world: &World| {
            !protocol.config.settle || cleans(&protocol.alone, world.store)
        }),
        Property::sometimes(DELETED, |_: &Protocol, world: &World| {
            let store = &world.store;
            let made = only(u8::MAX, |pack| store.contents[usize::from(pack)] != 0);
            let truth = store.log.at_sweep(u8::MAX, false);
            truth.swept & made & !store.packs != 0
        }),
    ]
}

/// By the ghosts: what was committed, in its epoch, and is not forgotten.
fn should_count(config: &Config, store: &Store) -> u8 {
    let truth = store.truth(config, store.log.head);
    only(store.committed, |session| store.is_valid(config, session)) & !truth.forgotten
}

fn is_restorable(config: &Config, store: &Store) -> bool {
    let fresh = store.fresh(config);
    store.is_readable(store.live(should_count(config, store)), fresh.indexed & store.packs)
}

fn is_sound(config: &Config, store: &Store) -> bool {
    let sound = store.chunks(store.fresh(config).indexed & store.packs & !store.damage.packs);
    let is_whole = |session: u8| store.needs[usize::from(session)] & !store.lost(session) & !sound == 0;
    members(should_count(config, store)).all(is_whole)
}

fn is_counted(config: &Config, store: &Store) -> bool {
    store.fresh(config).counted == should_count(config, store)
}

fn is_true(config: &Config, store: &Store) -> bool {
    let truth = store.truth(config, store.log.head);
    store.told & !truth.forgotten & !store.fresh(config).counted == 0
}

fn does_read(world: &World) -> bool {
    match world.reader.at {
        ReaderAt::Alarm => false,
        ReaderAt::Missing(snapshot) => {
            let truth = world.store.log.at_sweep(u8::MAX, false);
            has(truth.forgotten, snapshot)
        }
        _ => true,
    }
}

/// Steps that a collector alone may need.
const STEPS: usize = 150;

/// Lets everyone else die here and one collector work until it finds nothing more to do.
pub fn cleans(config: &Config, mut store: Store) -> bool {
    let mut collector = Collector::new(true);
    let mut choices = Vec::new();
    for _ in 0..STEPS {
        choices.clear();
        collector.choices(config, &store, &mut choices);
        let Some(choice) = choices.first() else {
            let is_kept = is_restorable(config, &store) && is_sound(config, &store);
            let is_right = is_counted(config, &store) && is_true(config, &store);
            return collector.at == CollectorAt::Begin && is_kept && is_right && is_clean(config, &store);
        };
        collector.step(config, &mut store, *choice);
    }
    false
}

/// No pack is there of which no record is live, and no commit that is gone.
fn is_clean(config: &Config, store: &Store) -> bool {
    let fresh = store.fresh(config);
    let live = store.live(fresh.counted);
    let is_dead = |pack: u8| store.contents[usize::from(pack)] & live == 0;
    let gone = fresh.meaning.gone & store.commits;
    !members(store.packs).any(is_dead) && !members(gone).any(|s| store.epoch_of(s) < fresh.meaning.ended)
}
