//! A stolen writer's key that plants records under the ids of others that are there: what was committed stays, though
//! the maintainer that prunes can open neither.

use kist::crypto::secret::Key;
use kist::crypto::{hash, seal};
use kist::format::id::{PackId, RecordId, SessionId, SourceId};
use kist::format::index::{IndexPack, IndexRecord};
use kist::format::keys::{KeyName, Role};
use kist::format::node::Node;
use kist::format::object;
use kist::format::pack::{
    Compression, PackKind, PartHeader, RecordHeader, Toc, TocRecord, part_context, short_hash,
};
use kist::repo::{self, Begun, Limits, NewKey, PruneSettings, Repository, Snapshots, ToCommit};

use crate::checks::{name_falsely, put_delta};
use crate::scene::{Scene, backup, change, check, grow, noise, now, prune};
use crate::stolen::namings;

/// Whoever holds a writer's key, in a session.
struct Thief<'a> {
    repo: &'a Repository,
    begun: Begun,
    packs: Vec<IndexPack>,
}

impl<'a> Thief<'a> {
    async fn begin(repo: &'a Repository) -> Self {
        Self { repo, begun: repo::begin(repo, 1).await.unwrap(), packs: Vec::new() }
    }

    /// A record with an id that is not its own: random bytes, or a node that needs nothing.
    fn forged(&self, id: RecordId) -> Vec<u8> {
        let lane = &self.begun.lanes[0];
        let repo = self.repo.config.repo;
        let name = match id {
            RecordId::Chunk(_) => KeyName::Data { session: lane.session, lane: lane.number },
            RecordId::Node(_) => {
                KeyName::Meta { scope: self.repo.keys.certificate.key, source: SourceId([7; 16]) }
            }
        };
        let node = Node::Leaf(vec![]).encode();
        let rubbish = noise(100, u64::from(id.bytes()[0]));
        let parts: Vec<(&Key, &[u8])> = match id {
            RecordId::Chunk(_) => vec![(&lane.data, &rubbish)],
            RecordId::Node(_) => vec![(&self.repo.keys.structure, &node.refs), (&lane.data, &node.entries)],
        };
        let sealed: Vec<(PartHeader, Vec<u8>)> = parts
            .into_iter()
            .enumerate()
            .map(|(number, (key, plain))| {
                let context = part_context(repo, &id, number as u8, &name);
                let sealed = seal::seal(key, self.repo.world.bytes(), &context, plain);
                let (stored_len, raw_len) = (sealed.len() as u32, plain.len() as u32);
                (PartHeader { compression: Compression::None, stored_len, raw_len }, sealed)
            })
            .collect();
        let mut header = RecordHeader::chunk(id, name, sealed[0].0);
        if let Some((part, _)) = sealed.get(1) {
            header.parts[1] = *part;
        }
        let mut record = Vec::new();
        header.seal_into(&mut record, &self.repo.keys.structure, repo, self.repo.world.bytes());
        sealed.iter().for_each(|(_, part)| record.extend_from_slice(part));
        record
    }

    /// Uploads a pack with a record under each id, and names it as what it is.
    async fn plant(&mut self, kind: PackKind, ids: &[RecordId]) {
        let records = ids.iter().map(|id| (*id, self.forged(*id))).collect();
        let sessions = if kind == PackKind::Data { vec![self.begun.session] } else { vec![] };
        self.upload(kind, records, sessions).await;
    }

    /// Uploads the records of a pack once more as they are, and says that no session's keys open them.
    async fn copy(&mut self, pack: &IndexPack) {
        let bytes = self.repo.store.get(&object::pack_key(pack.id)).await.unwrap();
        let record = |(id, offset, len): (RecordId, u32, u32)| {
            (id, bytes[offset as usize..(offset + len) as usize].to_vec())
        };
        self.upload(pack.kind, pack.places().map(record).collect(), vec![]).await;
    }

    async fn upload(&mut self, kind: PackKind, all: Vec<(RecordId, Vec<u8>)>, sessions: Vec<SessionId>) {
        let (repo, world) = (self.repo.config.repo, &self.repo.world);
        let id = PackId(world.bytes());
        let (mut bytes, mut records) = (Vec::new(), Vec::new());
        for (record, sealed) in all {
            let (offset, len) = (bytes.len() as u32, sealed.len() as u32);
            records.push(TocRecord { id: record, offset, len, short_hash: short_hash(&sealed) });
            bytes.extend(sealed);
        }
        let toc = Toc { kind, records };
        let nonces = [world.bytes(), world.bytes()];
        toc.finish(&mut bytes, &self.repo.keys.structure, (repo, id), nonces, |pad| pad.fill(7));
        self.packs.push(IndexPack {
            id,
            kind,
            len: bytes.len() as u32,
            hash: hash::plain(&bytes),
            origin: self.repo.keys.certificate.key,
            verified: false,
            sessions,
            records: toc.records.iter().map(|r| IndexRecord { id: *r.id.bytes(), len: r.len }).collect(),
        });
        self.repo.store.put(&object::pack_key(id), bytes.into()).await.unwrap();
    }

    /// Commits a snapshot that needs all that another one does.
    async fn commit(self, like: &repo::Snapshot) {
        let (repo, world) = (self.repo, &self.repo.world);
        put_delta(repo, &self.begun, self.packs).await;
        let own = Snapshots::load(repo).await.unwrap();
        let mine = own.all.iter().rev().find(|s| s.commit.certificate.key == repo.keys.certificate.key);
        let what = ToCommit {
            view: self.begun.view,
            time: world.now(),
            source: like.commit.source,
            complete: true,
            class: vec![],
            held: false,
            roots: like.commit.roots.clone(),
            summary: repo::summary(repo, mine.expect("it has a snapshot")).unwrap().unwrap(),
        };
        repo::commit(repo, self.begun.session, &own, what).await.unwrap();
    }
}

/// A writer whose last snapshot needs what it has changed, and its passing snapshots before that.
struct Past {
    scene: Scene,
    shop: Repository,
    passed: Vec<SessionId>,
    kept: repo::Snapshot,
}

impl Past {
    async fn new() -> Self {
        let scene = Scene::new().await;
        grow(&scene.source());
        let unlock = scene.writer("shop").await;
        let shop = scene.open_with(&unlock).await;
        let passing = scene.source().join("a passing file");
        let mut passed = Vec::new();
        for seed in [7, 8, 9] {
            std::fs::write(&passing, noise(200_000, seed)).unwrap();
            passed.push(backup(&shop, &scene.source()).await.unwrap().snapshot.id);
        }
        std::fs::remove_file(passing).unwrap();
        change(&scene.source());
        let kept = backup(&shop, &scene.source()).await.unwrap().snapshot;
        Self { scene, shop, passed, kept }
    }

    /// A maintainer's prunes rewrite all that they may, and forget something each, so that each publishes an index; what is
    /// let go of is deleted by the next ones. The last snapshot is whole after them.
    async fn outlives_prunes(&self) {
        let maintainer = self.scene.add(NewKey::of(Role::Maintainer, "nightly")).await;
        let maintainer = self.scene.open_with(&maintainer).await;
        repo::observe(&maintainer).await.unwrap();
        for (id, min_used_percent) in self.passed.iter().zip([100, 80, 0]) {
            repo::forget(&maintainer, &[*id]).await.unwrap();
            let limits = Limits { min_used_percent, ..Limits::default() };
            repo::prune(&maintainer, PruneSettings { limits, ..now() }, &|_| {}).await.unwrap();
        }
        let owner = self.scene.open(self.scene.store()).await.unwrap();
        self.scene.restore_whole(&owner, &self.kept.name(), "after three prunes").await;
        for _ in 0..2 {
            prune(&maintainer).await;
        }
        self.scene.restore_whole(&owner, &self.kept.name(), "after five prunes").await;
    }
}

/// The story: of two packs of one writer's with a record each was a copy of the other, and the true one was swept.
#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_under_its_records_take_nothing_from_the_writer_whose_key_was_stolen() {
    let past = Past::new().await;
    let all = namings(&past.shop).await;
    for _ in 0..2 {
        let mut thief = Thief::begin(&past.shop).await;
        for pack in &all {
            let ids: Vec<RecordId> = pack.places().map(|(id, ..)| id).collect();
            thief.plant(pack.kind, &ids).await;
        }
        thief.commit(&past.kept).await;
    }
    past.outlives_prunes().await;
}

/// The story: a key named records in packs that have others, and the packs that have them were swept.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_named_in_other_packs_of_the_writer_s_stay_where_they_are() {
    let past = Past::new().await;
    let all = namings(&past.shop).await;
    for kind in [PackKind::Data, PackKind::Nodes] {
        let of_kind: Vec<&IndexPack> = all.iter().filter(|pack| pack.kind == kind).collect();
        for (at, pack) in of_kind.iter().enumerate() {
            let mut lie = (*pack).clone();
            lie.records = of_kind[(at + 1) % of_kind.len()].records.clone();
            let len = |lie: &IndexPack| lie.records.iter().map(|record| record.len).sum::<u32>();
            while len(&lie) > lie.len {
                lie.records.pop();
            }
            name_falsely(&past.shop, lie).await;
        }
    }
    past.outlives_prunes().await;
}

/// The story: a writer planted a node that needs nothing under the id of another's root; the maintainer, who can't tell
/// them apart, followed that one, and swept all that the true one needs.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_another_writer_plants_hide_nothing_from_a_maintainer_s_prune() {
    let past = Past::new().await;
    let unlock = past.scene.writer("bank").await;
    let bank = past.scene.open_with(&unlock).await;
    backup(&bank, &past.scene.source().join("folder 1")).await.unwrap();
    let own = namings(&past.shop).await;
    for _ in 0..3 {
        let mut thief = Thief::begin(&bank).await;
        for pack in own.iter().filter(|pack| pack.kind == PackKind::Nodes) {
            let ids: Vec<RecordId> = pack.places().map(|(id, ..)| id).collect();
            thief.plant(PackKind::Nodes, &ids).await;
        }
        thief.commit(&past.kept).await;
    }
    past.outlives_prunes().await;
}

/// The story: copies that were true in every byte stood for the writer's own, and nothing said any more whose keys open
/// them: the session was deleted with the last of its snapshots.
#[tokio::test(flavor = "multi_thread")]
async fn copies_that_leave_out_whose_keys_open_them_take_no_keys_away() {
    for is_checked in [false, true] {
        let past = Past::new().await;
        let all = namings(&past.shop).await;
        for _ in 0..2 {
            let mut thief = Thief::begin(&past.shop).await;
            for pack in all.iter().filter(|pack| pack.kind == PackKind::Data) {
                thief.copy(pack).await;
            }
            thief.commit(&past.kept).await;
        }
        if is_checked {
            let owner = past.scene.open(past.scene.store()).await.unwrap();
            check(&owner).await;
        }
        past.outlives_prunes().await;
    }
}

/// The story: a pack that was cut in the store stood for what had been uploaded again in its place, because somebody had
/// read it when it was whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_was_cut_stands_for_nothing_that_was_uploaded_again() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let shop = scene.writer("shop").await;
    let shop = scene.open_with(&shop).await;
    backup(&shop, &scene.source()).await.unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    assert!(check(&owner).await.report.verified > 10);
    for pack in namings(&shop).await.iter().filter(|pack| pack.kind == PackKind::Data) {
        let key = object::pack_key(pack.id);
        let bytes = shop.store.get(&key).await.unwrap();
        shop.store.delete(&key).await.unwrap();
        shop.store.put(&key, bytes.slice(..bytes.len() / 2)).await.unwrap();
    }
    let healed = backup(&shop, &scene.source()).await.unwrap().snapshot;
    for _ in 0..2 {
        prune(&owner).await;
    }
    scene.restore_whole(&owner, &healed.name(), "after two prunes").await;
}
