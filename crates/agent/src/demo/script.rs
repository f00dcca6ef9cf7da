//! What a prompt means to the demo agent.

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scene {
    /// What it does when it is asked for nothing in particular.
    Default,
    Text,
    Thought,
    Plan,
    Edit,
    Command,
    Permission,
    Question,
    Image,
    Usage,
    Failure,
    Crash,
    Garbage,
    Slow {
        seconds: u64,
    },
    Huge {
        mebibytes: u64,
    },
    Tools {
        count: u64,
    },
    Children,
    Hang,
    /// The name of none.
    Unknown(String),
}

/// The names of scenes, for people.
pub(super) const NAMES: &str = "text, thought, plan, edit, command, permission, question, image, usage, failure, crash, garbage, slow [seconds], huge [MiB], tools [n], children, hang";

/// The scenes that a prompt asks for.
pub(super) fn scenes(prompt: &str) -> Vec<Scene> {
    let mut scenes = Vec::new();
    for part in prompt.split("/demo").skip(1) {
        let words = part.split(|c: char| c.is_whitespace() || c == ',');
        let mut words = words.filter(|word| !word.is_empty()).peekable();
        let mut first = true;
        while let Some(word) = words.next() {
            let number = words.peek().and_then(|word| word.parse::<u64>().ok());
            let Some(scene) = scene(word, number) else {
                if first {
                    scenes.push(Scene::Unknown(word.chars().take(40).collect()));
                }
                break;
            };
            let takes_number =
                matches!(scene, Scene::Slow { .. } | Scene::Huge { .. } | Scene::Tools { .. });
            if takes_number && number.is_some() {
                words.next();
            }
            scenes.push(scene);
            first = false;
        }
    }
    if scenes.is_empty() { vec![Scene::Default] } else { scenes }
}

fn scene(name: &str, number: Option<u64>) -> Option<Scene> {
    Some(match name {
        "text" => Scene::Text,
        "thought" => Scene::Thought,
        "plan" => Scene::Plan,
        "edit" => Scene::Edit,
        "command" => Scene::Command,
        "permission" => Scene::Permission,
        "question" => Scene::Question,
        "image" => Scene::Image,
        "usage" => Scene::Usage,
        "failure" => Scene::Failure,
        "crash" => Scene::Crash,
        "garbage" => Scene::Garbage,
        "slow" => Scene::Slow { seconds: number.unwrap_or(5).min(24 * 3600) },
        // A line of more than 32 MiB is not taken; 64 shows that.
        "huge" => Scene::Huge { mebibytes: number.unwrap_or(5).min(64) },
        "tools" => Scene::Tools { count: number.unwrap_or(10).min(10_000) },
        "children" => Scene::Children,
        "hang" => Scene::Hang,
        _ => return None,
    })
}

/// The file that a prompt in plain words speaks of: `make hello.txt with a greeting in it`.
pub(super) fn file_name(prompt: &str) -> Option<String> {
    let words = prompt.split(|c: char| c.is_whitespace() || "\"'`(),;:!?".contains(c));
    words.map(|word| word.trim_end_matches('.')).find(|word| is_file_name(word)).map(str::to_owned)
}

fn is_file_name(word: &str) -> bool {
    let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    let inside =
        !word.starts_with('/') && word.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let in_git = word.split('/').any(|part| part == ".git");
    let name = word.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, e)| e);
    let known = extension.is_some_and(|e| {
        (1..=8).contains(&e.len()) && e.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    plain && inside && !in_git && known && word.len() <= 200
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_a_command_is_the_default() {
        assert_eq!(scenes("make hello.txt with a greeting in it"), [Scene::Default]);
    }

    #[test]
    fn scenes_are_played_in_order_with_their_numbers() {
        let wanted = [
            Scene::Thought,
            Scene::Slow { seconds: 2 },
            Scene::Tools { count: 10 },
            Scene::Edit,
            Scene::Huge { mebibytes: 20 },
        ];
        assert_eq!(scenes("/demo thought, slow 2 tools\n/demo edit please\n/demo huge 20"), wanted);
        assert_eq!(scenes("/demo dance"), [Scene::Unknown("dance".into())]);
        assert_eq!(scenes("say /demo text and be done"), [Scene::Text]);
    }

    #[test]
    fn a_file_is_found_in_plain_words() {
        let check = |prompt: &str, name: Option<&str>| {
            assert_eq!(file_name(prompt).as_deref(), name, "{prompt}");
        };
        check("make hello.txt with a greeting in it", Some("hello.txt"));
        check("please create `src/deep/mod.rs`.", Some("src/deep/mod.rs"));
        check("Write README.md.", Some("README.md"));
        check("fix the bug e.g. soon", Some("e.g"));
        check("see https://example.com/a.txt", None);
        check("edit /etc/passwd.txt or ../x.txt or .git/config.txt", None);
        check("version 1.2 is out", None);
    }
}
