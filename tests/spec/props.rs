//! Random values of every codec come back, and encode to the same bytes.

mod gc;

use bytes::{Bytes, BytesMut};
use kist::crypto::secret::Key;
use kist::crypto::sign;
use kist::format::codec::padded_len;
use kist::format::commit::{Commit, Resolution, Root, RootKind};
use kist::format::entry::{Attributes, Content, Entry, Extent, FileTime, Kind, TreePath};
use kist::format::frame::{Assembly, Frame, Message, Pieces};
use kist::format::id::{
    ChunkId, DomainId, KeyId, LinkGroup, NodeId, PackId, RecordId, RepoId, SessionId, SlotId, SourceId,
};
use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::keys::{Certificate, KeyFile, KeyName, Role};
use kist::format::limits;
use kist::format::node::{Child, ExtentChild, Node};
use kist::format::pack::{Compression, PackKind, PartHeader, RecordHeader};
use kist::format::refs::ChunkRef;
use kist::format::relay::{Answer, Class, Listed, Operation, Request};
use kist::format::session::{Lane, Session, WrappedKey};
use kist::world::Time;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_compose, prop_oneof, proptest};

const REPO: RepoId = RepoId([1; 16]);
const SESSION: SessionId = SessionId([2; 16]);

prop_compose! {
    fn path()(names in vec(name(), 0..5)) -> TreePath {
        names.iter().fold(TreePath::root(), |path, name| path.join(name).expect("a short path of names"))
    }
}

/// Any name that is one; often short, so that paths share their start.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no separator", |b| *b != 0 && *b != b'/');
    prop_oneof![
        3 => prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), Just(b"a-b".to_vec()), Just(vec![1])],
        2 => vec(byte, 1..=255),
    ]
    .prop_filter("a name", |name| name != b"." && name != b"..")
}

/// A chunk's length depends on its id, as what it holds does.
fn chunk() -> impl Strategy<Value = ChunkRef> {
    let len = |byte: u8| (limits::CHUNK_LEN as u32) >> (byte % 25);
    any::<u8>().prop_map(move |byte| ChunkRef { id: ChunkId([byte; 32]), len: len(byte) })
}

fn extent() -> impl Strategy<Value = Extent> {
    let data = (chunk(), any::<prop::sample::Index>()).prop_flat_map(|(chunk, at)| {
        let offset = at.index(chunk.len as usize) as u32;
        (1..=chunk.len - offset).prop_map(move |len| Extent::Data { chunk, offset, len })
    });
    prop_oneof![4 => data, 1 => (1..1u64 << 56).prop_map(|len| Extent::Hole { len })]
}

fn content() -> impl Strategy<Value = (u64, Content)> {
    let inline = vec(extent(), 0..20)
        .prop_map(|extents| (extents.iter().map(Extent::len).sum(), Content::Extents(extents)));
    prop_oneof![4 => inline, 1 => any::<(u64, [u8; 32])>().prop_map(|(n, id)| (n, Content::Tree(NodeId(id))))]
}

fn kind() -> impl Strategy<Value = Kind> {
    let file = (content(), any::<Option<[u8; 32]>>()).prop_map(|((size, content), hash)| Kind::File {
        size,
        content,
        hash,
    });
    let device = any::<(u32, u32)>();
    prop_oneof![
        2 => Just(Kind::Folder),
        6 => file,
        1 => vec(any::<u8>(), 0..300).prop_map(|target| Kind::Symlink { target }),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
        1 => device.prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => device.prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
    ]
}

fn time() -> impl Strategy<Value = FileTime> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| FileTime { secs, nanos })
}

prop_compose! {
    fn attributes()(
        mode in 0u16..0o10000, uid: u32, gid: u32, mtime in time(), ctime in time(),
        xattrs in btree_map(vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..80), 0..4),
        link: Option<[u8; 16]>,
    ) -> Attributes {
        let xattrs = xattrs.into_iter().collect();
        Attributes { mode, uid, gid, mtime, ctime, xattrs, link: link.map(LinkGroup) }
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entries = btree_map(path(), (attributes(), kind()), 0..12);
    entries.prop_map(|all| {
        all.into_iter().map(|(path, (attributes, kind))| Entry { path, attributes, kind }).collect()
    })
}

fn node() -> impl Strategy<Value = Node> {
    let id = || any::<[u8; 32]>().prop_map(NodeId);
    let level = || 1..limits::TREE_LEVELS;
    let children = btree_set(path(), 1..20).prop_flat_map(move |paths| {
        let children =
            paths.into_iter().map(|last| id().prop_map(move |node| Child { last: last.clone(), node }));
        children.collect::<Vec<_>>()
    });
    let extent_child = (1u64.., id()).prop_map(|(len, node)| ExtentChild { len, node });
    prop_oneof![
        5 => entries().prop_map(Node::Leaf),
        1 => (level(), children).prop_map(|(level, children)| Node::Inner { level, children }),
        1 => vec(extent(), 0..50).prop_map(Node::ExtentLeaf),
        1 => (level(), vec(extent_child, 1..50))
            .prop_map(|(level, children)| Node::ExtentInner { level, children }),
    ]
}

prop_compose! {
    fn pack()(
        id: [u8; 16], data: bool, hash: [u8; 32], padding in 0u32..5000,
        records in vec((any::<[u8; 32]>(), 125u32..60_000), 0..40),
        (origin, verified) in any::<([u8; 16], bool)>(), sessions in btree_set(any::<[u8; 16]>(), 0..4),
    ) -> IndexPack {
        let mut end = 0;
        let records = records.into_iter().map(|(id, len)| {
            end += len;
            IndexRecord { id, len }
        });
        let records = records.collect();
        let kind = if data { PackKind::Data } else { PackKind::Nodes };
        let sessions = sessions.into_iter().map(SessionId).collect();
        let (id, len, origin) = (PackId(id), end + padding, KeyId(origin));
        IndexPack { id, kind, len, hash, origin, verified, sessions, records }
    }
}

prop_compose! {
    fn certificate()(
        role in 0usize..4, key: [u8; 16], domain: [u8; 16], serial: u32, signing: [u8; 32],
        name in "\\PC{0,16}", signature in vec(any::<u8>(), 64),
    ) -> Certificate {
        Certificate {
            role: [Role::Owner, Role::Writer, Role::Maintainer, Role::Reader][role],
            key: KeyId(key),
            domain: DomainId(domain),
            serial,
            signing,
            name,
            signature: signature.try_into().expect("64 bytes"),
        }
    }
}

prop_compose! {
    fn session()(
        started: i64, certificate in certificate(),
        lanes in vec((any::<[u8; 32]>(), vec(any::<([u8; 16], u8)>(), 0..3)), 0..3),
        signature in vec(any::<u8>(), 64),
    ) -> Session {
        let key = |(recipient, byte)| WrappedKey { recipient, wrapped: vec![byte; 1168] };
        let lane = |(signing, keys): (_, Vec<_>)| Lane { signing, keys: keys.into_iter().map(key).collect() };
        Session {
            started: Time(started),
            certificate,
            lanes: lanes.into_iter().map(lane).collect(),
            signature: signature.try_into().expect("64 bytes"),
        }
    }
}

prop_compose! {
    fn commit()(
        (view, head, time, sequence) in any::<(u64, [u8; 32], i64, u64)>(), source: [u8; 16],
        (complete, held) in any::<(bool, bool)>(), previous: [u8; 32],
        class in vec(any::<u8>(), 0..=limits::CLASS_LEN), roots in vec(any::<(u8, [u8; 16], [u8; 32])>(), 0..9),
        summary in vec(any::<u8>(), 0..500), certificate in certificate(),
        signature in vec(any::<u8>(), 64),
    ) -> Commit {
        let kinds = [RootKind::Files, RootKind::Manifests, RootKind::Volume];
        let root = |(kind, source, node): (u8, _, _)| {
            Root { kind: kinds[usize::from(kind % 3)], source: SourceId(source), node: NodeId(node) }
        };
        Commit {
            view, head, time: Time(time), source: SourceId(source), complete, sequence, previous,
            class, held,
            roots: roots.into_iter().map(root).collect(), summary, certificate,
            signature: signature.try_into().expect("64 bytes"),
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let most = limits::PACK_LEN as u64;
    let body = || vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    prop_oneof![
        (0..=most).prop_map(|limit| Operation::Get { limit }),
        (0..=u64::MAX - most, 1..=most).prop_map(|(start, len)| Operation::Range { start, len }),
        Just(Operation::Size),
        body().prop_map(Operation::Put),
        body().prop_map(Operation::Create),
        any::<u32>().prop_map(|from| Operation::List { from }),
        Just(Operation::Delete),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let listed = ("[a-zA-Z0-9/._ä-]{1,80}", any::<u64>(), any::<i64>());
    let listed = listed.prop_map(|(key, size, time)| Listed::new(key, size, time).expect("a short key"));
    let class = prop_oneof![Just(Class::Missing), Just(Class::Full), Just(Class::Other)];
    prop_oneof![
        Just(Answer::Done),
        vec(any::<u8>(), 0..300).prop_map(|body| Answer::Found(body.into())),
        any::<u64>().prop_map(Answer::Size),
        (any::<u32>(), vec(listed, 1..20)).prop_map(|(next, objects)| Answer::Listing { next, objects }),
        (class, ".{0,100}").prop_map(|(class, text)| Answer::failed(class, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nodes_come_back(node in node()) {
        let parts = node.encode();
        prop_assert_eq!(Node::decode(&parts).unwrap(), node);
    }

    #[test]
    fn a_changed_node_is_refused_or_is_its_own_encoding(node in node(), at: prop::sample::Index, new: u8) {
        let mut parts = node.encode();
        let refs = parts.refs.len();
        match at.index(refs + parts.entries.len()) {
            i if i < refs => parts.refs[i] = new,
            i => parts.entries[i - refs] = new,
        }
        if let Ok(other) = Node::decode(&parts) {
            prop_assert_eq!(other.encode(), parts);
        }
    }

    #[test]
    fn deltas_come_back(packs in vec(pack(), 0..5), zeros in 0usize..600) {
        let delta = IndexDelta { packs };
        let seed = Key::new([3; 32]);
        let mut bytes = delta.encode(&seed, REPO, "index/a/0-0");
        bytes.resize(bytes.len() + zeros, 0);
        let again = IndexDelta::decode(&bytes, &sign::public(&seed), REPO, "index/a/0-0");
        prop_assert_eq!(again.unwrap(), delta.clone());
        let mut bytes = delta.body();
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(IndexDelta::decode_part(&bytes).unwrap(), delta);
    }

    #[test]
    fn sessions_come_back(session in session(), zeros in 0usize..600) {
        let mut bytes = session.encode();
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(Session::decode(&bytes).unwrap(), session);
    }

    #[test]
    fn commits_come_back(commit in commit(), zeros in 0usize..600) {
        let mut bytes = commit.encode();
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(Resolution::decode(&bytes).unwrap(), Resolution::Commit(Box::new(commit)));
    }

    #[test]
    fn a_signed_commit_holds_until_a_byte_changes(commit in commit(), at: prop::sample::Index) {
        let (owner, writer) = (Key::new([4; 32]), Key::new([5; 32]));
        let names = (Role::Writer, KeyId([6; 16]), DomainId::DEFAULT, 0);
        let mut commit = commit;
        commit.certificate = Certificate::issue(&owner, REPO, names, sign::public(&writer), "shop");
        commit.sign(&writer, REPO, SESSION);
        let mut bytes = commit.encode();
        prop_assert!(commit.verify(&sign::public(&owner), REPO, SESSION).is_ok());
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        if let Ok(Resolution::Commit(changed)) = Resolution::decode(&bytes) {
            prop_assert!(changed.verify(&sign::public(&owner), REPO, SESSION).is_err());
        }
    }

    #[test]
    fn record_headers_come_back(id: [u8; 32], lane: u32, raw in 1u32..1 << 22, saved in 0u32..1 << 22) {
        let part = |raw: u32| match saved % raw {
            0 => PartHeader { compression: Compression::None, stored_len: raw + 40, raw_len: raw },
            less => PartHeader { compression: Compression::Zstd, stored_len: raw + 40 - less, raw_len: raw },
        };
        let chunk = RecordHeader::chunk(
            RecordId::Chunk(ChunkId(id)),
            KeyName::Data { session: SESSION, lane },
            part(raw),
        );
        let node = RecordHeader {
            id: RecordId::Node(NodeId(id)),
            key: KeyName::Meta { scope: KeyId([7; 16]), source: SourceId([8; 16]) },
            parts: [part(raw), part(1)],
        };
        let structure = Key::new([9; 32]);
        for header in [chunk, node] {
            let mut sealed = Vec::new();
            header.seal_into(&mut sealed, &structure, REPO, [0; 24]);
            prop_assert_eq!(RecordHeader::open(&structure, REPO, &sealed).unwrap(), header);
        }
    }

    #[test]
    fn key_files_come_back(slot: [u8; 16], unlock: [u8; 32], comment in "[a-z :]{0,30}") {
        let file = KeyFile { repo: REPO, slot: SlotId(slot), unlock: Key::new(unlock) };
        prop_assert_eq!(KeyFile::parse(&file.to_text(&comment)).unwrap(), file.clone());
        prop_assert_eq!(KeyFile::from_kit(&file.to_kit().to_lowercase()).unwrap(), file);
    }

    #[test]
    fn padding_is_idempotent_and_grows_with_the_length(len in 0usize..1 << 27, more in 0usize..1 << 20) {
        let padded = padded_len(len);
        prop_assert!(padded >= len);
        prop_assert_eq!(padded_len(padded), padded);
        prop_assert!(padded_len(len + more) >= padded);
    }

    #[test]
    fn messages_come_back_from_their_frames(kind in 1u8..=10, call: u32, len in 0usize..100_000, split: prop::sample::Index) {
        let sent = Message { kind, call, body: (0..len).map(|at| at as u8).collect() };
        let mut pieces = Pieces::cut(sent.clone()).unwrap();
        let mut stream = Vec::new();
        for number in 1.. {
            let (payload, last) = pieces.take();
            Frame::Piece { number, last, payload }.encode(&mut stream);
            if last {
                break;
            }
        }
        // As it comes off a stream: in two parts.
        let (first, second) = stream.split_at(split.index(stream.len()));
        let (mut input, mut assembly, mut found) = (BytesMut::new(), Assembly::default(), None);
        for part in [first, second] {
            prop_assert!(found.is_none());
            input.extend_from_slice(part);
            while let Some(Frame::Piece { last, payload, .. }) = Frame::take(&mut input).unwrap() {
                found = assembly.push(&payload, last).unwrap();
            }
        }
        prop_assert!(found == Some(sent) && input.is_empty());
    }

    #[test]
    fn relay_requests_come_back(key in "[a-z0-9/]{1,80}", operation in operation()) {
        let request = Request { key, operation };
        prop_assert!(Request::decode(&request.encode()).unwrap() == request);
    }

    #[test]
    fn relay_answers_come_back(answer in answer()) {
        prop_assert!(Answer::decode(&answer.encode()).unwrap() == answer);
    }
}
