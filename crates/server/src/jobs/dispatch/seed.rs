//! A conversation as a text, for an agent that has forgotten it.

use std::fmt::Write as _;

use boatyard_model::{
    Content, EventBody,
    event::{PlanEntry, PlanStatus, ToolCall, ToolStatus},
};
use boatyard_store::SessionRow;

use crate::{app::App, hub::HubError};

/// The whole of it, in bytes: its end, where it is longer.
const SEED_MAX: usize = 256 << 10;
/// What a tool printed, in bytes: its beginning and its end.
const OUTPUT_MAX: usize = 2 << 10;
/// A tool's arguments, in bytes.
const INPUT_MAX: usize = 1 << 10;
/// Events that are read at once.
const EVENTS: u32 = 500;

/// The conversation so far.
///
/// # Errors
/// When the store can't be read.
pub(super) async fn of(app: &App, session: &SessionRow) -> Result<String, HubError> {
    let mut seed = Seed::default();
    let mut after = 0;
    loop {
        let events = app.store.read_events(session.id, after, EVENTS).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for stored in &events {
            // What this program doesn't know any more is left out, and so is the turn that the
            // agent is to be given now.
            if let Ok(event) = stored.event()
                && (event.turn.is_none() || event.turn != session.turn)
            {
                seed.take(event.body);
            }
        }
    }
    Ok(seed.finish())
}

/// A conversation that is being written down.
#[derive(Debug, Default)]
struct Seed {
    text: String,
    /// The plan as it was told last.
    plan: Vec<PlanEntry>,
}

impl Seed {
    fn take(&mut self, body: EventBody) {
        match body {
            EventBody::TurnStarted { content, .. } | EventBody::TurnSteered { content, .. } => {
                self.user(&content);
            }
            EventBody::MessageCompleted { text, .. } => self.part("assistant", &text),
            EventBody::ToolCompleted { tool, status, exit_code, .. } => {
                self.tool(&tool, status, exit_code);
            }
            EventBody::Plan { entries } => self.plan = entries,
            EventBody::TurnCompleted { .. } => self.told_plan(),
            _ => {}
        }
        // What is cut off in the end need not be kept all the time.
        if self.text.len() > 2 * SEED_MAX {
            self.text = end(&self.text).to_owned();
        }
    }

    fn part(&mut self, who: &str, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            let _ = write!(self.text, "\n\n[{who}]\n{text}");
        }
    }

    fn user(&mut self, content: &[Content]) {
        let mut said = String::new();
        for piece in content {
            match piece {
                Content::Text { text } => said.push_str(text),
                Content::Image { mime, .. } => {
                    let _ = write!(said, "\n(a picture, {mime}, that is not repeated here)");
                }
            }
        }
        self.part("user", &said);
    }

    fn tool(&mut self, tool: &ToolCall, status: ToolStatus, exit_code: Option<i32>) {
        let title = tool.title.as_deref().unwrap_or(&tool.tool);
        let how = match (status, exit_code) {
            (_, Some(code)) if code != 0 => format!(", exit code {code}"),
            (ToolStatus::Failed, _) => ", failed".to_owned(),
            (ToolStatus::Cancelled, _) => ", cancelled".to_owned(),
            (ToolStatus::Completed, _) => String::new(),
        };
        let _ = write!(self.text, "\n\n[tool{how}] {title}");
        for diff in &tool.diffs {
            let made = if diff.old.is_some() { "changed" } else { "written" };
            let _ = write!(self.text, "\n({made}: {})", diff.path);
        }
        if tool.diffs.is_empty()
            && let Some(input) = &tool.input
        {
            let _ = write!(self.text, "\nwith {}", cut(&input.to_string(), INPUT_MAX));
        }
        if let Some(output) = tool.output.as_deref().map(str::trim).filter(|text| !text.is_empty())
        {
            let _ = write!(self.text, "\n{}", cut(output, OUTPUT_MAX));
        }
        if !tool.images.is_empty() {
            let _ = write!(self.text, "\n({} pictures, not repeated here)", tool.images.len());
        }
    }

    fn told_plan(&mut self) {
        let lines = std::mem::take(&mut self.plan).into_iter().map(|entry| {
            let mark = match entry.status {
                PlanStatus::Completed => "x",
                PlanStatus::InProgress => "~",
                PlanStatus::Pending => " ",
            };
            format!("- [{mark}] {}", entry.text)
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        self.part("plan", &text);
    }

    fn finish(mut self) -> String {
        self.told_plan();
        let text = self.text.trim_start();
        match text.len() > SEED_MAX {
            true => format!("[…]{}", end(text)),
            false => text.to_owned(),
        }
    }
}

/// The end of a text.
fn end(text: &str) -> &str {
    let from = text.len().saturating_sub(SEED_MAX);
    &text[text.ceil_char_boundary(from)..]
}

/// The beginning and the end of a text.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(most / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - most / 2)..];
    format!("{head}\n[… {} bytes …]\n{tail}", text.len() - head.len() - tail.len())
}

#[cfg(test)]
mod tests {
    use boatyard_model::{BlobId, PromptId, PromptMode, TurnOutcome};

    use super::*;

    fn said(body: Vec<EventBody>) -> String {
        let mut seed = Seed::default();
        body.into_iter().for_each(|body| seed.take(body));
        seed.finish()
    }

    fn started(content: Vec<Content>) -> EventBody {
        let (prompt, mode) = (PromptId::new(), PromptMode::Queue);
        EventBody::TurnStarted { prompt, content, mode, author: None }
    }

    fn completed() -> EventBody {
        let outcome = TurnOutcome::Completed;
        EventBody::TurnCompleted { outcome, error: None, checkpoint: None, millis: 1 }
    }

    #[test]
    fn tools_with_their_output_plans_and_pictures_are_told() {
        let tool = ToolCall {
            tool: "t".into(),
            title: Some("make test".into()),
            input: Some(serde_json::json!({ "command": "make test" })),
            output: Some(format!("first\n{}\nlast", "x".repeat(100_000))),
            ..ToolCall::default()
        };
        let text = |text: &str| Content::Text { text: text.into() };
        let image = Content::Image { blob: BlobId::new(), mime: "image/png".into() };
        let entry = |text: &str, status| PlanEntry { text: text.into(), status };
        let all = said(vec![
            started(vec![text("Mend it."), image]),
            EventBody::Plan { entries: vec![entry("old", PlanStatus::Pending)] },
            EventBody::Plan {
                entries: vec![
                    entry("look", PlanStatus::Completed),
                    entry("mend", PlanStatus::Pending),
                ],
            },
            EventBody::ToolCompleted {
                tool,
                status: ToolStatus::Failed,
                exit_code: Some(2),
                output_blob: None,
            },
            EventBody::MessageCompleted {
                message: "m".into(),
                text: "It fails.".into(),
                blob: None,
            },
            completed(),
        ]);
        for part in [
            "[user]\nMend it.\n(a picture, image/png, that is not repeated here)",
            "[tool, exit code 2] make test\nwith {\"command\":\"make test\"}\nfirst\n",
            "xx\nlast",
            "[assistant]\nIt fails.",
            "[plan]\n- [x] look\n- [ ] mend",
        ] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
        assert!(!all.contains("old") && all.len() < 4000, "{}", all.len());
    }

    #[test]
    fn a_long_conversation_is_cut_at_its_beginning() {
        let say = |n: usize| EventBody::MessageCompleted {
            message: n.to_string(),
            text: format!("{n} {}", "ä".repeat(50_000)),
            blob: None,
        };
        let all = said((0..20).map(say).collect());
        assert!(all.len() <= SEED_MAX + 10 && all.starts_with("[…]") && all.contains("\n19 "));
    }
}
