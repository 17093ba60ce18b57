//! One simulation, from its seed to the proof that nothing is left undone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{LocalBoxFuture, try_join_all};
use kist::crypto::kdf::Params;
use kist::format::config::{Chunker, ChunkerKind};
use kist::format::keys::{Role, Trust};
use kist::repo::{self, Degrade, Init, Limits, Log, NewKey, PruneSettings, Reading, Unlock, chain};
use kist::store::Store;

use crate::actors::{self, Actor, back_up, checked};
use crate::draw::Draw;
use crate::oracle::{Ledger, Oracle, open_fork};
use crate::sea::{Rates, Sea, Step};
use crate::time::{wait, world};

/// Steps between two looks of the oracle, where nothing has happened that others can see.
const LOOK_EVERY: u64 = 200;
/// Prunes after which nothing is left that nobody needs: one goes on with what was begun, one condemns what is left,
/// one what was repacked by it.
const PRUNES: usize = 4;
/// No simulation that works has as many.
const STEPS: u64 = 60_000;
/// Longer than any pause.
const LONG: Duration = Duration::from_secs(10 * 24 * 3600);

/// How a simulation has gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone {
    pub trace: blake3::Hash,
    pub steps: u64,
    pub told: u64,
    pub fenced: u64,
    pub resumed: u64,
    pub prunes: u64,
    pub swept: u64,
    pub repacked: u64,
    pub deaths: u64,
}

/// An actor at work.
pub type Acting = LocalBoxFuture<'static, Result<(), String>>;

/// Why one has not gone well, and the last that was done.
#[derive(Debug)]
pub struct Broken {
    pub why: String,
    pub tail: String,
}

/// Runs on a thread of its own, and waits for it: nothing else runs meanwhile, and no time goes by.
pub fn off_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// A runtime whose clock is virtual, with one thread.
pub fn virtually<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(work)
}

/// Runs the simulation of a seed.
pub fn simulate(seed: u64) -> Result<Gone, Broken> {
    virtually(async {
        let scene = Scene::new(seed).await;
        match scene.run().await {
            Ok(()) => Ok(scene.gone()),
            Err(why) => Err(Broken { why, tail: scene.sea.tail() }),
        }
    })
}

pub fn init() -> Init {
    let chunker = Chunker {
        kind: ChunkerKind::KeyedFastCdc,
        min_bytes: 1024,
        avg_bytes: 4096,
        max_bytes: 16 * 1024,
        bundle_below_bytes: 2048,
    };
    Init { passphrase: None, cost: Params::CHEAP, chunker, degrade: Degrade::Refuse, like: None }
}

/// All that one simulation is made of.
pub struct Scene {
    pub sea: Arc<Sea>,
    pub owner: Unlock,
    pub writers: Vec<Unlock>,
    pub maintainer: Unlock,
    pub ledger: Arc<Mutex<Ledger>>,
    pub draw: Mutex<Draw>,
    oracle: Mutex<Oracle>,
    /// Steps that the oracle leaves out after each look; 1 in runs by hand.
    every: u64,
}

impl Scene {
    pub async fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let rates =
            Rates { create: *draw.pick(&[0, 50, 150]), other: *draw.pick(&[0, 1, 4]), lag: Duration::ZERO };
        let sea = Sea::new(draw.fork(), rates);
        let store = Store::over(sea.beneath.clone());
        let world = world(&sea.since, draw.number());
        let (owner, key) = repo::init(store, &world, init()).await.unwrap();
        let mut writers = Vec::new();
        for number in 0..1 + draw.below(3) {
            let trust = *draw.pick(&[Trust::Own, Trust::Shared]);
            let new = NewKey { trust, ..NewKey::of(Role::Writer, &format!("writer-{number}")) };
            writers.push(Unlock::KeyFile(repo::add_key(&owner, &new).await.unwrap()));
        }
        let new = NewKey::of(Role::Maintainer, "maintainer");
        let maintainer = Unlock::KeyFile(repo::add_key(&owner, &new).await.unwrap());
        let every = std::env::var("KIST_SIM_EVERY").map_or(LOOK_EVERY, |every| every.parse().unwrap());
        Self {
            sea,
            owner: Unlock::KeyFile(key.unwrap()),
            writers,
            maintainer,
            ledger: Arc::default(),
            oracle: Mutex::default(),
            draw: Mutex::new(draw),
            every,
        }
    }

    fn actor(&self, name: String, key: &Unlock, rounds: u64) -> Actor {
        let mut draw = self.draw.lock().unwrap().fork();
        let kill = *draw.pick(&[0, 200, 500]);
        let (sea, ledger, key) = (self.sea.clone(), self.ledger.clone(), key.clone());
        Actor { sea, ledger, name, key, draw, rounds, kill }
    }

    async fn run(&self) -> Result<(), String> {
        self.history().await?;
        let end = async { self.end().await };
        tokio::select! {
            biased;
            ended = end => ended?,
            failed = self.drive() => return failed,
        }
        self.look()
    }

    /// All actors work, until each has done what it wanted.
    pub async fn history(&self) -> Result<(), String> {
        let actors = self.cast();
        self.play(actors).await?;
        self.sea.settle().await;
        self.sea.set_rates(Rates::default());
        wait(LONG).await;
        Ok(())
    }

    /// Sets all actors to work.
    fn cast(&self) -> Vec<Acting> {
        let mut actors: Vec<Acting> = Vec::new();
        let below = |end| self.draw.lock().unwrap().below(end);
        for (number, key) in self.writers.iter().enumerate() {
            // Two may share a key.
            for twin in 0..1 + below(2) {
                let actor = self.actor(format!("writer {number}.{twin}"), key, 3 + below(5));
                actors.push(Box::pin(actors::writer(actor, number as u64)));
            }
        }
        for number in 0..1 + below(3) {
            let actor = self.actor(format!("collector {number}"), &self.maintainer, 2 + below(5));
            actors.push(Box::pin(actors::collector(actor)));
        }
        let keeper = self.actor("keeper".into(), &self.maintainer, 4 + below(8));
        actors.push(Box::pin(actors::keeper(keeper)));
        let checker = self.actor("checker".into(), &self.maintainer, below(3));
        actors.push(Box::pin(actors::checker(checker)));
        actors
    }

    pub async fn play(&self, actors: Vec<Acting>) -> Result<(), String> {
        tokio::select! {
            biased;
            ended = try_join_all(actors) => ended.map(drop),
            failed = self.drive() => failed,
        }
    }

    /// Grants requests for ever, and looks at what has come of them.
    async fn drive(&self) -> Result<(), String> {
        let mut idle = 0;
        loop {
            let step = self.sea.step().await;
            idle += 1;
            if step == Step::Turn || idle >= self.every {
                idle = 0;
                self.look()?;
            }
            if self.sea.trace().1 > STEPS {
                return Err("it does not come to an end".into());
            }
        }
    }

    /// On a runtime of its own, which this one waits for: nobody does anything meanwhile.
    fn look(&self) -> Result<(), String> {
        let (mut oracle, ledger) = (self.oracle.lock().unwrap(), self.ledger.lock().unwrap());
        let (oracle, ledger) = (&mut *oracle, &*ledger);
        off_runtime(|| virtually(oracle.look(&self.sea, &self.owner, ledger)))
    }

    /// With no faults any more: one prune ends what was begun, the space comes back, and everybody can go on.
    async fn end(&self) -> Result<(), String> {
        let (_, store) = self.sea.process("the end", 1, None);
        let world = world(&self.sea.since, self.draw.lock().unwrap().number());
        let failed = |error: repo::Error| format!("at the end: {}", chain(&error));
        let repo = repo::open(store, &world, &self.maintainer, None).await.map_err(failed)?;
        let settings = PruneSettings { silence: Duration::ZERO, ..Default::default() };
        repo::prune(&repo, settings, &|_| {}).await.map_err(failed)?;
        if let Some(plan) = Log::load(&repo).await.map_err(failed)?.plan {
            return Err(format!("a prune has left the plan of slot {} open", plan.slot));
        }
        self.is_clean(&repo, settings).await?;
        let told: Vec<_> = self.ledger.lock().unwrap().told.keys().copied().collect();
        let there = repo::Snapshots::load(&repo).await.map_err(failed)?.all;
        let going: Vec<_> =
            told.into_iter().filter(|id| there.iter().any(|snapshot| snapshot.id == *id)).skip(1).collect();
        self.ledger.lock().unwrap().forgetting.extend(going.iter().copied());
        // Whoever held a snapshot may have died before it lifted that.
        let holds: Vec<_> = Log::load(&repo).await.map_err(failed)?.state.holds.keys().copied().collect();
        if !holds.is_empty() {
            repo::lift(&repo, &holds).await.map_err(failed)?;
        }
        repo::forget(&repo, &going).await.map_err(failed)?;
        self.is_clean(&repo, settings).await?;
        self.goes_on().await
    }

    /// Prunes until there is nothing to be done, and then nothing is left that nobody needs.
    async fn is_clean(&self, repo: &repo::Repository, settings: PruneSettings) -> Result<(), String> {
        let failed = |error: repo::Error| format!("at the end: {}", chain(&error));
        for _ in 0..PRUNES {
            repo::prune(repo, settings, &|_| {}).await.map_err(failed)?;
        }
        let limits = Limits::default();
        let plan = repo::prune_plan(repo, limits).await.map_err(failed)?;
        let plan = plan.ok_or("the last prune has left its plan open")?;
        if !plan.unused.is_empty() || plan.repacked().count() > 0 {
            return Err(format!("{PRUNES} prunes have left what nobody needs: {plan:?}"));
        }
        off_runtime(|| virtually(self.is_sound()))
    }

    /// A check that reads everything finds nothing, and every pack that is there is indexed.
    async fn is_sound(&self) -> Result<(), String> {
        let failed = |error: repo::Error| format!("at the end: {}", chain(&error));
        let whole = open_fork(&self.sea, &self.owner, 0).await?;
        let (report, findings) = checked(&whole, Some(Reading::default())).await.map_err(failed)?;
        let packs = whole.store.list("packs").await.map_err(|error| chain(&error))?.len() as u64;
        if packs != report.packs {
            return Err(format!("there are {packs} packs, and the index names {}", report.packs));
        }
        match findings.is_empty() {
            true => Ok(()),
            false => Err(format!("at the end a check finds {findings:?}")),
        }
    }

    /// Each writer backs up once more.
    async fn goes_on(&self) -> Result<(), String> {
        for (host, key) in self.writers.iter().enumerate() {
            let (_, store) = self.sea.process("once more", 1, None);
            let mut draw = self.draw.lock().unwrap().fork();
            let world = world(&self.sea.since, draw.number());
            let tree = crate::trees::sown(&mut draw);
            let number = self.ledger.lock().unwrap().begin(&tree);
            let work = async {
                let repo = repo::open(store, &world, key, None).await?;
                back_up(&repo, draw, &tree, number, host as u64).await
            };
            let (id, _) = work.await.map_err(|error| format!("once more: {}", chain(&error)))?;
            self.ledger.lock().unwrap().told.insert(id, number);
        }
        Ok(())
    }

    fn gone(&self) -> Gone {
        let ((trace, steps), ledger) = (self.sea.trace(), self.ledger.lock().unwrap());
        Gone {
            trace,
            steps,
            told: ledger.told.len() as u64,
            fenced: ledger.fenced,
            resumed: ledger.resumed,
            prunes: ledger.prunes,
            swept: ledger.swept,
            repacked: ledger.repacked,
            deaths: ledger.deaths,
        }
    }
}
