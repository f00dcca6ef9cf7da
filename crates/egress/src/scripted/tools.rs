//! A script's action as a call of one of the tools that a request offers.
//!
//! Agents name their tools and arguments in their own ways; this knows the names that are in use
//! and lets the tool's schema say which arguments there are:
//!
//! | agent | writes by | runs by |
//! |---|---|---|
//! | Claude Code | `Write {file_path, content}` | `Bash {command, description}` |
//! | Codex | `apply_patch` (text), or in code mode `exec` (JavaScript) | `exec_command {cmd}`, `exec` |
//! | OpenCode | `write {filePath, content}`, `apply_patch {patchText}` | `bash {command, description}` |
//! | Gemini, Qwen | `write_file {file_path, content}` | `run_shell_command {command}` |
//! | Copilot | `create {path, file_text}` | `bash {command, description}` |
//!
//! Where nothing writes a file, the shell does.

use serde_json::{Map, Value, json};

use super::{
    answer::{Call, Input, stem},
    conversation::{Conversation, Tool, ToolInput, list},
    schema,
    script::Action,
};

const WRITERS: [&str; 6] =
    ["write", "write_file", "create", "create_file", "write_to_file", "writefile"];
const RUNNERS: [&str; 11] = [
    "bash",
    "exec_command",
    "run_shell_command",
    "shell_command",
    "shell",
    "run_command",
    "execute_command",
    "run_in_terminal",
    "run_commands",
    "terminal",
    "local_shell",
];
const PATHS: [&str; 5] = ["file_path", "filePath", "path", "absolute_path", "filename"];
const CONTENTS: [&str; 4] = ["content", "file_text", "contents", "text"];
const COMMANDS: [&str; 4] = ["command", "cmd", "commands", "script"];
/// What several agents want said about a command; they show it.
const DESCRIPTION: &str = "scripted step";

/// The call that does this, or nothing when no tool on offer can.
pub(super) fn call(action: &Action, conversation: &Conversation) -> Option<Call> {
    let (tool, input) = match action {
        Action::Write { path, text } => write(path, text, conversation)?,
        Action::Run { command } => run(command, conversation)?,
        Action::Call { names, arguments } => by_name(names, arguments, conversation)?,
    };
    Some(Call {
        id: format!("call_{}", stem(conversation)),
        name: tool.name.clone(),
        namespace: tool.namespace.clone(),
        input,
    })
}

fn by_name<'c>(
    names: &[String],
    arguments: &str,
    conversation: &'c Conversation,
) -> Option<(&'c Tool, Input)> {
    let arguments: Value = serde_json::from_str(arguments).ok()?;
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some((tool, _)) = json_tool(conversation, &known) {
        return Some((tool, Input::Json(arguments)));
    }
    let code = format!("text(await tools.{}({arguments}));\n", names.first()?);
    Some((code_mode(conversation)?, Input::Text(code)))
}

fn write<'c>(path: &str, text: &str, conversation: &'c Conversation) -> Option<(&'c Tool, Input)> {
    let by_writer = || {
        let (tool, schema) = json_tool(conversation, &WRITERS)?;
        // Most of these refuse a path that is not absolute.
        let path = match &conversation.folder {
            Some(folder) if !path.starts_with('/') => {
                format!("{}/{path}", folder.trim_end_matches('/'))
            }
            _ => path.to_owned(),
        };
        let known =
            [(property(schema, &PATHS)?, path), (property(schema, &CONTENTS)?, text.into())];
        let known = known.map(|(name, value)| (name, Value::String(value)));
        Some((tool, Input::Json(arguments(schema, known))))
    };
    let by_patch = || {
        let tool = conversation.tools.iter().find(|tool| tool.name == "apply_patch")?;
        let patch = patch(path, text);
        let input = match &tool.input {
            ToolInput::Text => Input::Text(patch),
            ToolInput::Json(schema) => {
                let name = property(schema, &["input", "patch", "patchText"])?;
                Input::Json(arguments(schema, [(name, Value::String(patch))]))
            }
        };
        Some((tool, input))
    };
    let by_code = || {
        let patch = Value::String(patch(path, text));
        let code = format!("text(await tools.apply_patch({patch}));\n");
        Some((code_mode(conversation)?, Input::Text(code)))
    };
    let by_shell = || {
        let mut command = String::new();
        if let Some((folder, _)) = path.rsplit_once('/').filter(|(folder, _)| !folder.is_empty()) {
            command = format!("mkdir -p {} && ", quoted(folder));
        }
        command.push_str(&format!("printf %s {} > {}", quoted(text), quoted(path)));
        run(&command, conversation)
    };
    by_writer().or_else(by_patch).or_else(by_code).or_else(by_shell)
}

fn run<'c>(command: &str, conversation: &'c Conversation) -> Option<(&'c Tool, Input)> {
    let by_runner = || {
        let (tool, schema) = json_tool(conversation, &RUNNERS)?;
        let name = property(schema, &COMMANDS)?;
        let is_list = schema["properties"][name]["type"] == "array";
        let value = match name {
            "commands" if is_list => json!([command]),
            _ if is_list => json!(["bash", "-lc", command]),
            _ => json!(command),
        };
        Some((tool, Input::Json(arguments(schema, [(name, value)]))))
    };
    let by_code = || {
        let arguments = json!({ "cmd": command });
        let code = format!("text(await tools.exec_command({arguments}));\n");
        Some((code_mode(conversation)?, Input::Text(code)))
    };
    by_runner().or_else(by_code)
}

/// The first tool on offer with one of these names, best name first, and its schema.
fn json_tool<'c>(conversation: &'c Conversation, names: &[&str]) -> Option<(&'c Tool, &'c Value)> {
    names.iter().find_map(|name| {
        conversation.tools.iter().find_map(|tool| match &tool.input {
            ToolInput::Json(schema) if tool.name.eq_ignore_ascii_case(name) => Some((tool, schema)),
            _ => None,
        })
    })
}

/// Codex's code mode: one tool that runs JavaScript, in which the others are functions.
fn code_mode(conversation: &Conversation) -> Option<&Tool> {
    conversation
        .tools
        .iter()
        .find(|tool| matches!(tool.input, ToolInput::Text) && tool.name == "exec")
}

/// Which of these names the schema has.
fn property(schema: &Value, names: &[&'static str]) -> Option<&'static str> {
    let properties = schema.get("properties")?;
    names.iter().find(|name| properties.get(**name).is_some()).copied()
}

/// The arguments that are known, and something for each other that must be there.
fn arguments<const N: usize>(schema: &Value, known: [(&str, Value); N]) -> Value {
    let mut arguments: Map<String, Value> =
        known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for name in list(schema, "required").iter().filter_map(Value::as_str) {
        if !arguments.contains_key(name) {
            let value = match name {
                "description" | "explanation" => json!(DESCRIPTION),
                _ => schema::example(&schema["properties"][name]),
            };
            arguments.insert(name.to_owned(), value);
        }
    }
    Value::Object(arguments)
}

/// A patch in Codex's own form that adds a file.
fn patch(path: &str, text: &str) -> String {
    let added: String = text.lines().map(|line| format!("+{line}\n")).collect();
    format!("*** Begin Patch\n*** Add File: {path}\n{added}*** End Patch\n")
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(tools: &[(&str, Option<&[&str]>)]) -> Conversation {
        let mut conversation =
            Conversation { folder: Some("/work/a".into()), ..Conversation::default() };
        conversation.tools = tools
            .iter()
            .map(|(name, arguments)| Tool {
                name: (*name).into(),
                namespace: None,
                input: arguments.map_or(ToolInput::Text, |names| {
                    let properties: Map<String, Value> = names
                        .iter()
                        .map(|name| ((*name).into(), json!({"type": "string"})))
                        .collect();
                    ToolInput::Json(json!({"properties": properties, "required": names}))
                }),
            })
            .collect();
        conversation
    }

    fn check(tools: &[(&str, Option<&[&str]>)], written: &str, ran: &str) {
        let conversation = offers(tools);
        // The order of a JSON object's members is nobody's business.
        let parted = |text: &str| {
            let (name, input) = text.split_once(' ').unwrap();
            let input = serde_json::from_str(input).unwrap_or_else(|_| json!(input));
            (name.to_owned(), input)
        };
        let told = |action| {
            let call = call(&action, &conversation).unwrap();
            parted(&format!("{} {}", call.name, call.input.as_text()))
        };
        assert_eq!(told(Action::Write { path: "f".into(), text: "t\n".into() }), parted(written));
        assert_eq!(told(Action::Run { command: "ls".into() }), parted(ran));
    }

    #[test]
    fn every_agents_tools_are_known() {
        let bash = r#"bash {"command":"ls","description":"scripted step"}"#;
        check(
            &[("Bash", Some(&["command"])), ("Write", Some(&["file_path", "content"]))],
            r#"Write {"content":"t\n","file_path":"/work/a/f"}"#,
            r#"Bash {"command":"ls"}"#,
        );
        check(
            &[
                ("bash", Some(&["command", "description"])),
                ("write", Some(&["filePath", "content"])),
            ],
            r#"write {"content":"t\n","filePath":"/work/a/f"}"#,
            bash,
        );
        check(
            &[
                ("create", Some(&["path", "file_text"])),
                ("bash", Some(&["command", "description"])),
            ],
            r#"create {"file_text":"t\n","path":"/work/a/f"}"#,
            bash,
        );
        check(
            &[
                ("run_shell_command", Some(&["command"])),
                ("write_file", Some(&["file_path", "content"])),
            ],
            r#"write_file {"content":"t\n","file_path":"/work/a/f"}"#,
            r#"run_shell_command {"command":"ls"}"#,
        );
    }

    #[test]
    fn codex_has_three_ways() {
        let ran = r#"exec_command {"cmd":"ls"}"#;
        check(
            &[("exec_command", Some(&["cmd"]))],
            r#"exec_command {"cmd":"printf %s 't\n' > 'f'"}"#,
            ran,
        );
        check(
            &[("exec_command", Some(&["cmd"])), ("apply_patch", None)],
            "apply_patch *** Begin Patch\n*** Add File: f\n+t\n*** End Patch\n",
            ran,
        );
        check(
            &[("exec", None)],
            "exec text(await tools.apply_patch(\"*** Begin Patch\\n*** Add File: f\\n+t\\n*** End Patch\\n\"));\n",
            "exec text(await tools.exec_command({\"cmd\":\"ls\"}));\n",
        );
        let call = Action::Call { names: vec!["a".into(), "b".into()], arguments: "{}".into() };
        let called = self::call(&call, &offers(&[("exec", None)])).unwrap();
        assert_eq!(called.input.as_text(), "text(await tools.a({}));\n");
    }
}
