//! The task that reads: frames off the stream, into `state`, without waiting for anyone.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::format;
use crate::format::frame::{Frame, take_opening};
use crate::format::limits::FRAME_LEN;
use crate::wire::error::{Error, Result};
use crate::wire::state::Shared;

/// Two frames: a whole one is always found in it.
const BUFFER_LEN: usize = 2 * FRAME_LEN;
/// How much of another program's output is shown, and how long to wait for it.
const FOREIGN_LEN: usize = 200;
const FOREIGN_WAIT: Duration = Duration::from_secs(1);

/// Reads until the link is over.
pub(super) async fn run(read: impl AsyncRead + Send + Unpin, shared: Arc<Shared>, silence: Duration) {
    let mut stream = Stream { read, buffer: BytesMut::with_capacity(BUFFER_LEN), silence, shared: &shared };
    let ended = tokio::select! {
        ended = stream.read_all() => ended,
        () = shared.stopped() => return,
    };
    match ended {
        Ok(()) => shared.stop(),
        Err(error) => shared.fail(error),
    }
}

struct Stream<'a, R> {
    read: R,
    buffer: BytesMut,
    silence: Duration,
    shared: &'a Shared,
}

impl<R: AsyncRead + Unpin> Stream<'_, R> {
    async fn read_all(&mut self) -> Result<()> {
        loop {
            match take_opening(&mut self.buffer) {
                Ok(true) => break,
                Ok(false) => self.more().await?,
                Err(format::Error::Magic { .. }) => return Err(self.foreign().await),
                Err(source) => return Err(Error::Garbled { source }),
            }
        }
        loop {
            while let Some(frame) =
                Frame::take(&mut self.buffer).map_err(|source| Error::Garbled { source })?
            {
                self.shared.arrived(frame)?;
            }
            if self.shared.is_finished() {
                return Ok(());
            }
            self.more().await?;
        }
    }

    /// Reads what there is, at least one byte.
    async fn more(&mut self) -> Result<()> {
        self.buffer.reserve(FRAME_LEN);
        let Ok(read) = timeout(self.silence, self.read.read_buf(&mut self.buffer)).await else {
            return Err(Error::Silent { seconds: self.silence.as_secs() });
        };
        match read {
            Ok(0) => Err(self.shared.cut()),
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Broken { doing: "read", source: Arc::new(source) }),
        }
    }

    /// Another program speaks: lets it finish its sentence.
    async fn foreign(&mut self) -> Error {
        let sentence = async { while self.buffer.len() < FOREIGN_LEN && self.more().await.is_ok() {} };
        // Too late, or all of it: what came until then is shown.
        let _ = timeout(FOREIGN_WAIT, sentence).await;
        let shown = &self.buffer[..self.buffer.len().min(FOREIGN_LEN)];
        Error::Foreign { found: shown.trim_ascii_end().escape_ascii().to_string() }
    }
}
