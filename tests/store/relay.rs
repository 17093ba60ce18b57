//! A store by way of a job, over a real link: the laws, what is refused, how it fails.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::TryStreamExt;
use kist::format::frame::kind;
use kist::format::id::{PackId, SessionId};
use kist::format::limits::{RELAY_PAGE, STORE_KEY_LEN};
use kist::format::object;
use kist::format::relay::{Answer, Class as Failed, Operation, Request};
use kist::store::testing::{ANY, Failure, Faulty, Moment};
use kist::store::{
    Class, Error, May, Relayed, Remote, RemoteGone, Store, StoreSettings, StoreUrl, conformance,
};
use kist::wire::{Calls, Limits, Receiver, Sender, link};
use tokio::io::{duplex, split};
use tokio::task::JoinHandle;

const SESSION: SessionId = SessionId([1; 16]);

/// A mover's calls, as the way to its job.
#[derive(Debug)]
struct OverLink(Calls);

impl Remote for OverLink {
    fn call(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, RemoteGone>> {
        Box::pin(async move {
            let answer = self.0.call(kind::STORE_REQUEST, request).await;
            answer.map(|message| message.body).map_err(|e| RemoteGone(e.to_string()))
        })
    }
}

/// Answers requests at the job's end, all at the same time.
async fn serve(sender: Sender, mut receiver: Receiver, relayed: Arc<Relayed>) {
    while let Ok(Some(message)) = receiver.next().await {
        assert_eq!(message.kind, kind::STORE_REQUEST);
        let (sender, relayed) = (sender.clone(), Arc::clone(&relayed));
        tokio::spawn(async move {
            let answer = relayed.answer(message.body).await;
            // The mover may have gone by now.
            let _ = sender.send(kind::STORE_ANSWER, message.call, answer).await;
        });
    }
}

/// A store as a mover sees it, the job's side of it, and the job that answers.
fn relay(store: &Store, may: May) -> (Store, Arc<Relayed>, JoinHandle<()>) {
    let (mover, job) = duplex(64 << 10);
    let start = |stream| {
        let (read, write) = split(stream);
        link(read, write, Limits::default())
    };
    let ((sender, mut receiver), (job_sender, job_receiver)) = (start(mover), start(job));
    let relayed = Arc::new(Relayed::new(store.clone(), may));
    let job = tokio::spawn(serve(job_sender, job_receiver, Arc::clone(&relayed)));
    let calls = Calls::new(sender);
    let answered = calls.clone();
    tokio::spawn(async move {
        while let Ok(Some(message)) = receiver.next().await {
            answered.answered(message).expect("it was asked for");
        }
    });
    (Store::remote(Arc::new(OverLink(calls))), relayed, job)
}

async fn ask(relayed: &Relayed, key: &str, operation: Operation) -> Answer {
    let request = Request { key: key.into(), operation };
    Answer::decode(&relayed.answer(request.encode()).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_to_memory_keeps_the_laws() {
    let (store, relayed, _job) = relay(&Store::memory(), May::below("conformance"));
    conformance::all_of_a_relay(&store).await;
    assert_eq!(relayed.misbehaviour(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_to_a_folder_keeps_the_laws() {
    let scratch = tempfile::tempdir().unwrap();
    let url = StoreUrl::parse(scratch.path().to_str().unwrap()).unwrap();
    let folder = Store::open(&url, &StoreSettings::default()).unwrap();
    let (store, relayed, _job) = relay(&folder, May::below("conformance"));
    conformance::all_of_a_relay(&store).await;
    assert_eq!(relayed.misbehaviour(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_puts_and_gets_pass_each_other() {
    let beneath = Store::memory();
    let (store, _relayed, _job) = relay(&beneath, May::below("a"));
    let body = |nth: u8| Bytes::from(vec![nth; 16 << 20]);
    beneath.put("a/whole", Bytes::from(vec![9; 64 << 20])).await.unwrap();
    let put = |nth: u8| {
        let store = store.clone();
        async move { store.put(&format!("a/{nth}"), body(nth)).await.unwrap() }
    };
    let (whole, ..) = tokio::join!(store.get("a/whole"), put(1), put(2), put(3), put(4));
    assert!(whole.unwrap() == vec![9; 64 << 20]);
    for nth in 1..=4 {
        assert!(beneath.get(&format!("a/{nth}")).await.unwrap() == body(nth));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_whole() {
    let beneath = Store::memory();
    let count = 2 * RELAY_PAGE + 1;
    for nth in 0..count {
        beneath.put(&format!("packs/{nth:06}"), Bytes::from_static(b"abc")).await.unwrap();
    }
    let (store, _relayed, _job) = relay(&beneath, May::restore());
    for exact in [count, 2 * RELAY_PAGE] {
        let listed = store.list("packs").await.unwrap();
        assert_eq!(listed, beneath.list("packs").await.unwrap());
        assert_eq!(listed.len(), exact);
        beneath.delete(&format!("packs/{:06}", count - 1)).await.unwrap();
    }
}

#[tokio::test]
async fn listings_under_way_are_bounded_and_a_lost_one_says_so() {
    let beneath = Store::memory();
    for nth in 0..=RELAY_PAGE {
        beneath.put(&format!("packs/{nth:06}"), Bytes::new()).await.unwrap();
    }
    let relayed = Relayed::new(beneath, May::restore());
    let mut begun = Vec::new();
    for _ in 0..9 {
        let Answer::Listing { next, .. } = ask(&relayed, "packs", Operation::List { from: 0 }).await else {
            panic!()
        };
        begun.push(next);
    }
    let lost = |answer| matches!(answer, Answer::Failed { class: Failed::Transient, .. });
    assert!(lost(ask(&relayed, "packs", Operation::List { from: begun[0] }).await), "the oldest went");
    assert!(lost(ask(&relayed, "index", Operation::List { from: begun[1] }).await), "of another folder");
    let last = ask(&relayed, "packs", Operation::List { from: begun[1] }).await;
    assert!(matches!(last, Answer::Listing { next: 0, objects } if objects.len() == 1));
    assert!(lost(ask(&relayed, "packs", Operation::List { from: begun[1] }).await), "it was at its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mover_may_not_is_denied_and_told() {
    let beneath = Store::memory();
    beneath.put("keys/aa", Bytes::from_static(b"planted")).await.unwrap();
    let (store, relayed, _job) = relay(&beneath, May::backup(SESSION, 0));
    let pack = object::pack_key(PackId([7; 16]));
    store.put(&pack, Bytes::from_static(b"sealed")).await.unwrap();
    store.put(&pack, Bytes::from_static(b"sealed")).await.expect("it may be sent again");
    let body = || Bytes::from_static(b"other");
    let denied = [
        store.get("keys/aa").await.map(drop),
        store.put(&pack, body()).await,
        store.put(&object::commit_key(SESSION), body()).await,
        store.create_exclusive(&object::commit_key(SESSION), body()).await.map(drop),
        store.delete(&pack).await,
        store.list("").await.map(drop),
        store.size("probe/aa").await.map(drop),
    ];
    for (nth, denied) in denied.into_iter().enumerate() {
        // A delete that is refused has a class of its own.
        let class = if nth == 4 { Class::Retained } else { Class::Denied };
        assert_eq!(denied.unwrap_err().class(), class, "{nth}");
    }
    assert_eq!(beneath.get(&pack).await.unwrap(), "sealed");
    assert_eq!(beneath.list("").await.unwrap().len(), 2);
    let expected = [
        "get keys/aa".to_owned(),
        format!("put {pack}, which is there and differs"),
        format!("put {}", object::commit_key(SESSION)),
        format!("create {}", object::commit_key(SESSION)),
        "and 3 more".into(),
    ];
    assert_eq!(relayed.misbehaviour(), expected);
}

#[tokio::test]
async fn what_is_no_request_is_denied_and_told() {
    let relayed = Relayed::new(Store::memory(), May::restore());
    for request in [&b""[..], b"\x09\x01a", b"sh: not found", &[1; STORE_KEY_LEN]] {
        let answer = Answer::decode(&relayed.answer(Bytes::copy_from_slice(request)).await).unwrap();
        assert!(matches!(answer, Answer::Failed { class: Failed::Denied, .. }));
    }
    assert_eq!(relayed.misbehaviour().len(), 4);
    // Keys that a store would refuse are answered as well, with control characters escaped.
    let answer = ask(&relayed, "packs/\x1b[31m", Operation::Size).await;
    assert!(matches!(answer, Answer::Failed { class: Failed::Other, .. }));
    let answer = ask(&relayed, "\x1b[31m", Operation::Size).await;
    assert!(matches!(answer, Answer::Failed { text, .. } if !text.contains('\x1b')));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_keep_their_meaning_and_their_reason() {
    for (failure, class) in [
        (Failure::Transient, Class::Transient),
        (Failure::Timeout, Class::Transient),
        (Failure::Denied, Class::Denied),
        (Failure::Full, Class::Full),
        (Failure::Unsupported, Class::Usage),
        (Failure::Other, Class::Transient),
    ] {
        let beneath = Store::memory()
            .decorated(|inner| Faulty::over(inner).fail(ANY, 0..1000, Moment::Before, failure).wrap());
        let (store, relayed, _job) = relay(&beneath, May::restore());
        for failed in [
            store.get("packs/aa").await.map(drop),
            store.get_range("packs/aa", 1..2).await.map(drop),
            store.size("packs/aa").await.map(drop),
            store.list("packs").await.map(drop),
        ] {
            let error = failed.unwrap_err();
            assert_eq!(error.class(), class, "{failure:?}: {error}");
            assert!(error.to_string().contains("packs") && error.to_string().contains("in the job's store"));
            let source = std::error::Error::source(&error).expect("a reason").to_string();
            assert!(source.contains("injected"), "{source}");
        }
        assert_eq!(relayed.misbehaviour(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_full_through_a_relay() {
    let beneath = Store::memory()
        .decorated(|inner| Faulty::over(inner).fail(ANY, 0..1000, Moment::Before, Failure::Full).wrap());
    let (store, _relayed, _job) = relay(&beneath, May::backup(SESSION, 0));
    let put = store.put(&object::pack_key(PackId([7; 16])), Bytes::new()).await;
    assert!(matches!(put, Err(Error::Full { .. })), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_gone_is_a_store_that_does_not_answer() {
    let (store, _relayed, job) = relay(&Store::memory(), May::restore());
    assert_eq!(store.get("config").await.unwrap_err().class(), Class::Missing);
    job.abort();
    let error = store.get("config").await.unwrap_err();
    assert!(matches!(error, Error::Transient { .. }), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("the link"), "{source}");
    let listed: Result<Vec<_>, _> = store.list_stream("packs").try_collect().await;
    assert_eq!(listed.unwrap_err().class(), Class::Transient);
}
