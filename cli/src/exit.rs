//! How the program ends. These numbers are published: scripts depend on them, they never change their meaning.

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Done = 0,
    Found = 1,
    Usage = 2,
    Input = 3,
    Unreachable = 4,
    Denied = 5,
    NotFound = 6,
    Refused = 7,
    HubFailed = 8,
    NotReached = 9,
    Local = 10,
    OutputClosed = 141,
}

impl Code {
    pub(crate) const ALL: [Self; 12] = [
        Self::Done,
        Self::Found,
        Self::Usage,
        Self::Input,
        Self::Unreachable,
        Self::Denied,
        Self::NotFound,
        Self::Refused,
        Self::HubFailed,
        Self::NotReached,
        Self::Local,
        Self::OutputClosed,
    ];

    /// What it means, in one line.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Found => {
                "`diff` or `plan --exit-code` found differences; `check` and `reconcile` found problems"
            }
            Self::Usage => "the command line, environment or configuration file is wrong",
            Self::Input => "the files to render are wrong: stderr names file, line and field",
            Self::Unreachable => {
                "the hub, or the cluster of --context, could not be reached, or the server that answered is not the hub"
            }
            Self::Denied => "the token is missing, wrong or expired, or its role does not suffice",
            Self::NotFound => "the hub does not know the named object",
            Self::Refused => {
                "the hub, or the cluster of --context, refused the request, for the reason on stderr"
            }
            Self::HubFailed => "the hub failed, or its answer is not valid",
            Self::NotReached => {
                "the requested state was not reached: in time, by all agents, or at the source"
            }
            Self::Local => "a local file or stream could not be read or written",
            Self::OutputClosed => "the reader of the output closed it",
        }
    }
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The table of all codes, a line each.
pub(crate) fn table() -> String {
    Code::ALL.iter().map(|code| format!("{:>4}  {}\n", *code as u8, code.meaning())).collect()
}
