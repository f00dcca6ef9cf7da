//! The script language, and which part of a script is next.
//!
//! A script is a list of steps. A prompt chooses one of ours by `[[script:NAME]]`, or is one:
//!
//! ```text
//!   [[think:TEXT]]        a thought
//!   [[say:TEXT]]          a text; {result} is what the last tool said
//!   [[write:PATH|TEXT]]   has the agent write a file (\n in TEXT is a line's end)
//!   [[run:COMMAND]]       has the agent run a command
//!   [[call:NAMES|JSON]]   has the agent call the first of these tools (`Agent,task`) that it offers,
//!                         with these arguments; ((…)) in them is [[…]], for a sub-agent's prompt
//!   [[fault:NAME]]        fails (see `fault`); [[fault:NAME*2]] does so twice
//!   [[pace:MILLISECONDS]] between two pieces of its answers, at most 1000
//! ```
//!
//! Steps up to and including one `write`, `run` or `call` make a round: one answer. Which round is next is
//! the number of results that the conversation has since its prompt, so that the same request
//! always gets the same answer. A script whose last step calls a tool gets a word at its end.

use std::time::Duration;

use super::{
    answer::{Answer, Part},
    conversation::{Conversation, Thoughts},
    fault::{self, Fault},
    schema, tools,
};

/// What every answer begins with: nobody shall take it for a model's.
pub(super) const MARK: &str = "[scripted] ";

/// How much of a tool's result is repeated, in bytes.
const RESULT_SHOWN: usize = 2000;

/// How much of a prompt is repeated where it is named, in bytes.
const PROMPT_SHOWN: usize = 60;

/// The slowest pace that can be asked for, in milliseconds.
const SLOWEST: u64 = 1000;

/// The names that `[[script:NAME]]` takes.
const NAMES: &str = "hello, text, think, fail, commands, edit, long, huge";

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Think(String),
    Say(String),
    Act(Action),
}

/// What only a tool of the agent can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Write { path: String, text: String },
    Run { command: String },
    Call { names: Vec<String>, arguments: String },
}

impl Action {
    fn announced(&self) -> String {
        match self {
            Self::Write { path, .. } => format!("I write {path}."),
            Self::Run { command } => format!("I run `{command}`."),
            Self::Call { names, .. } => format!("I call {}.", names.join(" or ")),
        }
    }
}

/// What the answer to this conversation is.
pub(super) fn next(conversation: &Conversation) -> Answer {
    let parts = if let Some(schema) = &conversation.schema {
        vec![Part::Text(schema::example(schema).to_string())]
    } else if conversation.tools.is_empty()
        && (conversation.aside || !conversation.prompt.contains("[["))
    {
        vec![Part::Text(format!("{MARK}{}", first_words(&conversation.prompt)))]
    } else {
        round(conversation)
    };
    Answer::new(conversation, parts)
}

/// Which fault the prompt asks for, if any. A call beside the conversation has none.
pub(super) fn fault(conversation: &Conversation) -> Option<Fault> {
    if conversation.schema.is_some() || conversation.aside && conversation.tools.is_empty() {
        return None;
    }
    directives(&conversation.prompt)
        .find_map(|(verb, argument)| (verb == "fault").then(|| fault::parse(argument))?)
}

/// At which pace the prompt wants its answers, if it says so.
pub(super) fn pace(conversation: &Conversation) -> Option<Duration> {
    directives(&conversation.prompt).find_map(|(verb, argument)| {
        let millis = (verb == "pace").then(|| argument.trim().parse().ok())??;
        (millis <= SLOWEST).then(|| Duration::from_millis(millis))
    })
}

/// The parts of the round that is next.
fn round(conversation: &Conversation) -> Vec<Part> {
    let mut steps = steps_of(&conversation.prompt);
    // A step that no tool can do must not stop the script: it turns into a word about that.
    for step in &mut steps {
        if let Step::Act(action) = step
            && tools::call(action, conversation).is_none()
        {
            *step = Step::Say(format!("No tool is offered for this step: {}", action.announced()));
        }
    }
    if matches!(steps.last(), Some(Step::Act(_) | Step::Think(_)) | None) {
        steps.push(Step::Say("Done. The last tool said: {result}".into()));
    }
    let mut rounds = steps.split_inclusive(|step| matches!(step, Step::Act(_)));
    // Past its end (the agent went on by itself) the script says its last word again.
    let count = rounds.clone().count();
    let steps = rounds.nth(conversation.results.len().min(count - 1)).unwrap_or_default();

    let mut parts = Vec::new();
    let mut texts = Vec::new();
    let result =
        conversation.results.last().map_or("nothing", |result| shown(result, RESULT_SHOWN));
    for step in steps {
        match step {
            Step::Think(text) if conversation.thoughts == Thoughts::Shown => {
                parts.push(Part::Thought(text.clone()));
            }
            Step::Think(_) => {}
            Step::Say(text) => texts.push(text.replace("{result}", result)),
            Step::Act(action) => {
                if texts.is_empty() {
                    texts.push(action.announced());
                }
                parts.push(Part::Text(format!("{MARK}{}", texts.join("\n\n"))));
                parts.extend(tools::call(action, conversation).map(Part::Call));
                return parts;
            }
        }
    }
    parts.push(Part::Text(format!("{MARK}{}", texts.join("\n\n"))));
    parts
}

/// The script of a prompt: its own, the one that it names, or the usual one.
fn steps_of(prompt: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for (verb, argument) in directives(prompt) {
        match verb {
            "script" => steps.extend(named(argument.trim())),
            "think" => steps.push(Step::Think(argument.replace("\\n", "\n"))),
            "say" => steps.push(Step::Say(argument.replace("\\n", "\n"))),
            "run" => steps.push(run(argument)),
            "call" => {
                let (names, arguments) = argument.split_once('|').unwrap_or((argument, "{}"));
                let names = names.split(',').map(|name| name.trim().to_owned()).collect();
                let arguments = arguments.replace("((", "[[").replace("))", "]]");
                steps.push(Step::Act(Action::Call { names, arguments }));
            }
            "write" => {
                let (path, text) = argument.split_once('|').unwrap_or((argument, ""));
                steps.push(write(path.trim(), &text.replace("\\n", "\n")));
            }
            _ => {}
        }
    }
    if steps.is_empty() { named("hello") } else { steps }
}

/// The scripts that have a name.
fn named(name: &str) -> Vec<Step> {
    let say = |text: &str| Step::Say(text.to_owned());
    match name {
        "hello" => vec![
            Step::Think("A file shows that tools work; a command shows what came of it.".into()),
            say("I write a file and then look at what has changed."),
            write("hello.txt", "hello from the scripted model\n"),
            run("git status --short"),
            say("Done: hello.txt is written. The last tool said:\n\n{result}"),
        ],
        "text" => vec![say("No model answers here: this text is a script's.")],
        "think" => vec![
            Step::Think("First this is thought about. Then it is answered.".into()),
            say("That was thought about."),
        ],
        "fail" => vec![
            say("I run a command that fails."),
            run("echo oops >&2; exit 3"),
            say("The command failed, as it should. The tool said:\n\n{result}"),
        ],
        "commands" => vec![run("pwd"), run("ls -a"), run("id -u"), say("Three commands ran.")],
        "edit" => vec![
            write("edit.txt", "alpha\nbeta\n"),
            run("cat edit.txt"),
            run("sed -i s/beta/gamma/ edit.txt && cat edit.txt"),
            say("Edited. The last tool said:\n\n{result}"),
        ],
        "long" => vec![say(&lines(200))],
        // Five megabytes: more than any buffer on the way should hold.
        "huge" => vec![say(&lines(5_000_000 / LINE.len()))],
        _ => vec![Step::Say(format!("There is no script \"{name}\". There are: {NAMES}."))],
    }
}

const LINE: &str = "This is one line of a long answer that no model wrote, with its number: ";

fn lines(count: usize) -> String {
    (1..=count).map(|number| format!("{LINE}{number}\n")).collect()
}

fn write(path: &str, text: &str) -> Step {
    Step::Act(Action::Write { path: path.to_owned(), text: text.to_owned() })
}

fn run(command: &str) -> Step {
    Step::Act(Action::Run { command: command.to_owned() })
}

/// The `[[verb:argument]]` in a text, in order.
fn directives(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let begin = rest.find("[[")?;
            let inner = &rest[begin + 2..];
            let end = inner.find("]]")?;
            rest = &inner[end + 2..];
            if let Some(found) = inner[..end].split_once(':') {
                return Some(found);
            }
        }
    })
}

/// The beginning of the first line of a prompt.
fn first_words(prompt: &str) -> &str {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or("(no prompt)", |line| shown(line, PROMPT_SHOWN))
}

/// The beginning of a text, cut between characters.
fn shown(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::conversation::{Tool, ToolInput};
    use super::*;

    fn with_bash(prompt: &str, results: &[&str]) -> Conversation {
        let schema = json!({"type": "object", "properties": {"command": {"type": "string"}}});
        let mut conversation = Conversation::default();
        conversation.tools.push(Tool {
            name: "Bash".into(),
            namespace: None,
            input: ToolInput::Json(schema),
        });
        conversation.user(&[prompt]);
        for result in results {
            conversation.result((*result).into());
        }
        conversation
    }

    fn check(prompt: &str, results: &[&str], expected: &str) {
        let parts = next(&with_bash(prompt, results)).parts;
        let told: Vec<String> = parts
            .iter()
            .map(|part| match part {
                Part::Thought(text) => format!("thought {text}"),
                Part::Text(text) => text.clone(),
                Part::Call(call) => format!("{} {}", call.name, call.input.as_text()),
            })
            .collect();
        assert_eq!(told.join(" / "), expected);
    }

    #[test]
    fn a_prompt_can_be_a_script_and_results_say_where_it_stands() {
        let prompt = "Please [[run:ls]] and [[say:saw {result}]] [[run:id]]";
        check(prompt, &[], r#"[scripted] I run `ls`. / Bash {"command":"ls"}"#);
        check(prompt, &["a b"], r#"[scripted] saw a b / Bash {"command":"id"}"#);
        check(prompt, &["a b", "0"], "[scripted] Done. The last tool said: 0");
        check(prompt, &["a b", "0", "?"], "[scripted] Done. The last tool said: ?");
    }

    #[test]
    fn a_tool_can_be_called_by_its_name() {
        let prompt = r#"[[call:Task,Bash|{"command": "((say:x))"}]] [[say:{result}]]"#;
        check(prompt, &[], r#"[scripted] I call Task or Bash. / Bash {"command":"[[say:x]]"}"#);
        check(prompt, &["done"], "[scripted] done");
        let none = "[scripted] No tool is offered for this step: I call Bash.";
        check("[[call:Bash|no JSON]]", &[], none);
    }

    #[test]
    fn without_a_tool_for_it_a_step_is_told_of() {
        let mut conversation = with_bash("[[run:ls]]", &[]);
        conversation.tools[0].name = "Read".into();
        let Part::Text(text) = &next(&conversation).parts[0] else { panic!() };
        assert_eq!(text, "[scripted] No tool is offered for this step: I run `ls`.");
    }

    #[test]
    fn a_file_is_written_by_the_shell_where_there_is_no_better_tool() {
        check(
            "[[write:a/b.txt|it's\\n]]",
            &[],
            r#"[scripted] I write a/b.txt. / Bash {"command":"mkdir -p 'a' && printf %s 'it'\\''s\n' > 'a/b.txt'"}"#,
        );
    }

    #[test]
    fn an_unknown_script_names_the_known_ones() {
        let expected = format!("[scripted] There is no script \"x\". There are: {NAMES}.");
        check("[[script:x]]", &[], &expected);
        for name in NAMES.split(", ") {
            assert!(!format!("{:?}", named(name)).contains("There is no script"), "{name}");
        }
    }

    #[test]
    fn a_call_beside_the_conversation_gets_one_line() {
        let mut conversation = Conversation::default();
        conversation.background("Generate a title for this conversation");
        conversation.user(&["Fix it\n[[run:ls]]"]);
        let Part::Text(text) = &next(&conversation).parts[0] else { panic!() };
        assert_eq!(text, "[scripted] Fix it");
    }
}
