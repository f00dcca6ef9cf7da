//! What a request says, whichever protocol it came in.
//!
//! Each protocol's module reads its request into a [`Conversation`]: the prompt that is being
//! answered, what the tools have said since, and which tools are offered. That is all the script
//! needs, and it is read anew from every request: nothing is remembered between two of them.

use serde_json::Value;

/// How much text is looked through for the folder that the agent works in. It is named early in
/// what agents say of themselves.
const FOLDER_WITHIN: usize = 256 * 1024;

/// What agents write before the folder that they work in: Claude Code, OpenCode and Copilot; Codex;
/// Gemini and Qwen in two versions.
const FOLDER_MARKS: [&str; 6] = [
    "orking directory: ",
    "orking directory is: ",
    "<cwd>",
    "working in the directory: ",
    "Workspace Directories:**\n  - ",
    "working in the following directories:\n  - ",
];

/// A request, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The model asked for, as the request named it.
    pub(super) model: String,
    /// Whether the answer goes out as a stream of events.
    pub(super) delivery: Delivery,
    /// What the user asked last, without what the agent wrapped around it.
    pub(super) prompt: String,
    /// What the tools have said since that prompt, oldest first.
    pub(super) results: Vec<String>,
    /// The tools that may be called.
    pub(super) tools: Vec<Tool>,
    /// Whether thoughts may be in the answer.
    pub(super) thoughts: Thoughts,
    /// The JSON schema that the answer must fit, when one is asked for.
    pub(super) schema: Option<Value>,
    /// The folder that the agent works in, where it said so.
    pub(super) folder: Option<String>,
    /// Whether this is the agent's own call beside the conversation (a title, a summary).
    pub(super) aside: bool,
    /// How many messages there were: what makes the ids of calls unique within a conversation.
    pub(super) messages: usize,
    /// Bytes of the request's body.
    pub(super) bytes: usize,
    /// How much text has been searched for it.
    pub(super) searched: usize,
}

/// How an answer goes out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// One JSON document.
    #[default]
    Whole,
    /// Server-sent events.
    Events,
    /// A JSON array whose elements come one by one (Gemini without `alt=sse`).
    Array,
}

/// Whether the model may show thoughts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoughts {
    /// They are left out.
    #[default]
    Hidden,
    /// They are sent.
    Shown,
}

/// A tool on offer.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    /// Codex groups tools in namespaces; a call repeats it.
    pub(super) namespace: Option<String>,
    pub(super) input: ToolInput,
}

/// What a tool takes.
#[derive(Debug, Clone)]
pub(super) enum ToolInput {
    /// JSON that fits this schema.
    Json(Value),
    /// Any text.
    Text,
}

impl Conversation {
    /// Takes in a system or developer message.
    pub(super) fn background(&mut self, text: &str) {
        self.search_folder(text);
        // Without tools and told to name or sum up something, it is no turn of the user's.
        let lower = text.get(..2000).unwrap_or(text).to_ascii_lowercase();
        self.aside |= lower.contains("title") || lower.contains("summar");
    }

    /// Takes in a message of the user: all its texts. One of only context changes nothing.
    pub(super) fn user(&mut self, texts: &[&str]) {
        self.messages += 1;
        let mut said = Vec::new();
        for text in texts {
            self.search_folder(text);
            let text = without_context(text);
            if !text.is_empty() {
                said.push(text);
            }
        }
        if !said.is_empty() {
            self.prompt = said.join("\n");
            self.results.clear();
        }
    }

    /// Takes in what a tool said.
    pub(super) fn result(&mut self, text: String) {
        self.messages += 1;
        self.results.push(text);
    }

    /// Takes in a message of the model.
    pub(super) fn assistant(&mut self) {
        self.messages += 1;
    }

    fn search_folder(&mut self, text: &str) {
        if self.folder.is_some() || self.searched >= FOLDER_WITHIN {
            return;
        }
        self.searched += text.len();
        self.folder = FOLDER_MARKS.iter().find_map(|mark| {
            let rest = &text[text.find(mark)? + mark.len()..];
            let end = rest.find(['\n', '<', '`', '"', '(']).unwrap_or(rest.len());
            let path = rest[..end].trim().trim_end_matches(['.', ',']);
            path.starts_with('/').then(|| path.to_owned())
        });
    }
}

/// A user's text without the `<name>…</name>` blocks that agents put before and after it.
fn without_context(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let before = text.len();
        if let Some(name) = text.strip_prefix('<').and_then(tag_name)
            && let Some(end) = text.find(&format!("</{name}>"))
        {
            text = text[end + name.len() + 3..].trim_start();
        }
        if let Some(start) = text.rfind("</")
            && let Some(name) = text[start + 2..].strip_suffix('>')
            && tag_name(&text[start + 2..]).is_some_and(|found| found == name)
            && let Some(open) = text.find(&format!("<{name}>"))
        {
            text = text[..open].trim_end();
        }
        if text.len() == before {
            return text;
        }
    }
}

/// The name of the tag that this begins with, after its `<`.
fn tag_name(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))?;
    let ended = matches!(text.as_bytes().get(end), Some(b'>' | b' '));
    (end > 0 && ended).then(|| &text[..end])
}

/// A text, or the texts of a list of blocks: the one thing that all protocols write in both ways.
pub(super) fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect()
        }
        _ => Vec::new(),
    }
}

/// The text at this key, or nothing.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The list at this key, or an empty one.
pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_wrap_around_a_prompt_is_left_out() {
        let check = |text, expected| assert_eq!(without_context(text), expected);
        check("do it", "do it");
        check(
            "<system-reminder>a</system-reminder>\n do it\n<system-reminder>b</system-reminder>",
            "do it",
        );
        check("<environment_context>\n<cwd>/w</cwd>\n</environment_context>", "");
        check("is 1 < 2 > 0?", "is 1 < 2 > 0?");
        check("<unfinished", "<unfinished");
        check("", "");
    }

    #[test]
    fn the_folder_is_found_where_agents_name_it() {
        for text in [
            "x\nWorking directory: /work/a\nIs it",
            " - Primary working directory: /work/a\n",
            "<environment_context>\n  <cwd>/work/a</cwd>",
            "I'm currently working in the directory: /work/a\n",
            "- **Workspace Directories:**\n  - /work/a\n- x",
        ] {
            let mut conversation = Conversation::default();
            conversation.background(text);
            assert_eq!(conversation.folder.as_deref(), Some("/work/a"), "{text}");
        }
    }

    #[test]
    fn a_new_prompt_forgets_the_results_and_context_does_not() {
        let mut conversation = Conversation::default();
        conversation.user(&["<system-reminder>x</system-reminder>", "first"]);
        conversation.assistant();
        conversation.result("one".into());
        conversation.user(&["<system-reminder>y</system-reminder>"]);
        assert_eq!((conversation.prompt.as_str(), conversation.results.len()), ("first", 1));
        conversation.user(&["second"]);
        assert_eq!((conversation.prompt.as_str(), conversation.results.len()), ("second", 0));
    }
}
