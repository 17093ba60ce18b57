//! What every store has to keep to, one function a law, for any backend.
//!
//! The laws panic when they are broken: they are for tests, which run [`all`] on memory,
//! on a folder and on real servers. Each law works in a folder of its own under
//! `conformance/`, and the store must not hold anything there before.

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::store::{Class, Created, Object, Store};

/// More than a page of any known store's listing (1000).
const MANY: usize = 1100;

/// Runs every law.
pub async fn all(store: &Store) {
    what_was_put_is_read_back(store).await;
    an_empty_object_is_an_object(store).await;
    ranges_are_exact_or_truncated(store).await;
    what_is_missing_is_missing(store).await;
    limits_are_kept(store).await;
    a_listing_sees_each_write_at_once(store).await;
    a_prefix_ends_at_a_slash(store).await;
    a_listing_of_many_is_whole(store).await;
    one_create_wins_a_race(store).await;
    a_create_never_overwrites(store).await;
    deleting_is_idempotent(store).await;
    a_deleted_key_can_be_created_again(store).await;
    a_large_object_comes_back(store).await;
    store.delete(&key("large", "a")).await.expect("delete");
    keys_of_every_kind_come_back(store).await;
    strange_keys_are_refused(store).await;
    the_probe_finds_the_store_sound(store).await;
}

/// Runs the laws of a store that neither creates nor deletes: a mover's, by way of its job.
pub async fn all_of_a_relay(store: &Store) {
    what_was_put_is_read_back(store).await;
    an_empty_object_is_an_object(store).await;
    ranges_are_exact_or_truncated(store).await;
    what_is_missing_is_missing(store).await;
    limits_are_kept(store).await;
    a_prefix_ends_at_a_slash(store).await;
    a_listing_of_many_is_whole(store).await;
    a_large_object_comes_back(store).await;
    keys_of_every_kind_come_back(store).await;
    strange_keys_are_refused(store).await;
}

fn key(law: &str, name: &str) -> String {
    format!("conformance/{law}/{name}")
}

async fn put(store: &Store, key: &str, body: &'static str) {
    store.put(key, Bytes::from_static(body.as_bytes())).await.expect("put");
}

async fn names(store: &Store, prefix: &str) -> Vec<String> {
    let listed = store.list(prefix).await.expect("list");
    listed.into_iter().map(|object| object.key).collect()
}

/// An object is read back as it was put, with its size.
pub async fn what_was_put_is_read_back(store: &Store) {
    let key = key("put", "a");
    put(store, &key, "hello").await;
    assert_eq!(store.get(&key).await.expect("get"), "hello");
    assert_eq!(store.size(&key).await.expect("size"), 5);
    put(store, &key, "hello").await;
    assert_eq!(store.get(&key).await.expect("a put may be sent again"), "hello");
}

/// No bytes are not the same as no object.
pub async fn an_empty_object_is_an_object(store: &Store) {
    let key = key("empty", "a");
    put(store, &key, "").await;
    assert_eq!(store.get(&key).await.expect("get"), "");
    assert_eq!(store.size(&key).await.expect("size"), 0);
    assert_eq!(names(store, "conformance/empty").await, [key.as_str()]);
    let truncated = store.get_range(&key, 0..1).await.expect_err("no byte there");
    assert_eq!(truncated.class(), Class::Corrupt);
}

/// A range gives all its bytes, or says that the object is too short.
pub async fn ranges_are_exact_or_truncated(store: &Store) {
    let key = key("range", "a");
    put(store, &key, "0123456789").await;
    for (range, expected) in [(0..1, "0"), (3..7, "3456"), (9..10, "9"), (0..10, "0123456789"), (4..4, "")] {
        let found = store.get_range(&key, range.clone()).await.expect("get range");
        assert_eq!(found, expected, "{range:?}");
    }
    for (range, there) in [(9..11, 1), (10..11, 0), (0..11, 10), (500..600, 0)] {
        match store.get_range(&key, range.clone()).await {
            Err(crate::store::Error::Truncated { found, expected, .. }) => {
                assert_eq!((found, expected), (there, range.end - range.start), "{range:?}");
            }
            other => panic!("{range:?}: {other:?}"),
        }
    }
}

/// Reading what is not there is told apart from all other errors.
pub async fn what_is_missing_is_missing(store: &Store) {
    let key = key("missing", "a");
    put(store, &format!("{key}b"), "a neighbour").await;
    assert_eq!(store.get(&key).await.expect_err("get").class(), Class::Missing);
    assert_eq!(store.get_range(&key, 0..1).await.expect_err("range").class(), Class::Missing);
    assert_eq!(store.size(&key).await.expect_err("size").class(), Class::Missing);
    assert_eq!(names(store, "conformance/missing/none").await, [""; 0]);
}

/// An object above the limit is refused, one at the limit is not.
pub async fn limits_are_kept(store: &Store) {
    let key = key("limit", "a");
    put(store, &key, "01234").await;
    assert_eq!(store.get_at_most(&key, 5).await.expect("at the limit"), "01234");
    let error = store.get_at_most(&key, 4).await.expect_err("above the limit");
    assert_eq!(error.class(), Class::Corrupt);
}

/// A listing that begins after a put, a create or a delete shows it.
pub async fn a_listing_sees_each_write_at_once(store: &Store) {
    let mut expected = Vec::new();
    for nth in 0..10 {
        let key = key("list", &format!("{nth}"));
        let body = Bytes::from(vec![0; nth]);
        if nth % 2 == 0 {
            store.put(&key, body).await.expect("put");
        } else {
            store.create_exclusive(&key, body).await.expect("create");
        }
        expected.push((key, nth as u64));
        let listed = store.list("conformance/list").await.expect("list");
        let listed: Vec<_> = listed.into_iter().map(|o: Object| (o.key, o.size)).collect();
        assert_eq!(listed, expected);
    }
    while let Some((key, _)) = expected.pop() {
        store.delete(&key).await.expect("delete");
        assert_eq!(names(store, "conformance/list").await.len(), expected.len());
    }
}

/// `a` lists `a/…`, and neither `a` itself nor `ab/…`; the order is that of the keys.
pub async fn a_prefix_ends_at_a_slash(store: &Store) {
    for name in ["ab/x", "a-/y", "a/d/e", "a/c", "b/a/c"] {
        put(store, &key("prefix", name), "x").await;
    }
    let under_a = [key("prefix", "a/c"), key("prefix", "a/d/e")];
    assert_eq!(names(store, &key("prefix", "a")).await, under_a);
    assert_eq!(names(store, &key("prefix", "a/")).await, under_a);
    assert_eq!(names(store, &key("prefix", "a/d")).await, under_a[1..]);
    let all = ["a-/y", "a/c", "a/d/e", "ab/x", "b/a/c"].map(|name| key("prefix", name));
    assert_eq!(names(store, "conformance/prefix").await, all);
}

/// A listing of more than a page is whole, sorted, and has nothing twice.
pub async fn a_listing_of_many_is_whole(store: &Store) {
    let keys: Vec<String> = (0..MANY).map(|nth| key("many", &format!("{nth:05}"))).collect();
    stream::iter(&keys)
        .map(|key| store.put(key, Bytes::from_static(b"x")))
        .buffer_unordered(32)
        .try_collect::<()>()
        .await
        .expect("put");
    assert_eq!(names(store, "conformance/many").await, keys);
    let streamed = store.list_stream("conformance/many").try_collect::<Vec<_>>().await;
    assert_eq!(streamed.expect("list").len(), MANY);
}

/// Of eight creates at once one wins, and the others are given the winner's bytes.
pub async fn one_create_wins_a_race(store: &Store) {
    for round in 0..5 {
        let key = key("race", &format!("{round}"));
        let bodies: Vec<Bytes> = (0..8).map(|n| Bytes::from(format!("racer {n}"))).collect();
        let racers = bodies.iter().map(|body| {
            let (store, key, body) = (store.clone(), key.clone(), body.clone());
            tokio::spawn(async move { store.create_exclusive(&key, body).await.expect("create") })
        });
        let ended: Vec<Created> =
            join_all(racers).await.into_iter().map(|ended| ended.expect("no racer panics")).collect();
        let winners: Vec<usize> = (0..8).filter(|n| ended[*n] == Created::Mine).collect();
        assert_eq!(winners.len(), 1, "{ended:?}");
        let winner = &bodies[winners[0]];
        assert_eq!(store.get(&key).await.expect("get"), winner);
        for (n, created) in ended.iter().enumerate().filter(|(n, _)| *n != winners[0]) {
            assert_eq!(*created, Created::Other(winner.clone()), "racer {n}");
        }
    }
}

/// A create of a key that is taken changes nothing; the same body again is "mine".
pub async fn a_create_never_overwrites(store: &Store) {
    let key = key("create", "a");
    let (mine, theirs) = (Bytes::from_static(b"mine"), Bytes::from_static(b"theirs"));
    assert_eq!(store.create_exclusive(&key, mine.clone()).await.expect("create"), Created::Mine);
    let lost = store.create_exclusive(&key, theirs).await.expect("create");
    assert_eq!(lost, Created::Other(mine.clone()));
    assert_eq!(store.create_exclusive(&key, mine).await.expect("create"), Created::Mine);
    assert_eq!(store.get(&key).await.expect("get"), "mine");
}

/// Deleting what is not there, or no longer there, is fine.
pub async fn deleting_is_idempotent(store: &Store) {
    let key = key("delete", "a");
    store.delete(&key).await.expect("nothing there");
    put(store, &key, "x").await;
    store.delete(&key).await.expect("delete");
    assert_eq!(store.get(&key).await.expect_err("gone").class(), Class::Missing);
    store.delete(&key).await.expect("again");
}

/// A delete frees the key.
pub async fn a_deleted_key_can_be_created_again(store: &Store) {
    let key = key("again", "a");
    for body in ["one", "two"] {
        let created = store.create_exclusive(&key, Bytes::from_static(body.as_bytes())).await;
        assert_eq!(created.expect("create"), Created::Mine);
        store.delete(&key).await.expect("delete");
    }
}

/// 20 MiB, more than any pack, come back whole and in parts.
pub async fn a_large_object_comes_back(store: &Store) {
    let key = key("large", "a");
    let body: Bytes = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect();
    assert_eq!(body.len(), 20 << 20);
    store.put(&key, body.clone()).await.expect("put");
    assert_eq!(store.get(&key).await.expect("get"), body);
    let middle = store.get_range(&key, 7_000_001..9_000_003).await.expect("range");
    assert_eq!(middle, body.slice(7_000_001..9_000_003));
}

/// Every character that kist uses, in every place, in segments short and long.
pub async fn keys_of_every_kind_come_back(store: &Store) {
    let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-";
    let long = "f".repeat(128);
    let mut keys: Vec<String> = ["-", "0", "a-0", "-/-/-", "0/0/0/0/0/0", "gen-0012", alphabet, &long]
        .map(|name| key("keys", &format!("{name}/x")))
        .to_vec();
    keys.sort();
    for key in &keys {
        store.put(key, Bytes::from(key.clone())).await.expect("put");
    }
    assert_eq!(names(store, "conformance/keys").await, keys);
    for key in &keys {
        assert_eq!(store.get(key).await.expect("get"), key.as_bytes());
    }
}

/// A key that kist would not make is refused before anything is sent.
pub async fn strange_keys_are_refused(store: &Store) {
    let long = "a".repeat(600);
    for key in ["", "/", "a/", "/a", "a//b", "..", "../a", "a.b", "A", "a b", "a%2fb", "ä", "a#1", &long] {
        assert_eq!(store.get(key).await.expect_err(key).class(), Class::Usage, "{key:?}");
        let put = store.put(key, Bytes::new()).await;
        assert_eq!(put.expect_err(key).class(), Class::Usage, "{key:?}");
    }
    assert_eq!(store.list("../a").await.expect_err("list").class(), Class::Usage);
}

/// The probe agrees with these laws, and leaves nothing behind.
pub async fn the_probe_finds_the_store_sound(store: &Store) {
    let probe = store.probe([0xab; 16]).await.expect("probe");
    assert!(probe.is_sound(), "{:?}", probe.findings);
    assert_eq!(names(store, "probe").await, [""; 0]);
}
