//! What goes between the threads of a backup: room for chunks in flight, and results to come.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A number of bytes that may be in flight; whoever wants more waits.
pub struct Room {
    free: Mutex<usize>,
    changed: Condvar,
    all: usize,
}

/// A share of a [`Room`], given back when dropped.
pub struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(bytes), changed: Condvar::new(), all: bytes })
    }

    /// Waits until `bytes` are free. More than there is counts as all there is.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Taken {
        let bytes = bytes.min(self.all);
        let mut free = lock(&self.free);
        while *free < bytes {
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Taken { room: self.clone(), bytes }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *lock(&self.room.free) += self.bytes;
        self.room.changed.notify_all();
    }
}

/// Where a result will be.
pub struct Awaited<T>(Arc<Cell<T>>);

/// Sets an [`Awaited`]; dropped unset, it leaves `None` there, so that nobody waits for ever.
pub struct Promise<T>(Arc<Cell<T>>);

struct Cell<T> {
    value: Mutex<State<T>>,
    set: Condvar,
}

enum State<T> {
    Open,
    Set(T),
    Broken,
}

pub fn promise<T>() -> (Promise<T>, Awaited<T>) {
    let cell = Arc::new(Cell { value: Mutex::new(State::Open), set: Condvar::new() });
    (Promise(cell.clone()), Awaited(cell))
}

impl<T> Promise<T> {
    pub fn set(self, value: T) {
        *lock(&self.0.value) = State::Set(value);
        self.0.set.notify_all();
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.value);
        if matches!(*state, State::Open) {
            *state = State::Broken;
            self.0.set.notify_all();
        }
    }
}

impl<T> Awaited<T> {
    pub fn is_set(&self) -> bool {
        !matches!(*lock(&self.0.value), State::Open)
    }

    /// Waits for it. None if whoever had promised it is gone.
    pub fn wait(self) -> Option<T> {
        let mut state = lock(&self.0.value);
        loop {
            match std::mem::replace(&mut *state, State::Broken) {
                State::Set(value) => return Some(value),
                State::Broken => return None,
                State::Open => *state = State::Open,
            }
            state = self.0.set.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_ends_the_wait() {
        let (sent, awaited) = promise::<u8>();
        drop(sent);
        assert_eq!(awaited.wait(), None);
        let (sent, awaited) = promise();
        assert!(!awaited.is_set());
        std::thread::spawn(move || sent.set(7));
        assert_eq!(awaited.wait(), Some(7));
    }

    #[test]
    fn room_is_never_overdrawn_and_comes_back() {
        let room = Room::new(10);
        let first = room.take(8);
        let waiting = {
            let room = room.clone();
            std::thread::spawn(move || drop(room.take(1000)))
        };
        assert_eq!(*lock(&room.free), 2);
        drop(first);
        waiting.join().unwrap();
        assert_eq!(*lock(&room.free), 10);
    }
}
