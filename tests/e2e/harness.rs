//! x
use crate::cluster::{Cluster, Spec};
#[tokio::test(flavor = "multi_thread")]
async fn harness_up() {
    let t = std::time::Instant::now();
    let c = Cluster::start(Spec::new("one")).await.unwrap();
    eprintln!("up in {:?} {}", t.elapsed(), c.kubeconfig().display());
    let t = std::time::Instant::now();
    c.down().await.unwrap();
    eprintln!("down in {:?}", t.elapsed());
}
