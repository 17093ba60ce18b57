//! Looks at what the walk will come to before it is there: folders listed, names asked for, on other threads.
//!
//! Most of a walk's time goes into `statx` and listing: into the kernel, which reads inodes from the disk, or asks a
//! server. That can be done side by side, while the walk itself goes through the tree in order. What was found out
//! ahead is what the walk would have found; it decides what to do with it.
//! What was found out more than a second ago, because the walk was held up meanwhile, is found out again.
//! Invariants: whoever needs what nobody has begun does it by himself, so no order of the work can block; the folders
//! that are open ahead, the names in them and what was asked for ahead are bounded, however large and deep the tree.

use std::any::Any;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::archive::folder::{self, FileId, Names};
use crate::archive::walk::attributes::is_folder;
use crate::world::Time;

/// Threads that look ahead. More than most machines' disks need; a network's latency wants them.
const SCOUTS: usize = 4;
/// Names that are asked for by one task.
const WINDOW_NAMES: usize = 256;
/// Windows of one folder that are asked for ahead.
const WINDOWS: usize = 4;
/// Folders that are listed ahead, for each folder on the way down to where the walk is.
pub(super) const FOLDERS: usize = 16;
/// The same for the whole walk: each is an open file.
pub(super) const ALL_FOLDERS: usize = 48;

/// A folder of more names is not listed ahead.
const NAMES: usize = 16 * 1024;
/// How long what was found out ahead is good for.
const FRESH_NANOS: i64 = 1_000_000_000;

/// Below so many levels a folder's names are asked for again when the walk comes back to it.
pub(super) const LEVELS: usize = 64;

type Stats = Vec<Result<Statx, Errno>>;

/// The threads; none where the system does not let us have any. They end when this is dropped.
pub(super) struct Scouts(Option<rayon::ThreadPool>);

impl Scouts {
    pub fn new() -> Self {
        let named = rayon::ThreadPoolBuilder::new().num_threads(SCOUTS).thread_name(|_| "kist-walk".into());
        Self(named.build().ok())
    }

    fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Ahead<T> {
        let task = Arc::new(Task { state: Mutex::new(State::Waiting(Box::new(work))), done: Condvar::new() });
        let asked = Arc::clone(&task);
        if let Some(threads) = &self.0 {
            threads.spawn(move || asked.run());
        }
        Ahead(task)
    }

    /// Lists `name` in `parent`. None where that is better done when it is needed.
    pub fn list(&self, parent: &Arc<OwnedFd>, name: &CStr, now: Time) -> AheadListing {
        let (parent, name) = (Arc::clone(parent), CString::from(name));
        let list = move || {
            let fd = Arc::new(folder::open_to_list(&parent, name.as_c_str()).ok()?);
            Listing::below(fd, NAMES, now).ok().flatten()
        };
        AheadListing { listing: self.ask(list), since: now }
    }
}

/// What is being found out.
pub(super) struct Ahead<T>(Arc<Task<T>>);

struct Task<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

enum State<T> {
    Waiting(Box<dyn FnOnce() -> T + Send>),
    Running,
    Done(Result<T, Box<dyn Any + Send>>),
    /// Taken, or not wanted any more.
    Over,
}

impl<T> Task<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work, unless somebody else has begun it.
    fn run(&self) {
        let work = match &mut *self.lock() {
            waiting @ State::Waiting(_) => std::mem::replace(waiting, State::Running),
            _ => return,
        };
        let State::Waiting(work) = work else { return };
        let done = catch_unwind(AssertUnwindSafe(work));
        let mut state = self.lock();
        if matches!(*state, State::Running) {
            *state = State::Done(done);
        }
        self.done.notify_all();
    }
}

impl<T> Ahead<T> {
    /// What was found; waits for it, or finds it out itself.
    pub fn get(self) -> T {
        self.0.run();
        let mut state = self.0.lock();
        loop {
            match std::mem::replace(&mut *state, State::Over) {
                State::Done(Ok(found)) => return found,
                State::Done(Err(panic)) => {
                    drop(state);
                    resume_unwind(panic)
                }
                other => *state = other,
            }
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        *self.0.lock() = State::Over;
    }
}

/// A folder that is being listed.
pub(super) struct AheadListing {
    listing: Ahead<Option<Listing>>,
    since: Time,
}

impl AheadListing {
    /// None if it is to be listed now.
    pub fn get(self, now: Time) -> Option<Listing> {
        if is_fresh(self.since, now) { self.listing.get() } else { None }
    }
}

fn is_fresh(since: Time, now: Time) -> bool {
    (0..FRESH_NANOS).contains(&now.0.saturating_sub(since.0))
}

/// An open folder, its names in byte order, and what the file system says of the first of them.
pub(super) struct Listing {
    pub fd: Arc<OwnedFd>,
    pub id: FileId,
    pub names: Arc<Names>,
    /// What has ended the list too early.
    pub error: Option<Errno>,
    first: Stats,
    since: Time,
}

impl Listing {
    pub fn of(fd: Arc<OwnedFd>, now: Time) -> Result<Self, Errno> {
        Ok(Self::below(fd, usize::MAX, now)?.expect("no folder has as many names"))
    }

    fn below(fd: Arc<OwnedFd>, most: usize, since: Time) -> Result<Option<Self>, Errno> {
        let id = FileId::of_open(&fd)?;
        let Some((names, error)) = Names::list_below(&fd, most) else { return Ok(None) };
        let first = stats(&fd, &names, 0);
        Ok(Some(Self { fd, id, names: Arc::new(names), error, first, since }))
    }

    /// To ask what the names are.
    pub fn looks(self) -> Looks {
        let next = self.first.len();
        Looks {
            names: self.names,
            start: 0,
            here: self.first,
            since: self.since,
            coming: VecDeque::new(),
            next,
        }
    }
}

fn stats(fd: &OwnedFd, names: &Names, start: usize) -> Stats {
    (start..names.len().min(start + WINDOW_NAMES))
        .map(|at| folder::stat(fd, names.get(at).expect("below the count")))
        .collect()
}

/// What the file system says of a folder's names, in order.
pub(super) struct Looks {
    pub names: Arc<Names>,
    /// Where the names of `here` begin.
    start: usize,
    here: Stats,
    /// When these were asked for.
    since: Time,
    /// The windows behind it, and when they were asked for.
    coming: VecDeque<(Time, Ahead<Stats>)>,
    /// The first name that was not asked for yet.
    next: usize,
}

impl Looks {
    /// For names that were not asked for.
    pub fn new(names: Names) -> Self {
        let names = Arc::new(names);
        Self { names, start: 0, here: Vec::new(), since: Time(0), coming: VecDeque::new(), next: 0 }
    }

    /// What the name at `at` is; `at` never goes back.
    pub fn at(
        &mut self,
        scouts: &Scouts,
        fd: &Arc<OwnedFd>,
        at: usize,
        clock: &dyn Fn() -> Time,
    ) -> Result<Statx, Errno> {
        let now = clock();
        if !is_fresh(self.since, now) {
            self.forget(at);
        }
        while at >= self.start + self.here.len() {
            self.ask(scouts, fd, now);
            let Some((since, window)) = self.coming.pop_front() else { return Err(Errno::NOENT) };
            if is_fresh(since, now) {
                self.start += self.here.len();
                (self.here, self.since) = (window.get(), since);
            } else {
                self.forget(at);
            }
            self.ask(scouts, fd, now);
        }
        self.here[at - self.start]
    }

    /// Forgets what was found out, of the names from `at` on too.
    pub fn forget(&mut self, at: usize) {
        (self.start, self.next) = (at, at);
        self.here = Vec::new();
        self.coming.clear();
    }

    /// Whether the name at `at` is a folder, and on which device; only of names that come soon.
    pub fn known(&self, at: usize) -> Option<(bool, u64)> {
        let stat = self.here.get(at.checked_sub(self.start)?)?;
        Some(stat.as_ref().map_or((false, 0), |stat| (is_folder(stat), FileId::of(stat).device)))
    }

    fn ask(&mut self, scouts: &Scouts, fd: &Arc<OwnedFd>, now: Time) {
        while self.coming.len() < WINDOWS && self.next < self.names.len() {
            let (fd, names, start) = (Arc::clone(fd), Arc::clone(&self.names), self.next);
            self.coming.push_back((now, scouts.ask(move || stats(&fd, &names, start))));
            self.next += WINDOW_NAMES;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_folder_of_many_windows_is_told_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let count = 7 * WINDOW_NAMES as u64 + 3;
        for number in 0..count {
            File::create(dir.path().join(format!("{number:06}"))).unwrap().set_len(number).unwrap();
        }
        let scouts = Scouts::new();
        let fd = Arc::new(OwnedFd::from(File::open(dir.path()).unwrap()));
        let mut looks = Listing::of(Arc::clone(&fd), Time(0)).unwrap().looks();
        let clock = || Time(1);
        for number in 0..count {
            assert_eq!(looks.at(&scouts, &fd, number as usize, &clock).unwrap().stx_size, number);
            assert!(looks.coming.len() <= WINDOWS);
        }
        assert!(looks.at(&scouts, &fd, count as usize, &clock).is_err());
    }

    #[test]
    fn what_was_found_out_long_ago_is_found_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let count = 3 * WINDOW_NAMES;
        let file = |number: usize| dir.path().join(format!("{number:06}"));
        let grow =
            |size| (0..count).for_each(|number| File::create(file(number)).unwrap().set_len(size).unwrap());
        grow(1);
        let scouts = Scouts::new();
        let fd = Arc::new(OwnedFd::from(File::open(dir.path()).unwrap()));
        let mut looks = Listing::of(Arc::clone(&fd), Time(0)).unwrap().looks();
        let mut size = |at, now| looks.at(&scouts, &fd, at, &|| Time(now)).unwrap().stx_size;
        assert_eq!(size(0, 0), 1);
        grow(2);
        assert_eq!((size(1, FRESH_NANOS - 1), size(2, FRESH_NANOS)), (1, 2));
        grow(3);
        // Another window, and a clock that was set back.
        assert_eq!(size(WINDOW_NAMES + 5, 2 * FRESH_NANOS), 3);
        grow(4);
        assert_eq!(size(WINDOW_NAMES + 6, 0), 4);
        let ahead = scouts.list(&fd, c".", Time(0));
        assert!(ahead.get(Time(FRESH_NANOS)).is_none());
        assert!(scouts.list(&fd, c".", Time(0)).get(Time(1)).is_some());
        assert!(scouts.list(&fd, c"000000", Time(0)).get(Time(1)).is_none(), "it is no folder");
    }

    #[test]
    fn what_nobody_has_begun_is_found_out_by_who_needs_it() {
        let scouts = Scouts::new();
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let block = || {
            let ended = Arc::clone(&ended);
            scouts.ask(move || ended.lock().unwrap().recv().is_err())
        };
        let blocked: Vec<_> = (0..SCOUTS).map(|_| block()).collect();
        let me = std::thread::current().id();
        assert_eq!(scouts.ask(move || std::thread::current().id()).get(), me);
        drop(end);
        assert!(blocked.into_iter().all(Ahead::get));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_done() {
        let task = Arc::new(Task {
            state: Mutex::new(State::Waiting(Box::new(|| panic!("it was done")))),
            done: Condvar::new(),
        });
        drop(Ahead::<()>(Arc::clone(&task)));
        task.run();
    }
}
