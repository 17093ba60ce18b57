//! The state of everything, and every step that can follow: the model that stateright explores.

use stateright::{Model, Property};

use crate::collector::{Collector, CollectorAt};
use crate::config::{Config, Proposal};
use crate::log::Entry;
use crate::promises;
use crate::reader::{Reader, ReaderAt};
use crate::sets::{Set, has, members, one};
use crate::store::Store;
use crate::writer::{Writer, WriterAt};

/// Writers that there can be.
pub const WRITERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub store: Store,
    pub writers: [Writer; WRITERS],
    pub collectors: [Collector; 2],
    pub reader: Reader,
    pub echoes: u8,
}

/// One step of one process: what it is about to do, and the choice that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Writer(usize, WriterAt, u8),
    Collector(usize, CollectorAt, u8),
    Reader(ReaderAt, u8),
    Forget(u8),
    Recall(u8),
    Damage(u8),
    Observe,
    /// The entry in a slot can't be read any more.
    Lose(u8),
    /// A request of earlier arrives once more: a pack, a delta, a commit.
    EchoPack(u8),
    EchoDelta(u8),
    EchoCommit(u8),
}

pub struct Protocol {
    pub config: Config,
    /// The same with plans without end, for one collector alone.
    pub alone: Config,
}

impl Protocol {
    pub fn new(config: Config) -> Self {
        let alone =
            Config { plans: Set::MAX, renews: 9, proposal: Proposal::Greedy, paged: false, ..config.clone() };
        Protocol { config, alone }
    }

    fn maintain(&self, store: &Store, actions: &mut Vec<Action>) {
        let count = |is: fn(&Entry) -> bool| store.log.count(is);
        if store.log.is_full() || self.config.forgets == 0 || store.is_closed() {
            return;
        }
        let fresh = store.fresh(&self.config);
        if count(|entry| matches!(entry, Entry::Forget(_))) < self.config.forgets {
            let may = fresh.counted & self.config.forgettable;
            actions.extend(members(may).map(Action::Forget));
        }
        if count(|entry| matches!(entry, Entry::Recall(_))) < self.config.recalls {
            let may = fresh.meaning.forgotten & !fresh.meaning.gone & self.config.forgettable;
            actions.extend(members(may).map(Action::Recall));
        }
    }

    fn damage(&self, store: &Store, actions: &mut Vec<Action>) {
        if self.config.damage && store.damage.packs == 0 && !store.log.is_full() {
            actions.extend(members(store.packs).map(Action::Damage));
        }
    }

    fn lose(&self, store: &Store, actions: &mut Vec<Action>) {
        let count = |is: fn(&Entry) -> bool| store.log.count(is);
        if self.config.renews == 0 || count(|entry| matches!(entry, Entry::Lost { .. })) > 0 {
            return;
        }
        if count(|entry| matches!(entry, Entry::Observe)) == 0 && !store.log.is_full() {
            actions.push(Action::Observe);
        }
        let open = store.truth(&self.config, store.log.head).open;
        let may_be = |slot: &u8| *slot == open || store.log.entry(*slot) == Entry::Observe;
        actions.extend((1..=store.log.head).filter(may_be).map(Action::Lose));
    }

    fn echo(&self, world: &World, actions: &mut Vec<Action>) {
        let store = &world.store;
        if world.echoes == 0 {
            return;
        }
        for session in 0..store.sessions {
            let at = usize::from(session);
            if store.contents[at] != 0 && !has(store.packs, session) {
                actions.push(Action::EchoPack(session));
            }
            if store.named[at] != 0 && !has(store.deltas, session) {
                actions.push(Action::EchoDelta(session));
            }
            if has(store.committed, session) && !store.is_resolved(session) {
                actions.push(Action::EchoCommit(session));
            }
        }
    }

    fn apply(&self, world: &mut World, action: Action) {
        let config = &self.config;
        let store = &mut world.store;
        match action {
            Action::Writer(number, _, choice) => {
                world.writers[number].step(config, &config.writers[number], store, choice);
            }
            Action::Collector(number, _, choice) => world.collectors[number].step(config, store, choice),
            Action::Reader(_, choice) => world.reader.step(config, store, choice),
            Action::Forget(session) => store.log.push(Entry::Forget(session)),
            Action::Recall(session) => store.log.push(Entry::Recall(session)),
            Action::Damage(pack) => store.found_damaged(config, pack),
            Action::Observe => store.log.push(Entry::Observe),
            Action::Lose(slot) => store.log.lose(slot),
            Action::EchoPack(session) => store.packs |= one(session),
            Action::EchoDelta(session) => store.deltas |= one(session),
            Action::EchoCommit(session) => store.commits |= one(session),
        }
        if matches!(action, Action::EchoPack(_) | Action::EchoDelta(_) | Action::EchoCommit(_)) {
            world.echoes -= 1;
        }
    }

    /// Processes that are alike are put in order: who is who makes no difference.
    fn put_in_order(&self, world: &mut World) {
        if self.config.collectors == 2 {
            world.collectors.sort_unstable();
        }
        let tasks = &self.config.writers;
        if tasks.len() == 2 && tasks[0] == tasks[1] {
            world.writers[..2].sort_unstable();
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut writers = [Writer::default(); WRITERS];
        for (writer, tasks) in writers.iter_mut().zip(&self.config.writers) {
            *writer = Writer::new(tasks);
        }
        let collectors = [0, 1].map(|number| Collector::new(number < self.config.collectors));
        let mut world = World {
            store: self.config.start,
            writers,
            collectors,
            reader: Reader::new(self.config.reader),
            echoes: self.config.echoes,
        };
        self.put_in_order(&mut world);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let (config, store) = (&self.config, &world.store);
        let mut choices = Vec::new();
        for (number, writer) in world.writers.iter().enumerate() {
            writer.choices(config, store, &mut choices);
            actions.extend(choices.drain(..).map(|choice| Action::Writer(number, writer.at, choice)));
        }
        for (number, collector) in world.collectors.iter().enumerate() {
            if number == 1 && world.collectors[0] == *collector {
                continue;
            }
            collector.choices(config, store, &mut choices);
            actions.extend(choices.drain(..).map(|choice| Action::Collector(number, collector.at, choice)));
        }
        world.reader.choices(config, store, &mut choices);
        actions.extend(choices.drain(..).map(|choice| Action::Reader(world.reader.at, choice)));
        self.maintain(store, actions);
        self.damage(store, actions);
        self.lose(store, actions);
        self.echo(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = *world;
        self.apply(&mut next, action);
        self.put_in_order(&mut next);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
