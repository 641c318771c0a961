//! Being told that something changed, over server-sent events, for as long as it takes.
//!
//! A change only says what to read anew. So nothing is lost where the connection is: the next one begins with
//! a change of everything, and many changes in a moment are one.

use std::time::Duration;

use flotilla_api::Change;
use reqwest::{Method, Response};

use super::{Client, SILENCE};
use crate::error::Error;
use crate::exit::Code;
use crate::output::Terminal;

/// Changes that come within so much time of one another are one.
const GATHER: Duration = Duration::from_millis(100);
/// Between attempts to connect again, from and to.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// An endless series of changes.
pub(crate) struct Watch<'a> {
    client: &'a Client,
    terminal: &'a Terminal,
    stream: Option<Stream>,
    pause: Duration,
}

struct Stream {
    response: Response,
    lines: Lines,
}

impl<'a> Watch<'a> {
    /// Fails as any request does where the hub cannot be reached at the start; later losses are only noted.
    pub(crate) async fn start(client: &'a Client, terminal: &'a Terminal) -> Result<Self, Error> {
        let stream = Some(connect(client).await?);
        Ok(Self { client, terminal, stream, pause: FIRST_PAUSE })
    }

    /// Waits until something may have changed. Begin with a read of your own after [`Watch::start`].
    pub(crate) async fn changed(&mut self) -> Result<(), Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                return self.again().await;
            };
            match stream.next().await {
                Ok(()) => {
                    // What follows at once is read together. The hub conflates what is not read meanwhile.
                    while matches!(tokio::time::timeout(GATHER, stream.next()).await, Ok(Ok(()))) {}
                    self.pause = FIRST_PAUSE;
                    return Ok(());
                }
                Err(reason) => {
                    self.terminal
                        .warn(&format!("the connection to the hub was lost ({reason}); trying again"));
                    self.stream = None;
                }
            }
        }
    }

    async fn again(&mut self) -> Result<(), Error> {
        loop {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LAST_PAUSE);
            match connect(self.client).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    self.terminal.note("connected to the hub again");
                    return Ok(());
                }
                // These pass by themselves; a token that is not valid any more does not.
                Err(error) if matches!(error.code(), Code::Unreachable | Code::HubFailed) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn connect(client: &Client) -> Result<Stream, Error> {
    let request = client.request(Method::GET, "watch", &[]).header("accept", "text/event-stream");
    let response =
        tokio::time::timeout(SILENCE, client.answer("watch the hub", request)).await.map_err(|_| {
            Error::new(
                Code::Unreachable,
                format!("cannot watch the hub: no answer from {} in time", client.hub()),
            )
        })??;
    Ok(Stream { response, lines: Lines::default() })
}

impl Stream {
    /// The next change; an error says why there will be none. Cancel-safe.
    async fn next(&mut self) -> Result<(), String> {
        loop {
            if self.lines.next_change().is_some() {
                return Ok(());
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk())
                .await
                .map_err(|_| "it was silent for too long".to_owned())?
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "the hub closed it".to_owned())?;
            self.lines.push(&chunk)?;
        }
    }
}

/// Reads the text of an event stream.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    data: String,
}

/// No event of the hub comes near to this.
const LONGEST: usize = 4 << 20;

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() + self.data.len() > LONGEST {
            return Err("it sent an event of more than 4 MiB".to_owned());
        }
        Ok(())
    }

    /// The next whole event that is a change.
    fn next_change(&mut self) -> Option<Change> {
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                self.data.push('\n');
            } else if line.is_empty() && !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                // What a newer hub sends in another form is a change too.
                return Some(serde_json::from_str(&data).unwrap_or_default());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let text = ": hello\r\n\r\nevent: change\ndata: {\"clusters\":[\"a\"],\ndata: \"fleet\":true}\n\n: ping\n\ndata:{}\n\ndata: {\"clu";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk).unwrap();
                while let Some(change) = lines.next_change() {
                    found.push(change);
                }
            }
            let expected = [Change { clusters: vec!["a".into()], fleet: true }, Change::default()];
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; LONGEST];
        assert!(lines.push(&chunk).is_ok());
        assert!(lines.push(b"x").is_err());
    }
}
