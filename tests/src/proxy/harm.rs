//! What a bad network or a tired API server does to requests and watches.
//!
//! ```text
//!   request ──► Drop | Refuse | Delay ──► API server ──► answer ──► LoseAnswer | CutAnswer
//!                                                   └──► watch, line by line ──► CutWatch | Gone | NoBookmarks | Lag | Silence
//! ```

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;

/// One kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The connection ends before the request reaches the API server.
    Drop,
    /// The request is done, and the connection ends before its answer.
    LoseAnswer,
    /// The answer ends in its middle, with the connection.
    CutAnswer,
    /// The request waits for this time.
    Delay(Duration),
    /// It is answered with an error; 429 asks the client to come back after a second.
    Refuse(StatusCode),
    /// Watches end within this time, again and again.
    CutWatch(Duration),
    /// Watches end within this time, saying that their version is too old.
    Gone(Duration),
    /// Watches bring no bookmarks.
    NoBookmarks,
    /// Watches bring everything later by this time.
    Lag(Duration),
    /// Watches stay open and bring nothing any more.
    Silence,
}

impl Harm {
    /// Whether it is done to open watches, and not to requests.
    pub(super) fn is_to_watches(self) -> bool {
        matches!(self, Self::CutWatch(_) | Self::Gone(_) | Self::NoBookmarks | Self::Lag(_) | Self::Silence)
    }
}

/// A harm while it lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    pub harm: Harm,
    /// What the path with its query must contain; `""` for every path.
    pub path: String,
    /// The share of requests that it hits, from 0 to 1; watches are hit all.
    pub share: f64,
}

impl Trouble {
    /// A harm to every path.
    #[must_use]
    pub fn new(harm: Harm, share: f64) -> Self {
        Self { harm, path: String::new(), share }
    }
}

/// What stands at the moment; changes reach open watches.
pub(super) type Troubles = watch::Receiver<Vec<Trouble>>;

type Error = axum::Error;

/// Half of an answer.
pub(super) fn cut(body: Body) -> Body {
    let stream = body.into_data_stream().take(1).flat_map(|chunk| {
        let half = chunk.map(|chunk| chunk.slice(..chunk.len() / 2));
        stream::iter([half, Err(Error::new("cut on demand"))])
    });
    Body::from_stream(stream)
}

/// The events of a watch, hurt by whatever stands while they pass.
pub(super) fn watch(body: Body, path: String, troubles: Troubles) -> Body {
    let state =
        Watch { body: Box::pin(body.into_data_stream()), path, troubles, line: Vec::new(), ended: false };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item, state))
    }))
}

struct Watch {
    body: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
    path: String,
    troubles: Troubles,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    ended: bool,
}

impl Watch {
    fn standing(&mut self) -> Vec<Harm> {
        let troubles = self.troubles.borrow_and_update();
        let here = troubles.iter().filter(|it| it.harm.is_to_watches() && self.path.contains(&it.path));
        here.map(|it| it.harm).collect()
    }

    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        while !self.ended {
            let standing = self.standing();
            if standing.contains(&Harm::Silence) {
                // What is lost on a connection stays lost: nothing comes on this one any more.
                std::future::pending::<()>().await;
            }
            let end = async {
                match standing.iter().find_map(|harm| match harm {
                    Harm::CutWatch(within) | Harm::Gone(within) => Some(*within),
                    _ => None,
                }) {
                    Some(within) => tokio::time::sleep(within.mul_f64(rand::random())).await,
                    None => std::future::pending().await,
                }
            };
            let chunk = tokio::select! {
                () = end => {
                    self.ended = true;
                    return Some(if standing.iter().any(|harm| matches!(harm, Harm::Gone(_))) {
                        Ok(Bytes::from_static(GONE))
                    } else {
                        Err(Error::new("cut on demand"))
                    });
                }
                chunk = self.body.next() => chunk?,
                Ok(()) = self.troubles.changed() => continue,
            };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Some(Err(error)),
            };
            if let Some(Harm::Lag(time)) = standing.iter().find(|harm| matches!(harm, Harm::Lag(_))) {
                tokio::time::sleep(*time).await;
            }
            let lines = self.lines(&chunk, standing.contains(&Harm::NoBookmarks));
            if !lines.is_empty() {
                return Some(Ok(lines.into()));
            }
        }
        None
    }

    /// The whole lines that a chunk completes.
    fn lines(&mut self, chunk: &[u8], without_bookmarks: bool) -> Vec<u8> {
        self.line.extend_from_slice(chunk);
        let end = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.line.split_off(end);
        let whole = std::mem::replace(&mut self.line, rest);
        if !without_bookmarks {
            return whole;
        }
        let is_bookmark = |line: &[u8]| line.starts_with(br#"{"type":"BOOKMARK""#);
        whole
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !is_bookmark(line))
            .flatten()
            .copied()
            .collect()
    }
}

/// As the API server says it within a watch.
const GONE: &[u8] = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version (on demand)","reason":"Expired","code":410}}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [&str; 3] = [
        "{\"type\":\"ADDED\",\"object\":{}}\n",
        "{\"type\":\"BOOKMARK\",\"object\":{}}\n",
        "{\"type\":\"MODIFIED\"}\n",
    ];

    /// What a client reads of a watch that has these events in pieces of `size`, until it ends or is silent.
    async fn read(harm: Option<Harm>, size: usize) -> String {
        let pieces: Vec<Bytes> =
            EVENTS.concat().into_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let open = stream::iter(pieces.into_iter().map(Ok::<_, Error>)).chain(stream::pending());
        let (sender, troubles) =
            watch::channel(harm.map(|harm| Trouble::new(harm, 1.0)).into_iter().collect());
        let mut body = watch(Body::from_stream(open), "/x?watch=1".into(), troubles).into_data_stream();
        let mut text = String::new();
        while let Ok(Some(chunk)) = tokio::time::timeout(Duration::from_secs(60), body.next()).await {
            match chunk {
                Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Err(_) => text.push_str("cut"),
            }
        }
        drop(sender);
        text
    }

    #[tokio::test(start_paused = true)]
    async fn watches_are_hurt_line_by_line() {
        let second = Duration::from_secs(1);
        for size in [3, 40, 1000] {
            assert_eq!(read(None, size).await, EVENTS.concat());
            assert_eq!(read(Some(Harm::NoBookmarks), size).await, [EVENTS[0], EVENTS[2]].concat());
            assert_eq!(read(Some(Harm::Lag(second)), size).await, EVENTS.concat());
            assert_eq!(read(Some(Harm::Silence), size).await, "");
            assert!(read(Some(Harm::CutWatch(second)), size).await.ends_with("cut"));
            assert!(read(Some(Harm::Gone(second)), size).await.ends_with("\"code\":410}}\n"));
        }
    }
}
