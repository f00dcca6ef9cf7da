//! What the agents are like, as far as the scenarios must know.

/// An agent, and what it does in its own way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agent {
    /// Its name in the catalogue.
    pub(crate) name: &'static str,
    /// Its provider's name under `[providers]`, which is its API as well.
    pub(crate) provider: &'static str,
    /// Where its provider is asked: the beginnings of paths.
    pub(crate) paths: &'static [&'static str],
    /// Whether it tells what a command printed, and how it ended.
    pub(crate) output: Told,
    /// The faults after which it tells that it tries a request again.
    pub(crate) retries: &'static [&'static str],
    /// Whether it tells what it used.
    pub(crate) usage: Told,
    /// What it does when a person refuses something.
    pub(crate) refused: Refused,
    /// How it takes up a conversation in a new process.
    pub(crate) resume: Resume,
    /// Faults that it meets in another way than most: the fault, and what comes of it.
    pub(crate) faults: &'static [(&'static str, Met)],
}

/// Whether something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Yes,
    No,
}

/// What a refused permission does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The agent is told and goes on.
    GoesOn,
    /// The turn is over.
    Ends,
}

/// How a conversation goes on in a new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The agent finds it again.
    Native,
    /// The agent finds it again, or is told what was said and the user of that: which of the two
    /// depends on the clock.
    Either,
}

/// How a fault of the provider ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// The answer is there in the end, whole and once.
    Answered,
    /// The answer is there in the end, whole; what had come before the fault may stand before it.
    Repeated,
    /// The turn fails, and the reason has these words.
    Failed(&'static [&'static str]),
}

impl Agent {
    /// What comes of a fault.
    pub(crate) fn meets(&self, fault: &str) -> Met {
        let own = self.faults.iter().find(|(name, _)| *name == fault).map(|(_, met)| *met);
        own.unwrap_or(match fault {
            "401" => Met::Failed(&["[providers."]),
            "500" => Met::Failed(&["this fault was asked for by the prompt"]),
            _ => Met::Answered,
        })
    }
}

const USUAL: Agent = Agent {
    name: "",
    provider: "openai",
    paths: &["/v1/responses", "/v1/chat/completions", "/v1/models"],
    output: Told::Yes,
    retries: &[],
    usage: Told::Yes,
    refused: Refused::GoesOn,
    resume: Resume::Native,
    faults: &[],
};

pub(crate) const CLAUDE: Agent = Agent {
    name: "claude",
    provider: "anthropic",
    paths: &["/v1/messages", "/v1/models"],
    retries: &["429*2", "500*2"],
    ..USUAL
};

pub(crate) const CODEX: Agent = Agent {
    name: "codex",
    // Of a server's errors it tells when it has tried four times by itself.
    retries: &["429*2"],
    // Who says no is asked what to do instead: the turn is over.
    refused: Refused::Ends,
    // It has words of its own for it, and keeps the provider's to itself.
    faults: &[("500", Met::Failed(&["high demand"]))],
    ..USUAL
};

pub(crate) const OPENCODE: Agent = Agent {
    name: "opencode",
    refused: Refused::Ends,
    // It tries again without a word and goes on in the same message.
    faults: &[("malformed*1", Met::Repeated), ("cut*1", Met::Repeated)],
    ..USUAL
};

pub(crate) const GEMINI: Agent = Agent {
    name: "gemini",
    provider: "gemini",
    paths: &["/v1beta/models/"],
    // The protocol has no place for it in its hands.
    output: Told::No,
    // It does not find a conversation in the minute of its beginning.
    resume: Resume::Either,
    // What breaks off is not asked for again.
    faults: &[("cut*1", Met::Failed(&["terminated"])), ("malformed*1", Met::Failed(&["JSON"]))],
    ..USUAL
};

pub(crate) const QWEN: Agent = Agent { name: "qwen", ..USUAL };

pub(crate) const COPILOT: Agent = Agent { name: "copilot", ..USUAL };
