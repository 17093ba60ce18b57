//! A model of the protocol of `format-spec/11-gc.md`, searched to its end by stateright: every interleaving of
//! writers, collectors, a maintainer and a reader, one request at a time. It names nothing of the kist library.
//!
//! | chapter | here |
//! | --- | --- |
//! | what a log means | `log.rs`: `Meaning`; for one who opens by a checkpoint `store.rs`: `Store::meaning` |
//! | writer 1 | `WriterAt::Begin` |
//! | writer 2 | `PutSession`, `ReadLog` |
//! | writer 3, 4 | `ListCommits`, `LoadIndex` (and the look for a newer checkpoint), `Writer::look_up` |
//! | writer 5, 6 | `PutPack`, `PutDelta`, `Commit`; a fence leads back to `Begin` with the same task |
//! | collector 1 | `CollectorAt::Begin` (the first mark, all at once: it is only a proposal), `Condemn`; not before the last sweep has its checkpoint |
//! | collector 2 | `ListSessions`, `Fence` |
//! | collector 3, 4 | `ReadLog`, `ListCommits`, `LoadIndex`, `Collector::second_mark`, `Sweep` |
//! | publishing | `ListEndedCommits`, `LoadGeneration`, `LookForNewer`, `CreateCheckpoint` |
//! | collector 5 | `DeletePacks`, `Clean` |
//! | forget, recall | `Action::Forget`, `Action::Recall` |
//! | damaged | `Action::Damage`: found and said in one step, of one pack |
//! | beginning anew | `collector/owner.rs`: whoever collects is the owner where nobody else can go on |
//! | opening, reading again | `reader.rs`; all at once, as the promises look at every state: `Store::fresh` |
//!
//! **Death, pauses, late effects.** Nobody has to make a next step. So a process that died is one that makes
//! none, and a request that arrives after its process died is one of a process that paused and then made its last step.
//! A request that arrives twice is an *echo*; a commit whose answer is lost is asked for again (`doubt`).
//! **What is lost** (`renews`): an entry, of which nobody knows any more what it was (`Log::lose`). Until a checkpoint stands for
//! it nobody but the owner reads the log; who has read it before goes on by what he knows (`Lost::Known`).
//! **Lists that take time** (`paged`, `listing.rs`) see what was there before they began, and may or may not see what
//! comes or goes meanwhile; elsewhere a list is one step, which is the same for all that doesn't change under it.
//!
//! **Small world.** A commit is a set of chunks, and nodes can be read if their chunks can. A session has one pack and one delta, with
//! its own number. Parts of a generation come and go with its checkpoint. Only the newest checkpoint stays (the chapter
//! keeps one more, which is kinder). A repack is a writer that copies and commits no snapshot. Not in the model: what an
//! observe says, hold, verify, revoke, forks of the log, the removal of sessions, who may sign what.
//!
//! `promises.rs` has what must hold, `scenes.rs` who takes part, `faithful.rs` the searches, and `mutants.rs` takes away one
//! rule at a time (`config.rs`: `Fault`) and must find a promise broken: a rule without a mutant isn't known to be needed.
//! KIST_MODEL=trace prints how the mutants break; KIST_MODEL=deep searches larger scenes.

mod collector;
mod config;
mod faithful;
mod listing;
mod log;
mod mutants;
mod promises;
mod reader;
mod scenes;
mod sets;
mod store;
mod world;
mod writer;
