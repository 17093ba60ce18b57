//! Watching many objects of one kind until each is as it should be.

use std::collections::BTreeSet;

use futures::{StreamExt, pin_mut};
use kube::api::DynamicObject;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::Value;

/// Takes names out of `left` as their objects are `done`; those that are not there (any more) move to
/// `gone`. Ends when none is left; whoever waits sets the limit.
pub(super) async fn until_done(
    api: Api<DynamicObject>,
    done: impl Fn(&Value) -> bool,
    left: &mut BTreeSet<String>,
    gone: &mut BTreeSet<String>,
) {
    let events = watcher(api, Config::default()).default_backoff();
    pin_mut!(events);
    let mut seen = BTreeSet::new();
    while !left.is_empty() {
        match events.next().await {
            Some(Ok(Event::Apply(object) | Event::InitApply(object))) => {
                let name = object.name_any();
                if left.contains(&name) && serde_json::to_value(&object).is_ok_and(|body| done(&body)) {
                    left.remove(&name);
                }
                seen.insert(name);
            }
            Some(Ok(Event::InitDone)) => {
                let missing: Vec<String> = left.difference(&seen).cloned().collect();
                missing.into_iter().for_each(|name| lose(name, left, gone));
            }
            Some(Ok(Event::Delete(object))) => lose(object.name_any(), left, gone),
            Some(Ok(Event::Init)) => seen.clear(),
            // The watcher starts again by itself, behind its back-off; the limit bounds that too.
            Some(Err(error)) => tracing::debug!(%error, "a watch broke"),
            None => return,
        }
    }
}

fn lose(name: String, left: &mut BTreeSet<String>, gone: &mut BTreeSet<String>) {
    if left.remove(&name) {
        gone.insert(name);
    }
}
