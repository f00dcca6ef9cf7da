//! `docs/roles.md`, written from the [table](super::table): what is documented is what is checked.

use std::fmt::Write as _;

use boatyard_model::{Role, Scope};

use super::{Audit, Entry, Need, table::TABLE};

/// What stands before the tables.
const HEAD: &str = "# Roles and scopes

<!-- Written from the table that the server checks by: crates/server/src/access/table.rs.
     `BOATYARD_UPDATE=1 cargo test -p boatyard-server --lib roles` writes it anew. -->

Who asks is checked twice. First the operation: has the caller the role in the organization, and has \
the key the scope? That is one table, below; the server looks each request up in it before it reads \
anything of it, and refuses what is not in it. Then the thing: whose is it, and who may see it?

## Roles

| role | may |
|---|---|
| `viewer` | look at everything that is not private, and change nothing: no prompt, no answer, no stop, no command |
| `member` | give orders, work with agents, share what is theirs |
| `admin` | decide on people, rules, credentials and limits; sees what is private |
| `owner` | decide on the organization itself |

Each includes the one before. A role in a single repository can only be less: `none` (it does not \
exist), `viewer` or `member`; admins and owners are not narrowed. An **operator** is a person who \
may run the server itself; the first owner is one.

## Tasks, workspaces, sessions

Each has an owner and a visibility: `private`, `visible` (the default) or `open`. It is given when \
it is made (`--visibility`), else it is that of what it belongs to: a session's of its workspace, a \
workspace's of its task, a task's of the organization (`boatyard share default`). To change it \
changes it for all that belongs to it.

| who | may |
|---|---|
| an admin or owner of the organization | everything |
| whose it is | everything; as a viewer, look |
| a member, if it is `open` | act: prompts, answers, stop, commands, files |
| a member or viewer, if it is `open` or `visible` | look |
| who took a share as `member`, and is a member of the organization | act |
| who took any share | look |
| everybody else | nothing: it is not found |

To decide about it (visibility, name, shares, its end, its own rules of egress) takes its owner or \
an admin. Lists, the feed and logs leave out what one may not see.

## Shares

`boatyard share create ID` makes a link to a task (with its workspaces and sessions), a workspace \
(with its sessions) or a session: as `viewer` or `member`, with an end (a week, if nobody says), \
and with a number of uses. What it gave lasts as long as the share: it is over when the share ends, \
is taken back (`boatyard share revoke`), or when who made it is removed from the organization. \
With `--guests` people without an account may look, too, each browser that opened the link by a \
cookie of its own. People of other organizations only ever look.

## Streams

A stream (a session's events, the feed, the output of a command) lasts as long as the right to it. \
When a key is revoked or its time is over, a browser is signed out, a role or a visibility changes, \
or a share ends, the stream says so in a last event `closed` with the reason, and ends.

## Operations

*Role* is the least that is needed. *known* is whoever is signed in or has a key: it is about \
oneself, or judged thing by thing. *anybody* needs nothing. *Scope* is what a key must be for; a \
browser in which somebody is signed in has them all. Operations with a ◦ are open to guests of a \
share, for what it shares. Those with a • are written to the audit log.
";

/// The document.
pub(super) fn roles() -> String {
    let mut text = HEAD.to_owned();
    let mut part = "";
    for entry in TABLE {
        let name = part_of(entry.path);
        if name != part {
            part = name;
            // Writing to a string can't fail.
            let _ = write!(
                text,
                "\n### {part}\n\n| operation | request | role | scope |  |\n|---|---|---|---|---|\n"
            );
        }
        let (method, path, operation) = (entry.method, entry.path, entry.operation);
        let (role, scope, marks) = (role(entry), scope(entry), marks(entry));
        let _ =
            writeln!(text, "| `{operation}` | `{method} {path}` | {role} | {scope} | {marks} |");
    }
    let _ = write!(text, "\n## Scopes\n\n| scope | operations |\n|---|---|\n");
    for scope in Scope::ALL {
        let names: Vec<String> = TABLE
            .iter()
            .filter(|entry| entry.scope == *scope && asks_for_scope(entry))
            .map(|entry| format!("`{}`", entry.operation))
            .collect();
        let _ = writeln!(text, "| `{scope}` | {} |", names.join(", "));
    }
    text
}

/// `tasks` of `/api/tasks/{id}`; what is no part of the API stands first.
fn part_of(path: &str) -> &str {
    match path.strip_prefix("/api/") {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => "beside the API",
    }
}

const fn asks_for_scope(entry: &Entry) -> bool {
    !matches!(entry.need, Need::Open | Need::Oneself)
}

fn role(entry: &Entry) -> &'static str {
    match entry.need {
        Need::Open => "anybody",
        Need::Oneself | Need::Known => "known",
        Need::Role(Role::Viewer) => "viewer",
        Need::Role(Role::Member) => "member",
        Need::Role(Role::Admin) => "admin",
        Need::Role(Role::Owner) => "owner",
        Need::Operator => "operator",
    }
}

fn scope(entry: &Entry) -> String {
    if asks_for_scope(entry) { format!("`{}`", entry.scope) } else { String::new() }
}

fn marks(entry: &Entry) -> String {
    let guests = entry.is_for_guests() && entry.need != Need::Open;
    let audited = entry.audit != Audit::None;
    [(guests, "◦"), (audited, "•")]
        .iter()
        .filter_map(|(is, mark)| is.then_some(*mark))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_of_roles_is_that_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/roles.md");
        let now = roles();
        if std::env::var_os("BOATYARD_UPDATE").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let hint = "run `BOATYARD_UPDATE=1 cargo test -p boatyard-server --lib roles`";
        assert!(there == now, "docs/roles.md is not what the table says; {hint}");
    }
}
