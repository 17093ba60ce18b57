//! Looks at what the walk will come to before it is there: folders listed, names asked for, on other threads.
//!
//! Most of a walk's time goes into `statx` and listing: into the kernel, which reads inodes from the disk, or asks a
//! server. That can be done side by side, while the walk itself goes through the tree in order. What was found out
//! ahead is what the walk would have found; it decides what to do with it.
//! Invariants: whoever needs what nobody has begun does it by himself, so no order of the work can block; the folders
//! that are open ahead and the names that were asked for ahead are bounded, however large the tree.

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

type Stats = Vec<Result<Statx, Errno>>;

/// The threads. They end when this and all that was asked of them is dropped.
pub(super) struct Scouts(rayon::ThreadPool);

impl Scouts {
    pub fn new() -> Self {
        let named = rayon::ThreadPoolBuilder::new().num_threads(SCOUTS).thread_name(|_| "kist-walk".into());
        Self(named.build().expect("a few threads can be started"))
    }

    fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Ahead<T> {
        let task = Arc::new(Task { state: Mutex::new(State::Waiting(Box::new(work))), done: Condvar::new() });
        let asked = Arc::clone(&task);
        self.0.spawn(move || asked.run());
        Ahead(task)
    }

    /// Lists `name` in `parent`.
    pub fn list(&self, parent: &Arc<OwnedFd>, name: &CStr) -> Ahead<Result<Listing, Errno>> {
        let (parent, name) = (Arc::clone(parent), CString::from(name));
        self.ask(move || Listing::of(Arc::new(folder::open_to_list(&parent, name.as_c_str())?)))
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

/// An open folder, its names in byte order, and what the file system says of the first of them.
pub(super) struct Listing {
    pub fd: Arc<OwnedFd>,
    pub id: FileId,
    pub names: Arc<Names>,
    /// What has ended the list too early.
    pub error: Option<Errno>,
    first: Stats,
}

impl Listing {
    pub fn of(fd: Arc<OwnedFd>) -> Result<Self, Errno> {
        let id = FileId::of_open(&fd)?;
        let (names, error) = Names::list(&fd);
        let first = stats(&fd, &names, 0);
        Ok(Self { fd, id, names: Arc::new(names), error, first })
    }

    /// To ask what the names are.
    pub fn looks(self) -> Looks {
        let next = self.first.len();
        Looks { names: self.names, start: 0, here: self.first, coming: VecDeque::new(), next }
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
    /// The windows behind it.
    coming: VecDeque<Ahead<Stats>>,
    /// The first name that was not asked for yet.
    next: usize,
}

impl Looks {
    /// For names that were not asked for.
    pub fn new(names: Names) -> Self {
        Self { names: Arc::new(names), start: 0, here: Vec::new(), coming: VecDeque::new(), next: 0 }
    }

    /// What the name at `at` is; `at` never goes back.
    pub fn at(&mut self, scouts: &Scouts, fd: &Arc<OwnedFd>, at: usize) -> Result<Statx, Errno> {
        while at >= self.start + self.here.len() {
            self.ask(scouts, fd);
            match self.coming.pop_front() {
                Some(window) => {
                    self.start += self.here.len();
                    self.here = window.get();
                }
                None => return Err(Errno::NOENT),
            }
            self.ask(scouts, fd);
        }
        self.here[at - self.start]
    }

    /// Whether the name at `at` is a folder, and on which device; only of names that come soon.
    pub fn known(&self, at: usize) -> Option<(bool, u64)> {
        let stat = self.here.get(at.checked_sub(self.start)?)?;
        Some(stat.as_ref().map_or((false, 0), |stat| (is_folder(stat), FileId::of(stat).device)))
    }

    fn ask(&mut self, scouts: &Scouts, fd: &Arc<OwnedFd>) {
        while self.coming.len() < WINDOWS && self.next < self.names.len() {
            let (fd, names, start) = (Arc::clone(fd), Arc::clone(&self.names), self.next);
            self.coming.push_back(scouts.ask(move || stats(&fd, &names, start)));
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
        let mut looks = Listing::of(Arc::clone(&fd)).unwrap().looks();
        for number in 0..count {
            assert_eq!(looks.at(&scouts, &fd, number as usize).unwrap().stx_size, number);
            assert!(looks.coming.len() <= WINDOWS);
        }
        assert!(looks.at(&scouts, &fd, count as usize).is_err());
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
