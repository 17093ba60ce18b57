//! Commands in containers, over the API server's `pods/exec`.
//!
//! Invariants: a stream whose connection broke ends with an error, never with silence and never as if
//! the process had closed it; dropping a [`Process`] closes its connection. What no client can do is to
//! end the process: it outlives the connection, so it has to watch its own stdin.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, ReadHalf, SimplexStream, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::plain::plain;
use crate::cluster::{Cluster, Error, Result};

/// The API server itself gives up a kubelet that it can't reach after 30 s.
const START: Duration = Duration::from_secs(60);
/// Two frames of the mover's protocol each way, so that one is filled while the other is sent.
const STREAM_BYTES: usize = 64 << 10;
/// What is kept of the end of an output that is only told.
const TAIL_BYTES: usize = 16 << 10;

pub type Stdin = Box<dyn AsyncWrite + Send + Unpin>;
pub type Stdout = Box<dyn AsyncRead + Send + Unpin>;

/// A command that runs in a container. Stdout has to be read, or [`Process::end`] called: what is
/// not taken off holds everything else up, the end included.
pub struct Process {
    stdin: Option<Stdin>,
    stdout: Option<Stdout>,
    stderr: Arc<Mutex<Tail>>,
    ended: watch::Receiver<Option<Ended>>,
    pump: JoinHandle<()>,
}

impl Process {
    /// Once. Dropped or shut down, it is at its end for the process too.
    pub fn stdin(&mut self) -> Option<Stdin> {
        self.stdin.take()
    }

    /// Once.
    pub fn stdout(&mut self) -> Option<Stdout> {
        self.stdout.take()
    }

    /// The last of what the process wrote to stderr until now.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no holder of this lock panics").text()
    }

    /// Waits until the process or its connection has ended; may be called again. A stdout that was not
    /// taken is thrown away.
    pub async fn end(&mut self) -> Ended {
        self.stdin = None;
        if let Some(mut rest) = self.stdout.take() {
            tokio::spawn(async move { tokio::io::copy(&mut rest, &mut tokio::io::sink()).await });
        }
        let ended = self.ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(Ended::dropped)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// None if it never ran, or if the connection broke before its end was known.
    pub exit: Option<i32>,
    /// Why it did not end well; empty if it did.
    pub message: String,
}

impl Ended {
    pub fn is_success(&self) -> bool {
        self.exit == Some(0)
    }

    fn of(status: Status) -> Self {
        if status.status.as_deref() == Some("Success") {
            return Self { exit: Some(0), message: String::new() };
        }
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes.into_iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
        let exit = code.and_then(|cause| cause.message?.parse().ok());
        let message = status.message.map(|message| plain(&message));
        Self { exit, message: message.unwrap_or_else(|| "it failed without a reason".into()) }
    }

    fn lost(why: &str) -> Self {
        Self { exit: None, message: format!("the connection to it was lost: {why}") }
    }

    fn dropped() -> Self {
        Self::lost("it was given up")
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit {
            Some(code) => write!(f, "exit code {code}"),
            None => f.write_str(&self.message),
        }
    }
}

/// What a command did that was run to its end.
#[derive(Clone, Debug)]
pub struct Output {
    pub ended: Ended,
    /// The last of it.
    pub stdout: String,
    pub stderr: String,
}

/// Starts a command, with all three streams.
pub async fn exec(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[String],
) -> Result<Process> {
    begin(cluster, namespace, pod, container, command, true).await
}

/// Runs a command to its end, without stdin. At the limit it has failed, and is followed for `grace` more, so
/// that it is over when its failure is told. Then the connection is closed, and the command may go on.
pub async fn run(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[String],
    (limit, grace): (Duration, Duration),
) -> Result<Output> {
    let (out, err) = (Arc::new(Mutex::new(Tail::default())), Mutex::new(None));
    let mut whole = pin!(async {
        let mut process = begin(cluster, namespace, pod, container, command, false).await?;
        *err.lock().expect("no holder of this lock panics") = Some(process.stderr.clone());
        if let Some(stdout) = process.stdout.take() {
            keep_tail(stdout, out.clone()).await;
        }
        let ended = process.end().await;
        Ok(Output { ended, stdout: text(&out), stderr: process.stderr() })
    });
    match timeout(limit, &mut whole).await {
        Ok(output) => output,
        Err(_) => {
            let is_over = grace.is_zero() || timeout(grace, &mut whole).await.is_ok();
            let said = err.lock().expect("no holder of this lock panics").clone();
            let said = said.map(|stderr| text(&stderr)).unwrap_or_default();
            Err(Error::Timeout {
                // Its arguments may be secrets: `mysql -p…`.
                what: format!("the end of {} in {namespace}/{pod}", program(command)),
                seconds: limit.as_secs(),
                last: last_words(&said, is_over, grace),
            })
        }
    }
}

async fn begin(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[String],
    with_stdin: bool,
) -> Result<Process> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let params = AttachParams::default()
        .container(container)
        .stdin(with_stdin)
        .max_stdin_buf_size(STREAM_BYTES)
        .max_stdout_buf_size(STREAM_BYTES)
        .max_stderr_buf_size(TAIL_BYTES);
    let doing = || format!("run {} in the pod {namespace}/{pod}", program(command));
    let attached = timeout(START, pods.exec(pod, command.to_vec(), &params)).await;
    let attached = attached.map_err(|_| Error::Timeout {
        what: format!("the start of '{}'", doing()),
        seconds: START.as_secs(),
        last: "neither API server nor kubelet answered".into(),
    })?;
    Ok(process(attached.map_err(Error::api(doing))?))
}

fn last_words(said: &str, is_over: bool, grace: Duration) -> String {
    let said = if said.trim().is_empty() { "it said nothing" } else { said.trim() };
    match is_over {
        true => said.to_owned(),
        false => format!("{said}; it goes on after {} s more", grace.as_secs()),
    }
}

/// What of a command may be told.
fn program(command: &[String]) -> &str {
    command.first().map_or("", String::as_str)
}

fn process(mut attached: AttachedProcess) -> Process {
    let (tell, ended) = watch::channel(None);
    let stderr = Arc::new(Mutex::new(Tail::default()));
    let stdin = attached.stdin().map(|inner| Box::new(Input(Tied::new(inner, &ended))) as Stdin);
    let stdout = attached.stdout().map(|inner| Box::new(Tied::new(inner, &ended)) as Stdout);
    let errors = attached.stderr().expect("stderr is attached by default");
    let pump = tokio::spawn(pump(attached, errors, stderr.clone(), tell));
    Process { stdin, stdout, stderr, ended, pump }
}

/// Follows a process to its end, and keeps the tail of its stderr, which would hold it up if it were not
/// taken off.
async fn pump(
    mut attached: AttachedProcess,
    errors: ReadHalf<SimplexStream>,
    stderr: Arc<Mutex<Tail>>,
    tell: watch::Sender<Option<Ended>>,
) {
    let status = attached.take_status();
    let mut over = pin!(async move {
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        // Only now the streams are shut: an end that is told earlier would cut them off.
        (status, attached.join().await)
    });
    let mut drain = pin!(tokio::task::unconstrained(keep_tail(errors, stderr)));
    let mut is_drained = false;
    let (status, joined) = loop {
        tokio::select! {
            biased;
            () = &mut drain, if !is_drained => is_drained = true,
            end = &mut over => break end,
        }
    };
    if !is_drained {
        // What lies in the buffer. There is no waiting: a broken connection never closes the stream.
        let _ = futures::poll!(&mut drain);
    }
    let ended = match (status, joined) {
        (Some(status), _) => Ended::of(status),
        (None, Ok(())) => Ended::lost("it was closed without a status"),
        (None, Err(error)) => Ended::lost(&error.to_string()),
    };
    // Nobody listens if the process was dropped.
    let _ = tell.send(Some(ended));
}

async fn keep_tail(mut from: impl AsyncRead + Unpin, tail: Arc<Mutex<Tail>>) {
    let mut buffer = [0; 4096];
    // An error here is the connection's, and told by the end of the process.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        tail.lock().expect("no holder of this lock panics").push(&buffer[..count]);
    }
}

fn text(tail: &Mutex<Tail>) -> String {
    tail.lock().expect("no holder of this lock panics").text()
}

/// The last [`TAIL_BYTES`] of what was pushed; as one line, without what a terminal obeys.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..excess);
    }

    fn text(&self) -> String {
        let (first, second) = self.0.as_slices();
        plain(&String::from_utf8_lossy(&[first, second].concat()))
    }
}

/// A half of a stream, tied to its connection: the client's own halves stay silent for ever when that breaks.
struct Tied<T> {
    inner: T,
    over: BoxFuture<'static, String>,
    why: Option<String>,
}

impl<T> Tied<T> {
    fn new(inner: T, ended: &watch::Receiver<Option<Ended>>) -> Self {
        let mut ended = ended.clone();
        let over = async move {
            let end = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
            end.unwrap_or_else(Ended::dropped).to_string()
        };
        Self { inner, over: over.boxed(), why: None }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>, kind: io::ErrorKind) -> Poll<io::Error> {
        if self.why.is_none() {
            self.why = Some(ready!(self.over.poll_unpin(cx)));
        }
        Poll::Ready(io::Error::new(kind, self.why.clone().unwrap_or_default()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tied<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(outcome) = Pin::new(&mut self.inner).poll_read(cx, buf) {
            return Poll::Ready(outcome);
        }
        if !tokio::task::coop::has_budget_remaining() {
            // It was tokio that wanted a pause, not the stream that is empty.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let broken = ready!(self.poll_over(cx, io::ErrorKind::ConnectionReset));
        // What was received before the end was put in before it was told.
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => Poll::Ready(Err(broken)),
        }
    }
}

/// Stdin; its drop is its end.
struct Input(Tied<WriteHalf<SimplexStream>>);

impl Input {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.0.poll_over(cx, io::ErrorKind::BrokenPipe) {
            Poll::Ready(error) => Err(error),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.0.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.0.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.inner).poll_shutdown(cx)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // The half's own drop does not tell the other side. This never waits.
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.0.inner).poll_shutdown(&mut cx);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn status(json: serde_json::Value) -> Ended {
        Ended::of(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn the_end_is_read_from_the_status() {
        let success = status(serde_json::json!({"metadata": {}, "status": "Success"}));
        assert!(success.is_success());
        let three = status(serde_json::json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        }));
        assert_eq!((three.exit, three.to_string()), (Some(3), "exit code 3".into()));
        let none = status(serde_json::json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "message": "no such file",
        }));
        assert_eq!((none.exit, none.to_string()), (None, "no such file".into()));
    }

    #[test]
    fn arguments_are_not_told() {
        assert_eq!(program(&["mysql".into(), "-psecret".into()]), "mysql");
    }

    #[test]
    fn a_tail_is_bounded_and_keeps_the_end() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("{number}\n").as_bytes());
        }
        assert!(tail.text().len() <= TAIL_BYTES && tail.text().ends_with("9998 9999"));
        tail.push(b"\x1b[2J\xff");
        assert!(tail.text().ends_with("9999 \\u{1b}[2J\u{fffd}"), "{}", tail.text());
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error_after_what_came_before_it() {
        let (tell, ended) = watch::channel(None);
        let (reader, mut writer) = tokio::io::simplex(64);
        let mut stdout = Tied::new(reader, &ended);
        writer.write_all(b"before").await.unwrap();
        tell.send(Some(Ended::lost("reset"))).unwrap();
        let mut all = Vec::new();
        let error = stdout.read_to_end(&mut all).await.unwrap_err();
        assert_eq!((all.as_slice(), error.kind()), (&b"before"[..], io::ErrorKind::ConnectionReset));
        assert!(error.to_string().ends_with("reset"), "{error}");
    }

    #[tokio::test]
    async fn a_closed_stream_ends_without_an_error() {
        let (_tell, ended) = watch::channel(None);
        let (reader, mut writer) = tokio::io::simplex(64);
        let mut stdout = Tied::new(reader, &ended);
        writer.write_all(b"all").await.unwrap();
        writer.shutdown().await.unwrap();
        let mut all = Vec::new();
        stdout.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"all");
    }

    #[tokio::test]
    async fn stdin_that_is_dropped_is_at_its_end_and_after_the_end_it_breaks() {
        let (tell, ended) = watch::channel(None);
        let (mut reader, writer) = tokio::io::simplex(4);
        let mut stdin = Input(Tied::new(writer, &ended));
        stdin.write_all(b"in").await.unwrap();
        drop(stdin);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"in");

        let (_reader, writer) = tokio::io::simplex(4);
        let mut stdin = Input(Tied::new(writer, &ended));
        stdin.write_all(b"full").await.unwrap();
        tell.send(Some(Ended { exit: Some(1), message: String::new() })).unwrap();
        assert_eq!(stdin.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
