//! A person's answers, typed in place.

use std::io::{BufRead as _, IsTerminal as _};

use boatyard_api::{
    Client,
    model::{
        AskAnswer, AskId, AskState, Event, EventBody, PermissionId, QuestionId, SessionId,
        event::{PermissionKind, PermissionOption},
    },
    request::AskReply,
    session::{PermissionAnswer, QuestionAnswer},
};
use tokio::sync::mpsc;

use super::egress::meaning;
use crate::{output::Look, text::clean_line};

/// Something that waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    /// Yes or no.
    Permission { id: PermissionId, options: Vec<PermissionOption> },
    /// Words.
    Question { id: QuestionId, options: Vec<String> },
    /// How far a request may go.
    Request { id: AskId },
}

/// What may be said to a request, in the order in which it is offered.
const REPLIES: [AskAnswer; 6] = [
    AskAnswer::Once,
    AskAnswer::TenMinutes,
    AskAnswer::Workspace,
    AskAnswer::Repository,
    AskAnswer::No,
    AskAnswer::Never,
];

/// What waits, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Asks(Vec<Ask>);

impl Asks {
    /// Takes in an event. Answers whether something changed.
    pub(crate) fn event(&mut self, event: &Event) -> bool {
        let before = self.0.len();
        match &event.body {
            EventBody::PermissionRequested { permission, options, .. } => {
                self.0.push(Ask::Permission { id: *permission, options: options.clone() });
            }
            EventBody::PermissionResolved { permission, .. } => {
                self.0.retain(|ask| !matches!(ask, Ask::Permission { id, .. } if id == permission));
            }
            EventBody::QuestionAsked { question, options, .. } => {
                self.0.push(Ask::Question { id: *question, options: options.clone() });
            }
            EventBody::QuestionAnswered { question, .. } => {
                self.0.retain(|ask| !matches!(ask, Ask::Question { id, .. } if id == question));
            }
            EventBody::EgressAsked { ask, .. } => self.0.push(Ask::Request { id: *ask }),
            EventBody::EgressAnswered { ask, .. } => {
                self.0.retain(|one| !matches!(one, Ask::Request { id } if id == ask));
            }
            EventBody::TurnCompleted { .. } => self.0.clear(),
            _ => return false,
        }
        self.0.len() != before
    }

    /// The first one was answered here; its event may come later.
    pub(crate) fn answered(&mut self) {
        if !self.0.is_empty() {
            self.0.remove(0);
        }
    }

    /// The one to answer first.
    pub(crate) fn first(&self) -> Option<&Ask> {
        self.0.first()
    }
}

impl Ask {
    /// The choices, a line each.
    pub(crate) fn choices(&self, look: Look) -> Vec<String> {
        let line = |i: usize, name: &str| format!("    {} {}", look.name(i + 1), clean_line(name));
        match self {
            Self::Permission { options, .. } => {
                options.iter().enumerate().map(|(i, option)| line(i, &option.name)).collect()
            }
            Self::Question { options, .. } => {
                options.iter().enumerate().map(|(i, option)| line(i, option)).collect()
            }
            Self::Request { .. } => {
                REPLIES.iter().enumerate().map(|(i, reply)| line(i, meaning(*reply))).collect()
            }
        }
    }

    /// What stands before the cursor.
    pub(crate) fn cursor(&self) -> String {
        match self {
            Self::Permission { options, .. } if options.is_empty() => "    y or n: ".to_owned(),
            Self::Permission { options, .. } => format!("    1-{}, y or n: ", options.len()),
            Self::Question { options, .. } if options.is_empty() => "    Answer: ".to_owned(),
            Self::Question { options, .. } => format!("    1-{}, or words: ", options.len()),
            Self::Request { .. } => format!("    1-{}, y or n: ", REPLIES.len()),
        }
    }

    /// How to answer from elsewhere.
    pub(crate) fn command(&self) -> String {
        match self {
            Self::Permission { id, .. } => {
                format!("boatyard permission answer {id} allow   (or deny)")
            }
            Self::Question { id, .. } => format!("boatyard question answer {id} \"ANSWER\""),
            Self::Request { id } => format!(
                "boatyard egress answer {id} once   (or ten_minutes, workspace, repository, no, never)"
            ),
        }
    }

    /// Whether something still waits in the session.
    pub(crate) async fn is_open(
        &self,
        client: &Client,
        session: SessionId,
    ) -> boatyard_api::client::Result<bool> {
        match self {
            Self::Request { id } => {
                match client.find_ask(*id).await {
                    Ok(ask) => Ok(ask.state == AskState::Open),
                    // Gone with the log of what is long over.
                    Err(error) if error.problem().is_some_and(|p| p.status == 404) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            Self::Permission { .. } | Self::Question { .. } => {
                let session = client.find_session(session).await?;
                Ok(!session.permissions.is_empty() || !session.questions.is_empty())
            }
        }
    }

    /// Gives the answer that was typed. `None` if it can't be understood.
    pub(crate) async fn answer(
        &self,
        client: &Client,
        session: SessionId,
        typed: &str,
    ) -> Option<boatyard_api::client::Result<()>> {
        let typed = typed.trim();
        match self {
            Self::Permission { id, options } => {
                let option = chosen(options, typed)?;
                let answer = PermissionAnswer { option: Some(option.id.clone()), decision: None };
                Some(client.answer_permission(session, *id, &answer).await)
            }
            Self::Question { id, options } => {
                let by_number =
                    typed.parse::<usize>().ok().and_then(|n| options.get(n.checked_sub(1)?));
                let answer = by_number.map_or(typed, String::as_str).to_owned();
                if answer.is_empty() {
                    return None;
                }
                Some(client.answer_question(session, *id, &QuestionAnswer { answer }).await)
            }
            Self::Request { id } => {
                let reply = AskReply { answer: reply(typed)? };
                Some(client.answer_ask(*id, &reply).await.map(drop))
            }
        }
    }
}

/// What was typed for a request: a number, a plain yes or no, or the answer's own word.
fn reply(typed: &str) -> Option<AskAnswer> {
    match typed.to_ascii_lowercase().replace('-', "_").as_str() {
        "y" | "yes" => Some(AskAnswer::Once),
        "n" => Some(AskAnswer::No),
        word => match word.parse::<usize>() {
            Ok(number) => REPLIES.get(number.checked_sub(1)?).copied(),
            Err(_) => word.parse().ok(),
        },
    }
}

fn chosen<'o>(options: &'o [PermissionOption], typed: &str) -> Option<&'o PermissionOption> {
    let of = |kinds: [PermissionKind; 2]| {
        kinds.iter().find_map(|kind| options.iter().find(|option| option.kind == *kind))
    };
    match typed.to_ascii_lowercase().as_str() {
        "y" | "yes" => of([PermissionKind::AllowOnce, PermissionKind::AllowAlways]),
        "n" | "no" => of([PermissionKind::RejectOnce, PermissionKind::RejectAlways]),
        number => options.get(number.parse::<usize>().ok()?.checked_sub(1)?),
    }
}

/// Lines that are typed. A thread reads them, from the first question on: a read of a terminal
/// can't be taken back.
#[derive(Debug, Default)]
pub(crate) struct Typed(Option<mpsc::Receiver<String>>);

impl Typed {
    /// Whether somebody can answer here.
    pub(crate) fn possible(look: Look) -> bool {
        look.terminal && std::io::stdin().is_terminal()
    }

    /// The next line; never, where nobody types any more.
    pub(crate) async fn line(&mut self) -> String {
        let receiver = self.0.get_or_insert_with(|| {
            // One line at a time: what is typed ahead waits in the terminal.
            let (sender, receiver) = mpsc::channel(1);
            std::thread::spawn(move || {
                for line in std::io::stdin().lock().lines() {
                    let Ok(line) = line else { return };
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
            });
            receiver
        });
        match receiver.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_by_number_or_word() {
        assert_eq!(reply("y"), Some(AskAnswer::Once));
        assert_eq!(reply("2"), Some(AskAnswer::TenMinutes));
        assert_eq!(reply("no"), Some(AskAnswer::No));
        assert_eq!(reply("never"), Some(AskAnswer::Never));
        assert_eq!(reply("ten-minutes"), Some(AskAnswer::TenMinutes));
        for wrong in ["", "0", "7", "maybe"] {
            assert_eq!(reply(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_a_number_or_a_plain_yes_or_no() {
        let option = |id: &str, kind| PermissionOption { id: id.into(), name: id.into(), kind };
        let options = [
            option("always", PermissionKind::AllowAlways),
            option("once", PermissionKind::AllowOnce),
            option("no", PermissionKind::RejectOnce),
        ];
        let check = |typed: &str, expected: Option<&str>| {
            assert_eq!(
                chosen(&options, typed).map(|option| option.id.as_str()),
                expected,
                "{typed}"
            );
        };
        check("y", Some("once"));
        check("No", Some("no"));
        check("1", Some("always"));
        check("0", None);
        check("4", None);
        check("", None);
    }
}
