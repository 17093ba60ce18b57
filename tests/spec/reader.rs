//! A reader after the spec, of a repository that kist has written: it takes the layout, the keys
//! and the order of reading from the chapters, and only the decoders from kist.
//!
//! So the chapters are shown to be enough, and what the repository layer derives and names is
//! what they say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kist::archive::tree::{NodeSink, TreeBuilder};
use kist::crypto::secret::Key;
use kist::crypto::{context, hash, seal, wrap};
use kist::format::commit::{Commit, Resolution, Root, RootKind, summary_context};
use kist::format::config::{Chunker, Config};
use kist::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use kist::format::id::{ChunkId, KeyId, NodeId, PackId, RecordId, SessionId, SourceId};
use kist::format::index::IndexDelta;
use kist::format::keys::{KeyFile, KeyName, Role, RoleSecrets, Slot};
use kist::format::node::{Node, NodeParts};
use kist::format::pack::{Compression, HEADER_LEN, PackKind, RecordHeader, Toc, part_context};
use kist::format::refs::ChunkRef;
use kist::format::session::{Session, unwrap_lane};
use kist::format::summary::{Counts, Summary};
use kist::repo::{
    self, Begun, Degrade, Index, Init, NewKey, Snapshots, ToCommit, Unlock, Writer, WriterSettings,
};
use kist::store::Store;
use kist::world::{World, fixed};

use crate::material::{NOW, half, source};

/// Writes a repository with a writer's bundle: one snapshot of `files`. Gives the owner's key file.
async fn written(store: &Store, world: &World, files: &BTreeMap<TreePath, Vec<u8>>) -> KeyFile {
    let init = Init {
        passphrase: None,
        cost: kist::crypto::kdf::Params::CHEAP,
        chunker: Chunker::DEFAULT,
        degrade: Degrade::Refuse,
        like: None,
    };
    let (owner, file) = repo::init(store.clone(), world, init).await.unwrap();
    let bundle = repo::add_key(&owner, &NewKey::of(Role::Writer, "shop")).await.unwrap();
    let repo = repo::open(store.clone(), world, &Unlock::KeyFile(bundle), None).await.unwrap();
    let Begun { session, lanes, view, .. } = repo::begin(&repo, 2).await.unwrap();
    let before = Snapshots::load(&repo).await.unwrap();
    let index = Arc::new(Index::load(&repo).await.unwrap());
    let lane = lanes.into_iter().nth(1).unwrap();
    let writer = Writer::new(&repo, index, lane, WriterSettings::default());
    let ids = repo.keys.ids().unwrap();
    let source_id = ids.source_id(&source());
    let (files, meta, cut) = (files.clone(), repo.keys.own_meta_key(source_id).unwrap(), ids.node_cut());
    let save = move || {
        let sink = NodeSink { writer: &writer, meta: &meta, cut: &cut };
        let mut tree = TreeBuilder::new();
        for (path, content) in files {
            let len = content.len() as u32;
            let chunk = ChunkRef { id: writer.save_chunk(&content).unwrap().id, len };
            let extents = vec![Extent::Data { chunk, offset: 0, len }];
            let content = Content::Extents(extents.clone());
            let kind = Kind::File { size: extents[0].len(), content, hash: None };
            tree.push(&sink, Entry { path, attributes: Attributes::default(), kind }).unwrap();
        }
        let root = tree.finish(&sink).unwrap();
        (writer, root)
    };
    let (writer, node) = tokio::task::spawn_blocking(save).await.unwrap();
    writer.finish().await.unwrap();
    let summary = Summary {
        version: 0,
        kist: "test".into(),
        source: source(),
        tags: vec![],
        parent: None,
        counts: Counts::default(),
        missing: vec![],
        more_missing: 0,
        sparse: Default::default(),
        cluster: None,
        copied_from: None,
    };
    let roots = vec![Root { kind: RootKind::Files, source: source_id, node }];
    let what = ToCommit {
        view,
        time: NOW,
        source: source_id,
        complete: true,
        class: vec![],
        held: false,
        roots,
        summary,
    };
    repo::commit(&repo, session, &before, what).await.unwrap();
    file.unwrap()
}

/// What the spec's reader knows.
struct Reader {
    objects: BTreeMap<String, Vec<u8>>,
    config: Config,
    domain: Key,
    structure: Key,
    recipient: Key,
    sessions: HashMap<SessionId, Session>,
    places: HashMap<RecordId, (PackId, usize, usize)>,
    lane_keys: RefCell<HashMap<KeyName, Key>>,
}

fn derive(context: &'static str, key: &Key, input: &[u8]) -> Key {
    hash::derive(context, key, input)
}

impl Reader {
    /// Chapters 2 and 3: `config`, the slot, the pin, the keys. Chapters 5 and 7: sessions and index.
    fn open(objects: BTreeMap<String, Vec<u8>>, file: &KeyFile) -> Self {
        let config = Config::decode(&objects["config"]).unwrap();
        let slot = Slot::decode(&objects[&format!("keys/{}", file.slot)]).unwrap();
        let secrets = slot.open(&file.unlock, file.repo, file.slot).unwrap();
        assert_eq!(secrets.config_digest, hash::plain(&objects["config"]), "the pin");
        let RoleSecrets::Owner(owner) = secrets.holds else { panic!("not an owner's slot") };
        let root = owner.root;
        let seed = derive(context::OWNER_SIGNING, &root, b"");
        assert_eq!(kist::crypto::sign::public(&seed), config.owner);
        let domain = derive(context::DOMAIN, &root, &[0; 16]);
        let structure = derive(context::STRUCTURE, &domain, b"");
        let secret = derive(context::OWNER_RECIPIENT, &root, b"");
        let recipient = derive(context::RECIPIENT, &secret, &[0; 16]);
        let (sessions, places, lane_keys) = Default::default();
        let mut reader = Self { objects, config, domain, structure, recipient, sessions, places, lane_keys };
        reader.load();
        reader
    }

    fn sealed(&self, key: &str) -> Vec<u8> {
        let ad = [b"kist object\x01\0".as_slice(), &self.config.repo.0, key.as_bytes()].concat();
        seal::open(&self.structure, &ad, &self.objects[key]).unwrap()
    }

    fn keys(&self, folder: &str) -> Vec<(String, String)> {
        let below = |key: &String| Some((key.clone(), key.strip_prefix(folder)?.to_owned()));
        self.objects.keys().filter_map(below).collect()
    }

    fn load(&mut self) {
        for (key, name) in self.keys("sessions/") {
            let id = session_id(&name);
            let session = Session::decode(&self.sealed(&key)).unwrap();
            session.verify(&self.config.owner, self.config.repo, id).unwrap();
            self.sessions.insert(id, session);
        }
        for (key, name) in self.keys("index/") {
            let (session, rest) = name.rsplit_once('/').unwrap();
            let (lane, _) = rest.split_once('-').unwrap();
            let id = session_id(session);
            let session = &self.sessions[&id];
            let signing = &session.lanes[lane.parse::<usize>().unwrap()].signing;
            let delta = IndexDelta::decode(&self.sealed(&key), signing, self.config.repo, &key).unwrap();
            for pack in delta.packs {
                assert_eq!((pack.origin, pack.verified), (session.certificate.key, false));
                assert_eq!(pack.sessions, if pack.kind == PackKind::Data { vec![id] } else { vec![] });
                let bytes = &self.objects[&pack_key(pack.id)];
                assert_eq!((bytes.len(), hash::plain(bytes)), (pack.len as usize, pack.hash));
                let toc = Toc::open(&self.structure, self.config.repo, pack.id, bytes).unwrap();
                assert_eq!(toc.records.len(), pack.records.len());
                for (id, offset, len) in pack.places() {
                    self.places.insert(id, (pack.id, offset as usize, len as usize));
                }
            }
        }
    }

    /// Chapter 4: a record's parts, and the name of its key.
    fn record(&self, id: RecordId) -> (KeyName, Vec<Vec<u8>>) {
        let (pack, offset, len) = self.places[&id];
        let record = &self.objects[&pack_key(pack)][offset..offset + len];
        let (sealed, mut rest) = record.split_at(HEADER_LEN);
        let header = RecordHeader::open(&self.structure, self.config.repo, sealed).unwrap();
        let mut parts = Vec::new();
        for (number, part) in header.parts.iter().enumerate().filter(|(_, part)| part.stored_len > 0) {
            let key = match (&header.id, number) {
                (RecordId::Node(_), 0) => self.structure.clone(),
                _ => self.key(&header.key),
            };
            let (sealed, behind) = rest.split_at(part.stored_len as usize);
            rest = behind;
            let ad = part_context(self.config.repo, &id, number as u8, &header.key);
            let plain = seal::open(&key, &ad, sealed).unwrap();
            parts.push(match part.compression {
                Compression::None => plain,
                Compression::Zstd => zstd::bulk::decompress(&plain, part.raw_len as usize).unwrap(),
            });
        }
        assert!(rest.is_empty());
        (header.key, parts)
    }

    fn key(&self, name: &KeyName) -> Key {
        match *name {
            KeyName::Data { session, lane } => {
                let keys = &self.sessions[&session].lanes[lane as usize].keys;
                let unwrap = || {
                    assert_eq!(keys[0].recipient, half(hash::plain(&wrap::public(&self.recipient))));
                    unwrap_lane((self.config.repo, session, lane), &self.recipient, keys).unwrap()
                };
                self.lane_keys.borrow_mut().entry(*name).or_insert_with(unwrap).clone()
            }
            KeyName::Meta { scope, source } => self.meta(scope, source),
        }
    }

    fn meta(&self, scope: KeyId, source: SourceId) -> Key {
        let root = derive(context::META_ROOT, &self.domain, b"");
        derive(context::META, &derive(context::META_SCOPE, &root, &scope.0), &source.0)
    }

    /// Chapter 6: everything below a node.
    fn tree(&self, id: NodeId, meta: KeyName, out: &mut BTreeMap<TreePath, Vec<u8>>) {
        let (name, parts) = self.record(RecordId::Node(id));
        assert_eq!(name, meta);
        let [refs, entries] = parts.try_into().unwrap();
        let ids = derive(context::ID, &self.domain, b"");
        let bytes = [&name.to_bytes()[..], &(refs.len() as u32).to_le_bytes(), &refs, &entries].concat();
        assert_eq!(hash::keyed(&derive(context::NODE_ID, &ids, b""), &[&bytes]), id.0);
        match Node::decode(&NodeParts { refs, entries }).unwrap() {
            Node::Leaf(entries) => out.extend(entries.into_iter().map(|entry| self.file(entry))),
            Node::Inner { children, .. } => {
                children.iter().for_each(|child| self.tree(child.node, meta, out))
            }
            other => panic!("{other:?}"),
        }
    }

    fn file(&self, entry: Entry) -> (TreePath, Vec<u8>) {
        let Kind::File { content: Content::Extents(extents), .. } = entry.kind else { panic!("{entry:?}") };
        let mut content = Vec::new();
        for extent in extents {
            let Extent::Data { chunk, offset, len } = extent else { panic!("{extent:?}") };
            let plain = self.chunk(chunk.id);
            assert_eq!(plain.len(), chunk.len as usize);
            content.extend_from_slice(&plain[offset as usize..][..len as usize]);
        }
        (entry.path, content)
    }

    fn chunk(&self, id: ChunkId) -> Vec<u8> {
        let [plain] = <[_; 1]>::try_from(self.record(RecordId::Chunk(id)).1).unwrap();
        let ids = derive(context::ID, &self.domain, b"");
        assert_eq!(hash::keyed(&derive(context::CHUNK_ID, &ids, b""), &[&plain]), id.0);
        plain
    }

    /// Chapter 7: the only commit.
    fn commit(&self) -> (SessionId, Commit) {
        let [(key, name)] = <[_; 1]>::try_from(self.keys("commits/")).unwrap();
        let id = session_id(&name);
        let Resolution::Commit(commit) = Resolution::decode(&self.sealed(&key)).unwrap() else { panic!() };
        commit.verify(&self.config.owner, self.config.repo, id).unwrap();
        (id, *commit)
    }
}

/// Chapter 2: the id of a session from `<epoch>/<the rest>`.
fn session_id(name: &str) -> SessionId {
    let (epoch, rest) = name.split_once('/').unwrap();
    assert_eq!((epoch.len(), rest.len()), (8, 24));
    SessionId::parse(&[epoch, rest].concat()).unwrap()
}

fn pack_key(id: PackId) -> String {
    let name = id.to_string();
    format!("packs/{}/{name}", &name[..2])
}

async fn objects(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    for found in store.list("").await.unwrap() {
        out.insert(found.key.clone(), store.get(&found.key).await.unwrap().to_vec());
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kist_writes_is_read_by_the_chapters_alone() {
    let store = Store::memory();
    let world = fixed::world(11, NOW);
    let file = |n: u32| {
        let path = TreePath::from_slashes(format!("srv/data/{:03}/{n:06}", n / 100).as_bytes()).unwrap();
        (path, format!("the content of file {n}, and {}", "more ".repeat(n as usize % 50)).into_bytes())
    };
    let files: BTreeMap<_, _> = (0..2000).map(file).collect();
    let key_file = written(&store, &world, &files).await;
    let reader = Reader::open(objects(&store).await, &key_file);
    let (session, commit) = reader.commit();
    let root = commit.roots[0];
    let meta = KeyName::Meta { scope: commit.certificate.key, source: root.source };
    let mut read = BTreeMap::new();
    reader.tree(root.node, meta, &mut read);
    assert_eq!(read.len(), files.len());
    assert!(read == files);
    let nodes = reader.places.keys().filter(|id| matches!(id, RecordId::Node(_)));
    assert!(nodes.count() > 2, "the tree has more than one level");
    let ad = summary_context(reader.config.repo, session);
    let summary = seal::open(&reader.meta(commit.certificate.key, commit.source), &ad, &commit.summary);
    assert_eq!(serde_json::from_slice::<Summary>(&summary.unwrap()).unwrap().source, source());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_has_no_objects_but_those_of_chapter_2_each_of_a_padded_size() {
    let store = Store::memory();
    let files = BTreeMap::from([(TreePath::from_slashes(b"a").unwrap(), b"text".to_vec())]);
    written(&store, &fixed::world(12, NOW), &files).await;
    let hex = |text: &str, len: usize| text.len() == len && kist::format::id::unhex(text).is_some();
    let mut kinds = BTreeSet::new();
    for (key, bytes) in objects(&store).await {
        let parts: Vec<&str> = key.split('/').collect();
        let (named, len) = match parts.as_slice() {
            ["config"] => (true, 147),
            ["keys", id] => (hex(id, 32), 11 + 256 + 40 + 4096 + 40),
            ["packs", xx, id] => (hex(id, 32) && id.starts_with(xx) && xx.len() == 2, padded(&bytes)),
            ["index", epoch, id, rest] => (hex(epoch, 8) && hex(id, 24) && *rest == "1-0", padded(&bytes)),
            ["sessions" | "commits", epoch, id] => (hex(epoch, 8) && hex(id, 24), padded(&bytes)),
            _ => panic!("{key} is not in chapter 2"),
        };
        assert!(named && bytes.len() == len, "{key}: {} bytes", bytes.len());
        kinds.insert(parts[0].to_owned());
    }
    let all = ["commits", "config", "index", "keys", "packs", "sessions"];
    assert_eq!(kinds, all.map(String::from).into());
}

fn padded(bytes: &[u8]) -> usize {
    kist::format::codec::padded_len(bytes.len())
}
