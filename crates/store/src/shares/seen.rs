//! Lists without what is not somebody's to see, filtered by the statement that reads them.

use super::Viewer;

/// Which rows of a list a viewer may see: `AND (…)` with three parameters from `first` on, the
/// member, the holder and the time. Empty for those who may see all.
pub(crate) fn seen(viewer: Option<Viewer>, of: Listed, first: u32) -> String {
    if viewer.is_none() {
        return String::new();
    }
    let (member, holder, now) =
        (format!("${first}"), format!("${}", first + 1), format!("${}", first + 2));
    let granted = format!(
        "(SELECT share_grant.subject FROM share_grant JOIN share ON share.id = share_grant.share
          WHERE share_grant.holder = {holder} AND share.revoked IS NULL AND share.expires > {now}
            AND NOT EXISTS (SELECT 1 FROM member
                WHERE member.id = share.owner AND member.removed IS NOT NULL))"
    );
    let kept_from = |repository: &str| {
        format!(
            "COALESCE(
                (SELECT role FROM repository_role WHERE repository = {repository}
                    AND member = {member}),
                (SELECT role FROM repository_role WHERE repository = {repository}
                    AND member = ''), '') = 'none'"
        )
    };
    let theirs = |row: &str, ids: &[&str]| {
        let shared: Vec<String> = ids.iter().map(|id| format!("{row}.{id} IN {granted}")).collect();
        format!(
            "({row}.visibility <> 'private' OR {row}.owner = {member} OR {})",
            shared.join(" OR ")
        )
    };
    let workspace = || {
        format!(
            "{} AND NOT {}",
            theirs("workspace", &["id", "task"]),
            kept_from("workspace.repository")
        )
    };
    match of {
        Listed::Tasks => {
            format!(" AND {} AND NOT {}", theirs("task", &["id"]), kept_from("task.repository"))
        }
        Listed::Workspaces => format!(" AND {}", workspace()),
        Listed::Sessions => format!(
            " AND {} AND NOT EXISTS (SELECT 1 FROM workspace
                WHERE workspace.id = session_seen.workspace AND {})",
            theirs("session_seen", &["id", "workspace", "task"]),
            kept_from("workspace.repository")
        ),
        Listed::InWorkspaces(column) => {
            format!(" AND {column} IN (SELECT workspace.id FROM workspace WHERE {})", workspace())
        }
        Listed::Repositories => format!(" AND NOT {}", kept_from("repository.id")),
    }
}

/// What a list is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Listed {
    /// Rows of `task`.
    Tasks,
    /// Rows of `workspace`.
    Workspaces,
    /// Rows of `session_seen`.
    Sessions,
    /// Rows of anything that names a workspace in this column.
    InWorkspaces(&'static str),
    /// Rows of `repository`.
    Repositories,
}
