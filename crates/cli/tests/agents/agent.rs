//! What the agents are like, as far as the scenarios must know.

use boatyard_model::event::PlanStatus;

/// An agent, and what it does in its own way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agent {
    /// Its name in the catalogue.
    pub(crate) name: &'static str,
    /// Its provider's name under `[providers]`, which is its API as well.
    pub(crate) provider: &'static str,
    /// Where its provider is asked: the beginnings of paths.
    pub(crate) paths: &'static [&'static str],
    /// Whether it writes files by a tool for that, with the model that it has here.
    pub(crate) edits: Told,
    /// Whether it tells what a command printed, and how it ended.
    pub(crate) output: Told,
    /// How a model of a provider of one's own is named to it, where any may be; `MODEL` in it is the
    /// provider's name for it.
    pub(crate) own_model: Option<&'static str>,
    /// Whether it tells what a command prints while that runs.
    pub(crate) live: Told,
    /// How it takes a message into a running turn.
    pub(crate) steer: Steer,
    /// Calls of its own tools by which it makes [`PLAN`]; none where it has no such tool, or does not
    /// tell what it planned.
    pub(crate) plan: Option<&'static str>,
    /// A call of its own tool by which a sub-agent does [`crate::scenarios`]' errand.
    pub(crate) delegate: Option<Delegate>,
    /// The faults after which it tells that it tries a request again.
    pub(crate) retries: &'static [&'static str],
    /// Whether it tells what it used.
    pub(crate) usage: Told,
    /// What it does when a person refuses something.
    pub(crate) refused: Refused,
    /// How its model has it run `touch asked.txt`, where it is to ask for each command.
    pub(crate) asks_to_run: &'static str,
    /// Faults that it meets in another way than most: the fault, and what comes of it.
    pub(crate) faults: &'static [(&'static str, Met)],
}

/// Whether something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Yes,
    No,
}

/// What becomes of a turn that gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steer {
    /// It goes on with it.
    Taken,
    /// It is stopped and begun again with it.
    Restart,
}

/// How an agent hands work to another of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delegate {
    /// The call; `ERRAND` in it is what the other is told.
    pub(crate) call: &'static str,
    /// Whether what the other does is told, with the call that began it.
    pub(crate) told: Told,
}

/// What a plan is in the end, by [`Agent::plan`].
pub(crate) const PLAN: [(&str, PlanStatus); 2] =
    [("look around", PlanStatus::Completed), ("mend it", PlanStatus::InProgress)];

/// What a refused permission does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The agent is told and goes on.
    GoesOn,
    /// The turn is over.
    Ends,
}

/// How a fault of the provider ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// The answer is there in the end, whole and once.
    Answered,
    /// The answer is there in the end, whole; what had come before the fault may stand before it.
    Repeated,
    /// What had come before the fault stands; the model is asked to go on after it, by a prompt of
    /// the agent's own.
    Continued,
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
    edits: Told::Yes,
    output: Told::Yes,
    own_model: None,
    live: Told::No,
    steer: Steer::Restart,
    plan: None,
    delegate: None,
    retries: &[],
    usage: Told::Yes,
    refused: Refused::GoesOn,
    asks_to_run: "[[run:touch asked.txt]]",
    faults: &[],
};

pub(crate) const CLAUDE: Agent = Agent {
    name: "claude",
    provider: "anthropic",
    paths: &["/v1/messages", "/v1/models"],
    steer: Steer::Taken,
    plan: Some(
        r#"[[call:TaskCreate|{"subject": "look around", "description": "a"}]]
        [[call:TaskCreate|{"subject": "mend it", "description": "b"}]]
        [[call:TaskUpdate|{"taskId": "1", "status": "completed"}]]
        [[call:TaskUpdate|{"taskId": "2", "status": "in_progress"}]]"#,
    ),
    delegate: Some(Delegate {
        call: r#"[[call:Agent,Task|{"description": "an errand", "prompt": "ERRAND",
            "subagent_type": "general-purpose", "run_in_background": false}]]"#,
        told: Told::Yes,
    }),
    retries: &["429*2", "500*2"],
    ..USUAL
};

pub(crate) const CODEX: Agent = Agent {
    name: "codex",
    live: Told::Yes,
    steer: Steer::Taken,
    // Of a server's errors it tells when it has tried four times by itself.
    retries: &["429*2"],
    // Its own sandbox can't be made in a workspace: nothing runs in it.
    asks_to_run: r#"[[call:exec_command|{"cmd": "touch asked.txt",
        "sandbox_permissions": "require_escalated", "justification": "a test"}]]"#,
    // Who says no is asked what to do instead: the turn is over.
    refused: Refused::Ends,
    // It has words of its own for it, and keeps the provider's to itself.
    faults: &[("500", Met::Failed(&["high demand"]))],
    ..USUAL
};

pub(crate) const OPENCODE: Agent = Agent {
    name: "opencode",
    own_model: Some("compatible/MODEL"),
    live: Told::Yes,
    plan: Some(
        r#"[[call:todowrite|{"todos": [
            {"content": "look around", "status": "completed", "priority": "high"},
            {"content": "mend it", "status": "in_progress", "priority": "low"}]}]]"#,
    ),
    delegate: Some(Delegate {
        call: r#"[[call:task|{"description": "an errand", "prompt": "ERRAND",
            "subagent_type": "general"}]]"#,
        told: Told::No,
    }),
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
    // What breaks off is not asked for again.
    faults: &[("cut*1", Met::Failed(&["terminated"])), ("malformed*1", Met::Failed(&["JSON"]))],
    ..USUAL
};

pub(crate) const QWEN: Agent = Agent {
    name: "qwen",
    own_model: Some("MODEL"),
    refused: Refused::Ends,
    faults: &[("cut*1", Met::Continued), ("malformed*1", Met::Failed(&["JSON"]))],
    ..USUAL
};

pub(crate) const COPILOT: Agent = Agent {
    name: "copilot",
    own_model: Some("MODEL"),
    edits: Told::No,
    live: Told::Yes,
    retries: &["500*2"],
    refused: Refused::Ends,
    ..USUAL
};
