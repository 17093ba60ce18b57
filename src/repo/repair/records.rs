//! Records out of packs that are damaged, or that no index names any more.
//!
//! A session like that of a repack: records are copied as they are. But each was opened before by the owner, so what
//! is said of a pack that was found lying there is true, whoever has laid it there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::hash;
use crate::format::id::{KeyId, PackId, RecordId, SessionId};
use crate::format::index::{Filling, IndexPack, IndexRecord};
use crate::format::keys::KeyName;
use crate::format::pack::{PackKind, Toc};
use crate::format::{limits, object};
use crate::progress::{Progress, Unit};
use crate::repo::carrier::Carrier;
use crate::repo::check::Examined;
use crate::repo::check::damage::Damage;
use crate::repo::check::packs::opens;
use crate::repo::gc::is_for_all;
use crate::repo::index::{Records, put_delta, records_of};
use crate::repo::pack_builder::{record_key_name, records_by_headers};
use crate::repo::repair::RepairPlan;
use crate::repo::snapshots::end_copying;
use crate::repo::upload::Uploads;
use crate::repo::{Begun, Error, Lane, Place, Reader, Repository, Result, begin};

/// A session ends after so long, and another begins.
const VISIT_SECS: i64 = 300;
/// Packs that are filled at the same time: each takes its share of what may be on its way.
const MOST_CARRIERS: usize = 3;

/// What was done.
#[derive(Default)]
pub struct Mended {
    pub named: u64,
    pub copied: u64,
}

/// Names the packs of the plan that are whole and in no index, and copies what is whole of the others.
pub async fn mend(
    repo: &Repository,
    examined: &Examined,
    plan: &RepairPlan,
    progress: &dyn Progress,
) -> Result<Mended> {
    let Examined { reader, damage, .. } = examined;
    // Packs come in their order, so what is known of them can be read in parts.
    let (mut asked, mut known) = (plan.damaged.clone(), Records::new());
    let mut found = Found {
        reader: reader.clone(),
        bad: Bad::of(damage, &plan.damaged),
        taken: HashSet::new(),
        done: Mended::default(),
    };
    let mut packs = plan.damaged.iter().chain(&plan.unnamed).copied().peekable();
    while packs.peek().is_some() && !progress.is_cancelled() {
        let mut visit = Visit::begin(repo, found).await?;
        let until = repo.world.now().secs().saturating_add(VISIT_SECS);
        while repo.world.now().secs() < until
            && !progress.is_cancelled()
            && let Some(pack) = packs.next()
        {
            let bytes = match repo.store.get(&object::pack_key(pack)).await.map_err(Error::from) {
                Err(error) if error.is_damage() => continue,
                bytes => bytes?,
            };
            progress.advance(Unit::PackBytes, bytes.len() as u64);
            let is_named = plan.damaged.contains(&pack);
            if asked.contains(&pack) {
                // Those before it are missing.
                asked = asked.split_off(&pack);
                known = records_of(repo, &mut asked).await?;
            }
            let known = known.remove(&pack).unwrap_or_default();
            visit = visit.look(pack, bytes, known, is_named).await?;
        }
        found = visit.end().await?;
    }
    Ok(found.done)
}

/// One session: long enough to be worth it, and too short to be taken for one that has gone silent.
struct Visit<'a> {
    session: SessionId,
    uploads: Arc<Uploads>,
    work: Work,
    names: Names<'a>,
}

impl<'a> Visit<'a> {
    async fn begin(repo: &'a Repository, found: Found) -> Result<Self> {
        let Begun { session, mut lanes, .. } = begin(repo, 2).await?;
        let (naming, copying) = (lanes.pop().expect("of two"), lanes.pop().expect("of two"));
        let uploads = Arc::new(Uploads::start(repo.clone(), copying));
        let work = Work { found, uploads: uploads.clone(), carriers: BTreeMap::new() };
        let names = Names { repo, lane: naming, filling: Filling::default(), number: 0 };
        Ok(Self { session, uploads, work, names })
    }

    async fn look(
        mut self,
        pack: PackId,
        bytes: Bytes,
        known: Vec<(RecordId, Place)>,
        is_named: bool,
    ) -> Result<Self> {
        let mut work = self.work;
        let looking = tokio::task::spawn_blocking(move || {
            let named = work.look(pack, &bytes, known, is_named);
            (work, named)
        });
        let (work, named) = looking.await.expect("opening records does not panic");
        self.work = work;
        if let Some(named) = named? {
            self.names.add(named).await?;
        }
        Ok(self)
    }

    /// Its packs, then their index, then its end.
    async fn end(mut self) -> Result<Found> {
        let work = self.work;
        let sending = tokio::task::spawn_blocking(move || work.finish());
        let found = sending.await.expect("sealing a pack does not panic")?;
        Arc::into_inner(self.uploads).expect("all carriers are gone").finish().await?;
        self.names.flush().await?;
        end_copying(self.names.repo, self.session).await?;
        Ok(found)
    }
}

/// Where records are not to be looked for.
struct Bad {
    packs: HashSet<PackId>,
    records: HashSet<(PackId, RecordId)>,
}

impl Bad {
    fn of(damage: &Damage, damaged: &BTreeSet<PackId>) -> Self {
        let packs = damaged.iter().chain(&damage.packs).chain(&damage.known);
        Self { packs: packs.copied().collect(), records: damage.records.clone() }
    }
}

/// What is known from one session to the next.
struct Found {
    reader: Arc<Reader>,
    bad: Bad,
    taken: HashSet<(RecordId, KeyId)>,
    done: Mended,
}

/// The threads' part.
struct Work {
    found: Found,
    uploads: Arc<Uploads>,
    carriers: BTreeMap<(PackKind, KeyId), Carrier>,
}

/// A record that opens and is what its id says, and who has sealed it.
struct Sound {
    id: RecordId,
    place: Place,
    origin: KeyId,
    session: Option<SessionId>,
}

impl Found {
    fn sound(&self, id: RecordId, place: Place, bytes: &[u8]) -> Result<Option<Sound>> {
        let Some(sealed) = place.of(bytes) else { return Ok(None) };
        let Some(name) = record_key_name(&self.reader.repo().keys, sealed) else { return Ok(None) };
        if !opens(&self.reader, &id, &place, sealed)? {
            return Ok(None);
        }
        Ok(match name {
            KeyName::Meta { scope, .. } => Some(Sound { id, place, origin: scope, session: None }),
            KeyName::Data { session, .. } => {
                let origin = self.reader.origin_of(session)?;
                origin.map(|origin| Sound { id, place, origin, session: Some(session) })
            }
        })
    }

    /// Whether a record has no sound copy yet that its writer would believe.
    fn takes(&mut self, record: &Sound) -> bool {
        let index = self.reader.index();
        let is_sound = |place: &Place| {
            !self.bad.packs.contains(&place.pack) && !self.bad.records.contains(&(place.pack, record.id))
        };
        let sound = index.slots_of(&record.id).filter(|slot| is_sound(&slot.place()));
        let mut packs = sound.map(|slot| index.packs().get(slot.pack()));
        !packs.any(|pack| is_for_all(&pack)) && self.taken.insert((record.id, record.origin))
    }
}

impl Work {
    /// Looks at a pack. Gives how it is to be named, if all of it is sound; otherwise what is sound is copied.
    fn look(
        &mut self,
        pack: PackId,
        bytes: &Bytes,
        known: Vec<(RecordId, Place)>,
        is_named: bool,
    ) -> Result<Option<IndexPack>> {
        let keys = &self.found.reader.repo().keys;
        let toc = Toc::open(&keys.structure, keys.repo, pack, bytes).ok();
        let place = |offset, len| Place { pack, offset, len };
        let listed: Vec<(RecordId, u32, u32)> = match &toc {
            Some(toc) => toc.records.iter().map(|record| (record.id, record.offset, record.len)).collect(),
            None => records_by_headers(keys, bytes),
        };
        let listed = listed.into_iter().map(|(id, offset, len)| (id, place(offset, len)));
        let mut places: Vec<(RecordId, Place)> = listed.chain(known).collect();
        places.sort_by_key(|(id, place)| (place.offset, *id, place.len));
        places.dedup();
        let sound = places.iter().filter_map(|(id, place)| self.found.sound(*id, *place, bytes).transpose());
        let sound: Vec<Sound> = sound.collect::<Result<_>>()?;
        if let Some(toc) = toc.filter(|toc| !is_named && toc.records.len() == sound.len()) {
            let named = name(pack, bytes, &toc, &sound);
            self.found.done.named += u64::from(named.is_some());
            if named.is_some() {
                return Ok(named);
            }
        }
        for record in sound {
            self.copy(&record, bytes)?;
        }
        Ok(None)
    }

    /// Copies a record, if that is of use.
    fn copy(&mut self, record: &Sound, bytes: &[u8]) -> Result<()> {
        if !self.found.takes(record) {
            return Ok(());
        }
        let sort = (PackKind::of(&record.id), record.origin);
        if !self.carriers.contains_key(&sort) && self.carriers.len() == MOST_CARRIERS {
            self.send()?;
        }
        let repo = self.found.reader.repo();
        let carrier = self
            .carriers
            .entry(sort)
            .or_insert_with(|| Carrier::new(repo, self.uploads.clone(), sort.0, sort.1));
        let sealed = record.place.of(bytes).expect("it was opened there");
        if carrier.take(record.id, sealed)? {
            self.found.done.copied += 1;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        std::mem::take(&mut self.carriers).into_values().try_for_each(|mut carrier| carrier.send())
    }

    fn finish(mut self) -> Result<Found> {
        self.send()?;
        Ok(self.found)
    }
}

/// What an index says of a pack that is sound as a whole. None if it is not of one writer.
fn name(pack: PackId, bytes: &[u8], toc: &Toc, sound: &[Sound]) -> Option<IndexPack> {
    let origin = sound.first()?.origin;
    let sessions: BTreeSet<SessionId> = sound.iter().filter_map(|record| record.session).collect();
    if sound.iter().any(|record| record.origin != origin) || sessions.len() > limits::PACK_SESSIONS {
        return None;
    }
    Some(IndexPack {
        id: pack,
        kind: toc.kind,
        len: u32::try_from(bytes.len()).ok()?,
        hash: hash::plain(bytes),
        origin,
        verified: false,
        sessions: sessions.into_iter().collect(),
        records: toc.records.iter().map(|r| IndexRecord { id: *r.id.bytes(), len: r.len }).collect(),
    })
}

/// Packs that are to be in the index again, on their way into its deltas.
struct Names<'a> {
    repo: &'a Repository,
    lane: Lane,
    filling: Filling,
    number: u32,
}

impl Names<'_> {
    async fn add(&mut self, pack: IndexPack) -> Result<()> {
        if !self.filling.takes(&pack) {
            self.flush().await?;
        }
        self.filling.push(pack);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if let Some(delta) = self.filling.take() {
            put_delta(self.repo, &self.lane, self.number, &delta).await?;
            self.number += 1;
        }
        Ok(())
    }
}
