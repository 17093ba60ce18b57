//! The store between all processes. Each request waits until the driver grants it, and the driver draws which is next.
//!
//! A process that has died asks for nothing more, but what it had asked for may still take place. A request whose answer is
//! lost may have had its effect, may have it later, or never.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;
use std::time::{Duration, UNIX_EPOCH};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use kist::store::{Layer, Layered, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::sync::{Notify, oneshot};

use crate::draw::Draw;
use crate::time::Since;

/// Lines of the trace that a failure shows.
const TAIL: usize = 60;
/// Most requests take milliseconds, some take seconds.
const SLOW_PER_MILLE: u64 = 30;

/// How often requests fail, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Of creates: kist makes sense of their answers itself.
    pub create: u64,
    /// Of all others: what is tried again below kist fails seldom.
    pub other: u64,
    /// How long lists do not show what was written.
    pub lag: Duration,
}

/// A process, from its start to its end or its death.
pub struct Process {
    name: String,
    number: u32,
    /// How often it is chosen, against the others.
    weight: u64,
    life: Mutex<Life>,
    died: Notify,
}

struct Life {
    asked: u64,
    /// Requests until it is killed.
    left: Option<u64>,
    is_dead: bool,
}

enum Request {
    Put(Path, PutPayload, PutOptions),
    Get(Path, GetOptions),
    Delete(Path),
    List(Option<Path>),
}

enum Answer {
    Put(PutResult),
    Got(GetResult),
    Deleted,
    Listed(Vec<ObjectMeta>),
}

struct Waiting {
    process: Arc<Process>,
    request: Request,
    /// None: nobody waits for the answer any more.
    answer: Option<oneshot::Sender<Result<Answer>>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// No effect, and an error.
    Before,
    /// The effect, and an error.
    After,
    /// An error now, and the effect later.
    Late,
    /// The key is said to be taken.
    Conflict,
    /// The process dies of it; with the effect or without.
    Death(bool),
}

/// What was done, so far as it matters to those who look on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What others may now see as another repository: log, checkpoint, commit, something deleted.
    Turn,
    Other,
}

struct State {
    draw: Draw,
    rates: Rates,
    /// By process and request: which of two threads of a process was first to ask is not from the seed.
    waiting: BTreeMap<(u32, String, u64), Waiting>,
    late: Vec<Waiting>,
    written: HashMap<Path, Duration>,
    steps: u64,
    trace: blake3::Hasher,
    tail: VecDeque<String>,
    processes: u32,
}

pub struct Sea {
    pub beneath: Arc<InMemory>,
    pub since: Since,
    inner: Arc<dyn ObjectStore>,
    runtime: ThreadId,
    arrived: Notify,
    state: Mutex<State>,
}

impl Sea {
    /// Made on the runtime's only thread.
    pub fn new(draw: Draw, rates: Rates) -> Arc<Self> {
        let beneath = Arc::new(InMemory::new());
        let state = State {
            draw,
            rates,
            waiting: BTreeMap::new(),
            late: Vec::new(),
            written: HashMap::new(),
            steps: 0,
            trace: blake3::Hasher::new(),
            tail: VecDeque::new(),
            processes: 0,
        };
        Arc::new(Self {
            inner: beneath.clone(),
            beneath,
            since: Since::now(),
            runtime: std::thread::current().id(),
            arrived: Notify::new(),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A process that is killed after so many requests, and its way to the store.
    pub fn process(self: &Arc<Self>, name: &str, weight: u64, left: Option<u64>) -> (Arc<Process>, Store) {
        let mut state = self.state();
        state.processes += 1;
        let process = Arc::new(Process {
            name: format!("{name}#{}", state.processes),
            number: state.processes,
            weight,
            life: Mutex::new(Life { asked: 0, left, is_dead: false }),
            died: Notify::new(),
        });
        drop(state);
        let line = Line { sea: self.clone(), process: process.clone() };
        (process, Store::over(Layered::wrap(line)))
    }

    pub fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    /// Writes down what an actor has to say.
    pub fn note(&self, line: String) {
        let millis = self.since.elapsed().as_millis();
        self.state().note(format!("{millis:>10} ms  {line}"));
    }

    /// The hash of all that was done, and how many steps that were.
    pub fn trace(&self) -> (blake3::Hash, u64) {
        let state = self.state();
        (state.trace.finalize(), state.steps)
    }

    pub fn tail(&self) -> String {
        self.state().tail.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits until everybody waits, lets a drawn time go by, and grants one request.
    pub async fn step(&self) -> Step {
        while self.state().waiting.is_empty() {
            self.arrived.notified().await;
        }
        let millis = {
            let state = &mut *self.state();
            match state.draw.per_mille(SLOW_PER_MILLE) {
                true => 1 + state.draw.below(4_000),
                false => 1 + state.draw.below(40),
            }
        };
        // The clock goes on only when no task can run and no thread blocks: by then all have asked.
        crate::time::wait(Duration::from_millis(millis)).await;
        let Some((waiting, fate)) = self.state().choose() else { return Step::Other };
        self.grant(waiting, fate).await
    }

    async fn grant(&self, waiting: Waiting, fate: Fate) -> Step {
        let Waiting { process, request, answer } = waiting;
        let is_turn = request.is_turn();
        self.note(format!("{:<14} {request} {fate:?}", process.name));
        if let Fate::Death(_) = fate {
            process.life.lock().unwrap().is_dead = true;
            process.died.notify_one();
        }
        let failed = |kind: ErrorKind| Error::Generic {
            store: "sim",
            source: Box::new(io::Error::new(kind, "drawn")),
        };
        let told = match fate {
            Fate::Fine => self.perform(request).await,
            Fate::Before | Fate::Death(false) => Err(failed(ErrorKind::ConnectionReset)),
            Fate::After | Fate::Death(true) => {
                drop(self.perform(request).await);
                Err(failed(ErrorKind::TimedOut))
            }
            Fate::Conflict => {
                Err(Error::AlreadyExists { path: request.path(), source: "another is at it".into() })
            }
            Fate::Late => {
                self.state().late.push(Waiting { process, request, answer: None });
                Err(failed(ErrorKind::TimedOut))
            }
        };
        if let Some(answer) = answer {
            // A process that was killed does not listen any more.
            let _ = answer.send(told);
        }
        if is_turn { Step::Turn } else { Step::Other }
    }

    async fn perform(&self, request: Request) -> Result<Answer> {
        let now = self.since.elapsed();
        match request {
            Request::Put(path, payload, options) => {
                let put = self.inner.put_opts(&path, payload, options).await?;
                self.state().written.insert(path, now);
                Ok(Answer::Put(put))
            }
            Request::Get(path, options) => Ok(Answer::Got(self.inner.get_opts(&path, options).await?)),
            Request::Delete(path) => self.inner.delete(&path).await.map(|()| Answer::Deleted),
            Request::List(prefix) => {
                let mut listed: Vec<ObjectMeta> = self.inner.list(prefix.as_ref()).try_collect().await?;
                let state = self.state();
                listed.retain(|meta| {
                    now >= state.written.get(&meta.location).copied().unwrap_or_default() + state.rates.lag
                });
                for meta in &mut listed {
                    let written = state.written.get(&meta.location).copied().unwrap_or_default();
                    let begin = Duration::from_nanos(self.since.time().0 as u64) - now;
                    meta.last_modified = (UNIX_EPOCH + begin + written).into();
                }
                Ok(Answer::Listed(listed))
            }
        }
    }

    /// What nobody waits for any more takes place, or never will.
    pub async fn settle(&self) {
        loop {
            let next = self.state().late.pop();
            let Some(Waiting { request, .. }) = next else { return };
            if self.state().draw.per_mille(500) {
                self.note(format!("at last        {request}"));
                drop(self.perform(request).await);
            }
        }
    }
}

impl State {
    fn note(&mut self, line: String) {
        self.steps += 1;
        self.trace.update(line.as_bytes());
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn choose(&mut self) -> Option<(Waiting, Fate)> {
        if !self.late.is_empty() && self.draw.per_mille(40) {
            let at = self.draw.below(self.late.len() as u64) as usize;
            return Some((self.late.swap_remove(at), Fate::Fine));
        }
        let total: u64 = self.waiting.values().map(|waiting| waiting.process.weight).sum();
        let mut drawn = self.draw.below(total.max(1));
        let key = self.waiting.iter().find_map(|(key, waiting)| {
            let is_it = drawn < waiting.process.weight;
            drawn = drawn.saturating_sub(waiting.process.weight);
            is_it.then(|| key.clone())
        })?;
        let waiting = self.waiting.remove(&key)?;
        let fate = self.fate(&waiting);
        Some((waiting, fate))
    }

    fn fate(&mut self, waiting: &Waiting) -> Fate {
        let mut life = waiting.process.life.lock().unwrap();
        if life.is_dead {
            return *self.draw.pick(&[Fate::After, Fate::Before, Fate::Late]);
        }
        if let Some(left) = &mut life.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Fate::Death(self.draw.per_mille(500));
            }
        }
        let (rate, fates): (u64, &[Fate]) = match &waiting.request {
            Request::Put(_, _, options) if options.mode == PutMode::Create => {
                (self.rates.create, &[Fate::Before, Fate::After, Fate::Late, Fate::Conflict])
            }
            Request::Put(..) | Request::Delete(_) => {
                (self.rates.other, &[Fate::Before, Fate::After, Fate::Late])
            }
            Request::Get(..) | Request::List(_) => (self.rates.other, &[Fate::Before]),
        };
        match self.draw.per_mille(rate) {
            true => *self.draw.pick(fates),
            false => Fate::Fine,
        }
    }
}

impl Request {
    fn path(&self) -> String {
        match self {
            Request::Put(path, ..) | Request::Get(path, _) | Request::Delete(path) => path.to_string(),
            Request::List(prefix) => prefix.as_ref().map(Path::to_string).unwrap_or_default(),
        }
    }

    fn is_turn(&self) -> bool {
        let told = ["gc/", "checkpoints/", "commits/"];
        match self {
            Request::Put(path, ..) => told.iter().any(|folder| path.as_ref().starts_with(folder)),
            Request::Delete(_) => true,
            Request::Get(..) | Request::List(_) => false,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Request::Put(_, _, options) if options.mode == PutMode::Create => "create",
            Request::Put(..) => "put",
            Request::Get(..) => "get",
            Request::Delete(_) => "delete",
            Request::List(_) => "list",
        };
        write!(f, "{verb:<6} {}", self.path())
    }
}

impl Process {
    /// Ends when the process is killed.
    pub async fn died(&self) {
        self.died.notified().await;
    }
}

/// One process's way to the store.
struct Line {
    sea: Arc<Sea>,
    process: Arc<Process>,
}

impl Line {
    async fn ask(&self, request: Request) -> Result<Answer> {
        let denied = |path: String| Error::PermissionDenied { path, source: "the process is dead".into() };
        // What blocks a thread blocks the clock as well: it can't wait for its turn, and nothing else runs meanwhile.
        if std::thread::current().id() != self.sea.runtime {
            return self.sea.perform(request).await;
        }
        let (told, answer) = oneshot::channel();
        {
            let mut life = self.process.life.lock().unwrap();
            if life.is_dead {
                return Err(denied(request.path()));
            }
            life.asked += 1;
            let place = (self.process.number, request.to_string(), life.asked);
            let waiting = Waiting { process: self.process.clone(), request, answer: Some(told) };
            self.sea.state().waiting.insert(place, waiting);
        }
        self.sea.arrived.notify_one();
        answer.await.unwrap_or_else(|_| Err(denied(String::new())))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.process.name)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sim")
    }
}

impl Layer for Line {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.sea.inner
    }

    fn put(&self, path: Path, payload: PutPayload, opts: PutOptions) -> BoxFuture<'_, Result<PutResult>> {
        Box::pin(async move {
            match self.ask(Request::Put(path, payload, opts)).await? {
                Answer::Put(put) => Ok(put),
                _ => unreachable!("a put is answered as one"),
            }
        })
    }

    fn get(&self, path: Path, options: GetOptions) -> BoxFuture<'_, Result<GetResult>> {
        Box::pin(async move {
            match self.ask(Request::Get(path, options)).await? {
                Answer::Got(got) => Ok(got),
                _ => unreachable!("a get is answered as one"),
            }
        })
    }

    fn delete(&self, path: Path) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.ask(Request::Delete(path)).await.map(drop) })
    }

    fn list(&self, prefix: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let line = Line { sea: self.sea.clone(), process: self.process.clone() };
        let listing = async move {
            let listed = match line.ask(Request::List(prefix)).await {
                Ok(Answer::Listed(listed)) => listed.into_iter().map(Ok).collect(),
                Ok(_) => unreachable!("a list is answered as one"),
                Err(error) => vec![Err(error)],
            };
            stream::iter(listed)
        };
        stream::once(listing).flatten().boxed()
    }
}
