//! Walks folders and says what is in them, in the order of the tree: a folder, then what it holds.
//!
//! First step of a backup of files: no content is read here, only names and attributes. Each [`Found`]
//! carries its folder open, so that [`crate::archive::file`] opens the same file even if the path is
//! changed meanwhile. Links are never followed, depth costs neither stack nor handles, and a folder that
//! can't be read is a [`Problem`] while the walk goes on.
//! Invariant: the paths of the [`Step::Found`]s strictly ascend, as `format-spec` chapter 6 orders them.

mod ahead;
mod attributes;
mod named;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, Statx};
use rustix::io::Errno;

use crate::archive::exclude::Exclude;
pub use crate::archive::folder::FileId;
use crate::archive::folder::{self, Names, Trail};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::walk::ahead::{AheadListing, Listing, Looks, Scouts};
use crate::archive::walk::attributes::Look;
pub use crate::archive::walk::attributes::XattrReader;
pub(super) use crate::archive::walk::attributes::{file_time, is_folder, kind};
use crate::archive::walk::named::Named;
use crate::format::entry::{Attributes, TreePath};
use crate::format::id::LinkGroup;
use crate::world::Time;

/// The standard beginning of a file that marks its folder as a cache (bford.info/cachedir).
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
const CACHE_TAG: &CStr = c"CACHEDIR.TAG";

/// What to leave out, and how to name groups of hard links.
#[derive(Clone)]
pub struct Options<'a> {
    pub exclude: &'a Exclude,
    /// Stays on the file system of each given path; mount points are empty folders then.
    pub one_file_system: bool,
    /// Of a folder with a valid `CACHEDIR.TAG`, only the folder and the tag are taken.
    pub exclude_caches: bool,
    /// Names the group of a file with several links, from the first of its paths.
    pub link_group: &'a (dyn Fn(&TreePath) -> LinkGroup + Sync),
    /// To tell how old it is what was looked at ahead.
    pub clock: &'a (dyn Fn() -> Time + Sync),
}

#[derive(Debug)]
pub enum Step {
    Found(Found),
    Problem(Problem),
}

/// One path and what is known about it without reading content. Its xattrs are still to be asked for.
#[derive(Debug)]
pub struct Found {
    pub path: TreePath,
    pub attributes: Attributes,
    pub kind: FoundKind,
    pub id: FileId,
    /// The folder that holds it, open (for the root: itself). Shared by all that was found in it; as long
    /// as one of them is kept it counts as an open file, so keep few, or drop it with [`Found::close`].
    pub(super) folder: Option<Arc<OwnedFd>>,
}

impl Found {
    /// Lets go of the open folder; the file can't be read any more.
    pub fn close(&mut self) {
        self.folder = None;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundKind {
    Folder,
    File { size: u64 },
    Symlink { target: Vec<u8> },
    Fifo,
    Socket,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// An iterator over all that lies below one or several paths.
pub struct Walk<'a> {
    options: Options<'a>,
    trail: Trail,
    /// As long as the trail.
    frames: Vec<Frame>,
    /// Of the last frame. Not in each of them: a deep tree would take the square of its depth.
    path: TreePath,
    /// The folder that was given out last, and is to be entered next.
    enter: Option<Enter>,
    ready: VecDeque<Step>,
    look: Look<'a>,
    scouts: Scouts,
    /// Folders that all frames have listed ahead.
    listed_ahead: usize,
}

struct Frame {
    looks: Looks,
    next: usize,
    scope: Scope,
    /// Folders among the names, by their index, that are listed ahead.
    ahead: VecDeque<(usize, AheadListing)>,
    /// The first name that was not considered for that.
    ahead_from: usize,
}

struct Enter {
    path: TreePath,
    id: FileId,
    scope: Scope,
}

/// What of a folder is wanted.
#[derive(Clone)]
struct Scope {
    /// All that is in it; otherwise only what `named` says.
    whole: bool,
    /// The given paths from here on.
    named: Option<Arc<Named>>,
    /// The device of the given path that we are in.
    device: u64,
}

impl<'a> Walk<'a> {
    /// Walks absolute paths. The tree holds them from `/` on, with the folders above them; paths that
    /// overlap are merged; links on the way are kept as links, and what they lead to is taken too.
    /// What is named is taken, also if it is excluded; a path that does not exist is a problem in the walk.
    pub fn of_paths(paths: &[PathBuf], options: Options<'a>) -> Result<Self, Problem> {
        let named = Named::resolve(paths)?;
        Self::start(Path::new("/"), named.whole, Some(Arc::new(named)), options)
    }

    /// Walks a folder. The tree's root is the folder itself; `base` may be a link to it.
    pub fn of_folder(base: &Path, options: Options<'a>) -> Result<Self, Problem> {
        Self::start(base, true, None, options)
    }

    fn start(
        base: &Path,
        whole: bool,
        named: Option<Arc<Named>>,
        options: Options<'a>,
    ) -> Result<Self, Problem> {
        use std::os::unix::ffi::OsStrExt;
        let shown = TreePath::from_slashes(base.as_os_str().as_bytes()).unwrap_or_default();
        let cannot = |errno| Problem::system("opening", &shown, errno);
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | if whole { OFlags::RDONLY } else { OFlags::PATH };
        let root = Arc::new(rustix::fs::openat(CWD, base, flags, Mode::empty()).map_err(cannot)?);
        let mut look = Look::new(options.link_group);
        let stat = folder::stat_open(&root).map_err(cannot)?;
        let found = look.found(TreePath::root(), &root, None, &stat).map_err(|(_, errno)| cannot(errno))?;
        let scope = Scope { whole, named, device: found.id.device };
        let enter = Some(Enter { path: TreePath::root(), id: found.id, scope });
        let ready = [Step::Found(found)].into();
        let trail = Trail::new(root).map_err(cannot)?;
        let path = TreePath::root();
        let scouts = Scouts::new();
        Ok(Self { options, trail, frames: Vec::new(), path, enter, ready, look, scouts, listed_ahead: 0 })
    }

    /// Goes into the folder that was found last.
    fn enter(&mut self, enter: Enter) -> Result<(), Problem> {
        let Enter { path, id, scope } = enter;
        let cannot = |errno| Problem::system("opening", &path, errno);
        let listing = match self.frames.is_empty() {
            true => {
                let here = Arc::clone(self.trail.here().expect("the root is open"));
                scope.whole.then(|| Listing::of(here, (self.options.clock)())).transpose().map_err(cannot)?
            }
            false => self.go_down(&path, id, scope.whole)?,
        };
        let here = self.trail.here().expect("a folder was just entered");
        let error = listing.as_ref().and_then(|listing| listing.error);
        let is_cache = self.options.exclude_caches
            && listing.as_ref().is_some_and(|listing| is_cache(here, &listing.names));
        let looks = match (listing, &scope.named) {
            (Some(listing), None) if !is_cache => listing.looks(),
            (listing, named) => {
                let mut names = Names::default();
                match listing {
                    Some(_) if is_cache => _ = names.push(CACHE_TAG),
                    listing => listing
                        .iter()
                        .flat_map(|listing| listing.names.iter())
                        .for_each(|name| _ = names.push(name)),
                }
                let named = named.iter().flat_map(|named| named.children.keys());
                named.for_each(|name| _ = names.push(name));
                names.sort();
                Looks::new(names)
            }
        };
        if let Some(errno) = error {
            self.ready.push_back(Step::Problem(Problem::system("listing", &path, errno)));
        }
        self.path = path;
        self.frames.push(Frame { looks, next: 0, scope, ahead: VecDeque::new(), ahead_from: 0 });
        Ok(())
    }

    /// Opens the folder that was found last, and lists it if all of it is wanted.
    fn go_down(&mut self, path: &TreePath, id: FileId, whole: bool) -> Result<Option<Listing>, Problem> {
        let cannot = |errno| Problem::system("opening", path, errno);
        let frame = self.frames.last_mut().expect("a folder was found in it");
        let at = frame.next - 1;
        let name = frame.looks.names.get(at).expect("the name that was found last");
        let here = self.trail.here().ok_or(Errno::STALE).map_err(cannot)?;
        let (before, now) = (frame.ahead.len(), (self.options.clock)());
        let mut ahead = None;
        while let Some((index, listing)) = frame.ahead.pop_front_if(|(index, _)| *index <= at) {
            ahead = (index == at).then_some(listing);
        }
        self.listed_ahead -= before - frame.ahead.len();
        if !whole {
            let fd = folder::open_to_pass(here, name).map_err(cannot)?;
            if FileId::of_open(&fd).map_err(cannot)? != id {
                return Err(changed(path));
            }
            self.trail.push(name, id, Arc::new(fd));
            return Ok(None);
        }
        let list = || Listing::of(Arc::new(folder::open_to_list(here, name)?), now);
        let listing = ahead.and_then(|ahead| ahead.get(now)).map_or_else(list, Ok).map_err(cannot)?;
        if listing.id != id {
            return Err(changed(path));
        }
        self.trail.push(name, id, Arc::clone(&listing.fd));
        if self.frames.len() > ahead::LEVELS {
            let frame = self.frames.last_mut().expect("it was there");
            frame.looks.forget(frame.next);
        }
        Ok(Some(listing))
    }

    /// Has the folders listed that the walk will come to next.
    fn look_ahead(&mut self) {
        let (Some(frame), Some(here)) = (self.frames.last_mut(), self.trail.here()) else { return };
        frame.ahead_from = frame.ahead_from.max(frame.next);
        while frame.ahead.len() < ahead::FOLDERS && self.listed_ahead < ahead::ALL_FOLDERS {
            let at = frame.ahead_from;
            let Some((is_folder, device)) = frame.looks.known(at) else { return };
            frame.ahead_from += 1;
            let name = frame.looks.names.get(at).expect("what is known has a name");
            let is_wanted = is_folder
                && frame.scope.whole
                && (!self.options.one_file_system || device == frame.scope.device)
                && self
                    .path
                    .join(name.to_bytes())
                    .is_some_and(|path| !self.options.exclude.matches(&path, true));
            if is_wanted {
                let now = (self.options.clock)();
                frame.ahead.push_back((at, self.scouts.list(here, name, now)));
                self.listed_ahead += 1;
            }
        }
    }

    /// Looks at the next name of the folder we are in. False if there is none left.
    fn advance(&mut self) -> bool {
        self.look_ahead();
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(here) = self.trail.here() else { return false };
        if frame.next >= frame.looks.names.len() {
            return false;
        }
        let stat = frame.looks.at(&self.scouts, here, frame.next, self.options.clock);
        let name = frame.looks.names.get(frame.next).expect("below the count");
        frame.next += 1;
        let Some(path) = self.path.join(name.to_bytes()) else {
            let what = format!("the path to {name:?} in it is too long");
            let problem = Problem::found("storing", &self.path, ProblemKind::Limit, what);
            self.ready.push_back(Step::Problem(problem));
            return true;
        };
        let place = Place { here, name, path };
        match visit(&self.options, &mut self.look, place, stat, &frame.scope) {
            Ok(None) => {}
            Ok(Some(Visited { found, problem, scope })) => {
                self.enter = scope.map(|scope| Enter { path: found.path.clone(), id: found.id, scope });
                self.ready.push_back(Step::Found(found));
                self.ready.extend(problem.map(Step::Problem));
            }
            Err(problem) => self.ready.push_back(Step::Problem(problem)),
        }
        true
    }

    /// Goes up out of a folder that is done.
    fn leave(&mut self) {
        let left = self.frames.pop();
        self.listed_ahead -= left.map_or(0, |left| left.ahead.len());
        self.path = self.path.parent().unwrap_or_default();
        let Err(errno) = self.trail.pop() else { return };
        if let Some(frame) = self.frames.last_mut() {
            frame.next = frame.looks.names.len();
            self.ready.push_back(Step::Problem(Problem::system("going back to", &self.path, errno)));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(step);
            }
            if let Some(enter) = self.enter.take() {
                if let Err(problem) = self.enter(enter) {
                    return Some(Step::Problem(problem));
                }
            } else if self.frames.is_empty() {
                return None;
            } else if !self.advance() {
                self.leave();
            }
        }
    }
}

/// A name in an open folder, and the path that it has in the tree.
struct Place<'a> {
    here: &'a Arc<OwnedFd>,
    name: &'a CStr,
    path: TreePath,
}

struct Visited {
    found: Found,
    /// Something about it could not be had.
    problem: Option<Problem>,
    /// Set if it is a folder to be entered.
    scope: Option<Scope>,
}

/// Looks at one name. None if it is left out.
fn visit(
    options: &Options<'_>,
    look: &mut Look<'_>,
    place: Place<'_>,
    stat: Result<Statx, Errno>,
    above: &Scope,
) -> Result<Option<Visited>, Problem> {
    let Place { here, name, path } = place;
    let cannot = |errno| Problem::system("looking at", &path, errno);
    let stat = stat.map_err(cannot)?;
    let named = above.named.as_ref().and_then(|named| named.children.get(name)).cloned();
    let is_named = named.as_ref().is_some_and(|named| named.whole);
    let is_folder = is_folder(&stat);
    let id = FileId::of(&stat);
    let device = if is_named { id.device } else { above.device };
    let elsewhere = options.one_file_system && device != id.device;
    let taken = is_named || (above.whole && !options.exclude.matches(&path, is_folder));
    let blocked = (!is_folder && named.as_ref().is_some_and(|named| !named.children.is_empty()))
        .then(|| Problem::found("entering", &path, ProblemKind::Changed, "it is not a folder"));
    match blocked {
        Some(problem) if !taken => return Err(problem),
        None if (!taken && named.is_none()) || (elsewhere && !is_folder) => return Ok(None),
        _ => {}
    }
    let whole = taken && !elsewhere;
    let scope = (is_folder && (whole || named.is_some())).then_some(Scope { whole, named, device });
    let found = look.found(path, here, Some(name), &stat);
    let found = found.map_err(|(path, errno)| Problem::system("looking at", &path, errno))?;
    Ok(Some(Visited { found, problem: blocked, scope }))
}

/// Whether a folder with these names is marked as a cache.
fn is_cache(folder: &Arc<OwnedFd>, names: &Names) -> bool {
    if !names.iter().any(|name| name == CACHE_TAG) {
        return false;
    }
    let mut start = [0; CACHE_SIGNATURE.len()];
    let read = folder::open_quietly(folder, CACHE_TAG, OFlags::NOFOLLOW)
        .and_then(|fd| rustix::io::pread(fd, &mut start[..], 0));
    read == Ok(CACHE_SIGNATURE.len()) && start == CACHE_SIGNATURE
}

fn changed(path: &TreePath) -> Problem {
    Problem::found("opening", path, ProblemKind::Changed, "it was replaced meanwhile")
}
