//! The job's side of a relay: does what a mover asks for, if it may.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};

use crate::format::limits::RELAY_PAGE;
use crate::format::relay::{Answer, Class, Listed, Operation, Request};
use crate::store::error::{Class as StoreClass, Error, Result, Verb};
use crate::store::relay::may::May;
use crate::store::{Created, Object, Store};

/// Listings that one mover has under way; each holds a request to the store open.
const LISTINGS: usize = 8;
/// Refusals that are told in full; more are counted.
const TOLD: usize = 4;

/// A store, as far as one mover may use it. Answers may be worked on at the same time.
#[derive(Debug)]
pub struct Relayed {
    store: Store,
    may: May,
    listings: Mutex<Listings>,
    refused: Mutex<Refused>,
}

#[derive(Default)]
struct Listings {
    last: u32,
    /// The oldest first.
    open: VecDeque<Listing>,
}

struct Listing {
    number: u32,
    folder: String,
    objects: BoxStream<'static, Result<Object>>,
}

#[derive(Debug, Default)]
struct Refused {
    told: Vec<String>,
    more: u64,
}

impl std::fmt::Debug for Listings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listings({} open)", self.open.len())
    }
}

impl Relayed {
    pub fn new(store: Store, may: May) -> Self {
        Self { store, may, listings: Mutex::default(), refused: Mutex::default() }
    }

    /// Does what the body of a store request asks for; gives the body of the answer.
    pub async fn answer(&self, request: Bytes) -> Bytes {
        let answer = match Request::decode(&request) {
            Err(error) => self.refuse(error.to_string()),
            Ok(request) if !self.may.allows(&request) => {
                self.refuse_request(&request.key, &request.operation)
            }
            Ok(request) => self.perform(request).await.unwrap_or_else(|error| failed(&error)),
        };
        answer.encode()
    }

    /// What the mover asked for and may not, in the order of asking; empty for a mover that
    /// behaves. Any entry means that something else than kist speaks, or a defect.
    pub fn misbehaviour(&self) -> Vec<String> {
        let refused = self.refused();
        let more = (refused.more > 0).then(|| format!("and {} more", refused.more));
        refused.told.iter().cloned().chain(more).collect()
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listings(&self) -> MutexGuard<'_, Listings> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, what: String) -> Answer {
        let answer = Answer::failed(Class::Denied, format!("a mover may not: {what}"));
        let mut refused = self.refused();
        match refused.told.len() < TOLD {
            true => refused.told.push(what),
            false => refused.more += 1,
        }
        answer
    }

    fn refuse_request(&self, key: &str, operation: &Operation) -> Answer {
        self.refuse(format!("{} {}", verb(operation), key.escape_debug()))
    }

    async fn perform(&self, request: Request) -> Result<Answer> {
        let Request { key, operation } = request;
        match operation {
            Operation::Get { limit } => match self.store.get_at_most(&key, limit).await {
                Ok(body) => Ok(Answer::Found(body)),
                Err(Error::TooLarge { found, .. }) => Ok(Answer::Size(found)),
                Err(error) => Err(error),
            },
            Operation::Range { start, len } => {
                self.store.get_range(&key, start..start + len).await.map(Answer::Found)
            }
            Operation::Size => self.store.size(&key).await.map(Answer::Size),
            // Not a put: that would replace what is there, an old backup's pack for one.
            Operation::Put(body) => match self.store.create_exclusive(&key, body).await? {
                Created::Mine => Ok(Answer::Done),
                Created::Other(_) => Ok(self.refuse(format!("put {key}, which is there and differs"))),
            },
            Operation::List { from } => self.list(key, from).await,
            // Never allowed, see May: and nothing in here could do it.
            Operation::Create(_) | Operation::Delete => Ok(self.refuse_request(&key, &operation)),
        }
    }

    /// One page of a listing; the rest is kept until it is asked for.
    async fn list(&self, folder: String, from: u32) -> Result<Answer> {
        let mut listing = match from {
            0 => self.begin(folder),
            number => match self.listings().take(number, &folder) {
                Some(listing) => listing,
                None => {
                    let text = format!("listing {number} of this folder is not under way");
                    return Ok(Answer::failed(Class::Transient, text));
                }
            },
        };
        let mut objects = Vec::new();
        while objects.len() < RELAY_PAGE {
            let Some(object) = listing.objects.next().await.transpose()? else {
                return Ok(Answer::Listing { next: 0, objects });
            };
            objects.extend(Listed::new(object.key, object.size, object.modified_unix_secs));
        }
        let next = listing.number;
        self.listings().keep(listing);
        Ok(Answer::Listing { next, objects })
    }

    fn begin(&self, folder: String) -> Listing {
        let objects = self.store.list_stream(&folder);
        let mut listings = self.listings();
        listings.last = listings.last.checked_add(1).unwrap_or(1);
        Listing { number: listings.last, folder, objects }
    }
}

impl Listings {
    fn take(&mut self, number: u32, folder: &str) -> Option<Listing> {
        let at = self.open.iter().position(|open| open.number == number && open.folder == folder)?;
        self.open.remove(at)
    }

    fn keep(&mut self, listing: Listing) {
        if self.open.len() == LISTINGS {
            self.open.pop_front();
        }
        self.open.push_back(listing);
    }
}

fn verb(operation: &Operation) -> Verb {
    match operation {
        Operation::Get { .. } | Operation::Range { .. } => Verb::Get,
        Operation::Size => Verb::Size,
        Operation::Put(_) => Verb::Put,
        Operation::Create(_) => Verb::Create,
        Operation::List { .. } => Verb::List,
        Operation::Delete => Verb::Delete,
    }
}

/// What the mover is told of a failure: what it means and the reason; its own side knows the key.
fn failed(error: &Error) -> Answer {
    let class = match (error, error.class()) {
        (Error::Unsupported { .. }, _) => Class::Unsupported,
        (_, StoreClass::Missing) => Class::Missing,
        (_, StoreClass::Denied | StoreClass::Retained) => Class::Denied,
        (_, StoreClass::Full) => Class::Full,
        (_, StoreClass::Transient) => Class::Transient,
        // A folder that is not mounted, or words that are not known, say nothing of the object.
        (Error::Gone { .. }, _) | (_, StoreClass::Other) => Class::Transient,
        (_, StoreClass::Corrupt | StoreClass::Usage) => Class::Other,
    };
    let text = match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    Answer::failed(class, text)
}
