//! The damage matrix: each kind of object, damaged in each way, and each verb after it.

mod exceptions;
mod objects;
mod past;
mod verbs;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kist::store::Store;
use kist::store::testing::{Log, Recording};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::matrix::exceptions::EXCEPTIONS;
use crate::matrix::objects::{DAMAGES, Damage, Finder, KINDS, Kind, Object};
use crate::matrix::past::Past;
use crate::matrix::verbs::{Acted, Rule, VERBS, Verb, act, look};
use crate::scene::over;

/// Which bytes are flipped. KIST_MATRIX_SEED=n draws others.
const SEED: u64 = 1;
/// Cells at the same time.
const PARALLEL: usize = 4;
/// Whatever takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// One of the matrix.
#[derive(Clone, Copy)]
struct Cell {
    kind: Kind,
    how: Damage,
    verb: Verb,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, how, verb } = self;
        write!(f, "{kind:?} {how:?}, {verb:?}")
    }
}

/// Damages, does, puts the object back in place, and looks.
async fn run(past: &Past, object: &Object, damaged: Option<Bytes>, verb: Verb) -> Acted {
    let beneath = past.scene.beneath.fork();
    let store = over(beneath.clone());
    match &damaged {
        Some(bytes) => store.put(&object.key, bytes.clone()).await.unwrap(),
        None => store.delete(&object.key).await.unwrap(),
    }
    let log = Log::default();
    let recorded = Store::over(Recording::over(Arc::new(beneath), &log));
    let mut acted = act(past, object, verb, recorded).await;
    // Who has changed nothing has made nothing worse.
    if !log.effects().is_empty() {
        put_back(object, damaged, &store, &mut acted).await;
        look(past, &store, &mut acted).await;
    }
    acted
}

/// What a verb has put where the object was missing stays: whoever creates the object again meets that.
async fn put_back(object: &Object, damaged: Option<Bytes>, store: &Store, acted: &mut Acted) {
    let there = store.get(&object.key).await.ok();
    if there.is_none() || there == damaged {
        store.put(&object.key, object.whole.clone()).await.unwrap();
    } else {
        acted.said += " (its place is taken)";
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_damaged_each_verb_of_the_matrix_does_its_work() {
    let past = Past::new().await;
    let object = Finder::new(&past).await.object(Kind::LogOld).await;
    for verb in VERBS {
        let acted = run(&past, &object, Some(object.whole.clone()), verb).await;
        let nothing = vec![(Rule::Told, "nothing is found".to_owned())];
        let expected = if verb == Verb::CheckData { nothing } else { vec![] };
        assert!(
            !acted.is_refused && acted.breaches == expected,
            "{verb:?}: {} {:?}",
            acted.said,
            acted.breaches
        );
    }
}

/// What a cell has come to.
async fn outcome(past: Arc<Past>, cell: Cell, object: Arc<Object>, seed: u64) -> Vec<(Rule, String)> {
    let damaged = object.damaged(cell.how, seed);
    let runtime = Handle::current();
    // A restore stays on its thread.
    let running = move || runtime.block_on(timeout(DEADLINE, run(&past, &object, damaged, cell.verb)));
    match spawn_blocking(running).await {
        Ok(Ok(acted)) => {
            println!("{cell}: {:.400}", acted.said);
            acted.breaches
        }
        Ok(Err(_)) => vec![(Rule::Ends, "it hangs".into())],
        Err(panic) => vec![(Rule::Ends, panic.to_string())],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_damaged_no_verb_gives_what_is_false_or_makes_it_worse() {
    let seed = std::env::var("KIST_MATRIX_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));
    println!("seed {seed}: again with KIST_MATRIX_SEED={seed}");
    let past = Arc::new(Past::new().await);
    let finder = Finder::new(&past).await;
    let mut cells = Vec::new();
    for kind in KINDS {
        let object = Arc::new(finder.object(kind).await);
        println!("{kind:?}: {}, {} bytes, needed by {:?}", object.key, object.whole.len(), object.needed_by);
        for (how, verb) in DAMAGES.into_iter().flat_map(|how| VERBS.map(|verb| (how, verb))) {
            cells.push((Cell { kind, how, verb }, object.clone()));
        }
    }
    let running = futures::stream::iter(cells).map(|(cell, object)| {
        let outcome = outcome(past.clone(), cell, object, seed);
        async move { (cell, outcome.await) }
    });
    let mut running = running.buffered(PARALLEL);
    let (mut breaches, mut met) = (Vec::new(), vec![false; EXCEPTIONS.len()]);
    while let Some((cell, found)) = running.next().await {
        for (rule, why) in found {
            match EXCEPTIONS.iter().position(|exception| exception.covers(&cell, rule)) {
                Some(at) => {
                    met[at] = true;
                    println!("{cell}: {rule:?} is not so, {}: {why:.400}", EXCEPTIONS[at].why);
                }
                None => breaches.push(format!("{cell}: {rule:?} is not so: {why}")),
            }
        }
    }
    let unmet = EXCEPTIONS.iter().zip(met).filter(|(_, met)| !met).map(|(exception, _)| exception);
    breaches.extend(unmet.map(|exception| format!("it holds now: {exception:?}")));
    assert!(breaches.is_empty(), "seed {seed}:\n{}", breaches.join("\n"));
}
