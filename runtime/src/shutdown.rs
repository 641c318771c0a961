//! The signals that end a process: the first asks it to finish, the second does not ask.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C on a terminal.
    Interrupt,
    /// What systemd and the kubelet send.
    Terminate,
}

impl Signal {
    /// The exit status of a process that this signal ended, by the shell's convention.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// Its name as in `kill -l`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Where the signals come from.
pub struct Signals(Source);

enum Source {
    Process {
        interrupt: unix::Signal,
        terminate: unix::Signal,
    },
    #[cfg(test)]
    Scripted(tokio::sync::mpsc::Receiver<Signal>),
}

impl Signals {
    /// Catches SIGINT and SIGTERM from now on, for the rest of the process. Inside a tokio runtime only.
    pub fn install() -> io::Result<Self> {
        Ok(Self(Source::Process {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        }))
    }

    #[cfg(test)]
    pub(crate) fn scripted(signals: tokio::sync::mpsc::Receiver<Signal>) -> Self {
        Self(Source::Scripted(signals))
    }

    /// The next signal. Cancel-safe. Never ends if no signal can come any more.
    pub async fn recv(&mut self) -> Signal {
        let received = match &mut self.0 {
            Source::Process { interrupt, terminate } => tokio::select! {
                received = interrupt.recv() => received.map(|()| Signal::Interrupt),
                received = terminate.recv() => received.map(|()| Signal::Terminate),
            },
            #[cfg(test)]
            Source::Scripted(signals) => signals.recv().await,
        };
        match received {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}
