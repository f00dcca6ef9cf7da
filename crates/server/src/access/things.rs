//! Rights to single things: tasks, workspaces, sessions, repositories.
//!
//! | who | may |
//! |---|---|
//! | owner or admin of the organization | manage |
//! | whose it is | manage; as a viewer, look |
//! | a member, visibility `open` | act |
//! | a member or viewer, visibility `open` or `visible` | look |
//! | who has a share as a member, and is one | act |
//! | who has a share | look |
//! | everybody else | nothing: it does not exist |
//!
//! What a member may do in a repository narrows all of that for what is worked on in it, and a
//! viewer never acts. Who may look and wants more is told so; for whom it does not exist, it is not
//! found.

use boatyard_api::{Problem, ProblemKind};
use boatyard_model::{
    RepositoryId, RepositoryRole, Role, SessionId, TaskId, Visibility, Wish, WorkspaceId,
    name::RepositorySource,
};
use boatyard_store::{
    FeedEntry, Owner, RepositoryRow, SessionRow, Standing, TaskRow, ThingId, Viewer, WorkspaceRow,
};

use crate::{
    app::App,
    auth::{Caller, Via},
    git::place::Place,
    operations::store_problem,
};

/// A thing that somebody wants something with.
#[derive(Debug, Clone)]
pub struct Thing {
    id: ThingId,
    owner: Owner,
    visibility: Visibility,
    /// What it belongs to: shares of these are shares of it.
    above: [Option<String>; 2],
    repository: Option<RepositoryId>,
    /// Where its repository is found, if it is not known.
    workspace: Option<WorkspaceId>,
}

impl From<&TaskRow> for Thing {
    fn from(row: &TaskRow) -> Self {
        Self {
            id: ThingId::Task(row.id),
            owner: row.owner,
            visibility: row.visibility,
            above: [None, None],
            repository: row.repository,
            workspace: None,
        }
    }
}

impl From<&WorkspaceRow> for Thing {
    fn from(row: &WorkspaceRow) -> Self {
        Self {
            id: ThingId::Workspace(row.id),
            owner: row.owner,
            visibility: row.visibility,
            above: [row.task.map(|id| id.to_string()), None],
            repository: row.repository,
            workspace: None,
        }
    }
}

impl From<&SessionRow> for Thing {
    fn from(row: &SessionRow) -> Self {
        Self {
            id: ThingId::Session(row.id),
            owner: row.owner,
            visibility: row.visibility,
            above: [Some(row.workspace.to_string()), row.task.map(|id| id.to_string())],
            repository: None,
            workspace: Some(row.workspace),
        }
    }
}

impl Thing {
    /// What it is.
    pub fn id(&self) -> ThingId {
        self.id
    }

    const fn kind(&self) -> &'static str {
        match self.id {
            ThingId::Task(_) => "task",
            ThingId::Workspace(_) => "workspace",
            ThingId::Session(_) => "session",
        }
    }

    /// As if it did not exist.
    fn missing(&self) -> Problem {
        Problem::not_found(self.kind(), self.id)
    }

    /// Its own id and those of what it belongs to.
    fn ids(&self) -> [Option<String>; 3] {
        let [above, top] = self.above.clone();
        [Some(self.id.to_string()), above, top]
    }
}

/// A thing by its id.
///
/// # Errors
/// When there is none.
pub async fn thing(app: &App, id: ThingId) -> Result<Thing, Problem> {
    let found = match id {
        ThingId::Task(id) => app.store.task_row(id).await.map(|row| Thing::from(&row)),
        ThingId::Workspace(id) => app.store.workspace(id).await.map(|row| Thing::from(&row)),
        ThingId::Session(id) => app.store.session(id).await.map(|row| Thing::from(&row)),
    };
    found.map_err(store_problem)
}

/// Whether a caller sees everything of the organization.
pub fn sees_all(caller: &Caller) -> bool {
    caller.role.includes(Role::Admin)
}

/// For whom lists leave out what is not theirs; none for those who see everything.
pub fn viewer(caller: &Caller) -> Option<Viewer> {
    let viewer = Viewer { member: caller.owner.member, person: caller.person };
    (!sees_all(caller)).then_some(viewer)
}

const fn rank(wish: Wish) -> u8 {
    match wish {
        Wish::Look => 0,
        Wish::Act => 1,
        Wish::Manage => 2,
    }
}

/// The most that a caller may do with a thing; none if it does not exist for that caller.
///
/// # Errors
/// When it can't be found out.
pub async fn right(app: &App, caller: &Caller, thing: &Thing) -> Result<Option<Wish>, Problem> {
    let theirs = caller.owner.organization == thing.owner.organization;
    if caller.via == Via::Server || theirs && sees_all(caller) {
        return Ok(Some(Wish::Manage));
    }
    if let Via::Guest(share) = caller.via {
        let share = app.store.good_share(share).await.map_err(store_problem)?;
        let is_shared = share.is_some_and(|share| thing.ids().contains(&Some(share.subject)));
        return Ok(is_shared.then_some(Wish::Look));
    }
    let viewer = Viewer { member: caller.owner.member, person: caller.person };
    let standing = app.store.standing(viewer, thing.ids(), thing.repository, thing.workspace);
    let standing = standing.await.map_err(store_problem)?;
    Ok(judged(caller, thing, standing))
}

/// The right that follows from what is known.
fn judged(caller: &Caller, thing: &Thing, standing: Standing) -> Option<Wish> {
    if caller.owner.organization != thing.owner.organization {
        // From outside, a share lets one look and no more.
        return standing.shared.map(|_| Wish::Look);
    }
    let role = standing.narrowed.unwrap_or(RepositoryRole::Member).narrow(caller.role)?;
    let acts = role.includes(Role::Member);
    if role.includes(Role::Admin) || acts && caller.owner.member == thing.owner.member {
        Some(Wish::Manage)
    } else if acts
        && (thing.visibility == Visibility::Open || standing.shared == Some(Role::Member))
    {
        Some(Wish::Act)
    } else if thing.visibility != Visibility::Private
        || standing.shared.is_some()
        || caller.owner.member == thing.owner.member
    {
        Some(Wish::Look)
    } else {
        None
    }
}

/// Refuses a caller who may not do this with a thing.
///
/// # Errors
/// Not found for whom it does not exist, not allowed for who may do less.
pub async fn check(
    app: &App,
    caller: &Caller,
    thing: impl Into<Thing>,
    wish: Wish,
) -> Result<(), Problem> {
    let thing = thing.into();
    match right(app, caller, &thing).await? {
        None => Err(thing.missing()),
        Some(right) if rank(right) >= rank(wish) => Ok(()),
        Some(right) => Err(refused(caller, &thing, right, wish)),
    }
}

fn refused(caller: &Caller, thing: &Thing, right: Wish, wish: Wish) -> Problem {
    let kind = thing.kind();
    let detail = match (right, wish) {
        (Wish::Look, Wish::Act) => format!("you may look at this {kind}, and not act in it"),
        (Wish::Look, _) => format!("you may look at this {kind}, and not decide about it"),
        _ => format!("you may act in this {kind}, and not decide about it"),
    };
    let next = if caller.role.includes(Role::Member) {
        format!("Ask whose {kind} it is to open or share it, or an admin.")
    } else {
        "Ask an admin of the organization for the role `member`.".to_owned()
    };
    Problem::new(ProblemKind::NotAllowed, detail).with_next(next)
}

/// Refuses a caller who may not do this with a repository: to look, to work in it, or to decide
/// about it.
///
/// # Errors
/// Not found for whom it does not exist, not allowed for who may do less.
pub async fn repository(
    app: &App,
    caller: &Caller,
    row: &RepositoryRow,
    wish: Wish,
) -> Result<(), Problem> {
    if caller.via == Via::Server {
        return Ok(());
    }
    let missing = || Problem::not_found("repository", row.id);
    if caller.owner.organization != row.owner.organization {
        return Err(missing());
    }
    if sees_all(caller) {
        return Ok(());
    }
    let named = app.store.repository_role(row.id, caller.owner.member).await;
    let named = named.map_err(store_problem)?.unwrap_or(RepositoryRole::Member);
    let there = match RepositorySource::parse(&row.source, default_host(app)) {
        Ok(source) => at_address(app, caller, &source).await?,
        Err(_) => Some(caller.role),
    };
    let role = there.and_then(|role| named.narrow(role)).ok_or_else(missing)?;
    let may = match wish {
        Wish::Look => true,
        Wish::Act => role.includes(Role::Member),
        Wish::Manage => role.includes(Role::Admin),
    };
    if may {
        return Ok(());
    }
    let detail = format!("your role in this repository is `{role}`, which is not enough for this");
    Err(Problem::new(ProblemKind::NotAllowed, detail)
        .with_next("Ask an admin of the organization."))
}

fn default_host(app: &App) -> &str {
    &app.settings.repositories.default_host
}

/// What a caller may do in the repository at an address, however it is written: by https or ssh,
/// with or without `.git`, in small or large letters, it is the same one, and what it is narrowed
/// to under one spelling holds for all. None if it does not exist for that caller.
///
/// # Errors
/// When it can't be found out.
pub async fn at_address(
    app: &App,
    caller: &Caller,
    source: &RepositorySource,
) -> Result<Option<Role>, Problem> {
    let Some(place) = Place::of_source(source).filter(|_| !sees_all(caller)) else {
        return Ok(Some(caller.role));
    };
    let mut role = Some(caller.role);
    let narrowed = app.store.narrowed_repositories(caller.owner.organization).await;
    for row in narrowed.map_err(store_problem)? {
        let other = RepositorySource::parse(&row.source, default_host(app)).ok();
        let other = other.as_ref().and_then(Place::of_source);
        if other.is_some_and(|other| other.as_str().eq_ignore_ascii_case(place.as_str())) {
            let named = app.store.repository_role(row.id, caller.owner.member).await;
            let named = named.map_err(store_problem)?.unwrap_or(RepositoryRole::Member);
            role = role.and_then(|role| named.narrow(role));
        }
    }
    Ok(role)
}

/// Which entries of the feed somebody may see: those about a thing, if it exists for them.
pub fn sees(app: App, caller: Caller) -> crate::sse::Sees<FeedEntry> {
    std::sync::Arc::new(move |entry: FeedEntry| {
        let (app, caller) = (app.clone(), caller.clone());
        Box::pin(async move { may_see(&app, &caller, &entry).await })
    })
}

/// What an entry of the feed is about.
#[derive(serde::Deserialize)]
struct Told {
    task: Option<TaskId>,
    session: Option<SessionId>,
    workspace: Option<WorkspaceId>,
}

async fn may_see(app: &App, caller: &Caller, entry: &FeedEntry) -> Result<bool, Problem> {
    let told: Told = serde_json::from_str(&entry.json).map_err(Problem::internal)?;
    let about = [
        told.session.map(ThingId::Session),
        told.workspace.map(ThingId::Workspace),
        told.task.map(ThingId::Task),
    ];
    let Some(id) = about.into_iter().flatten().next() else { return Ok(true) };
    match thing(app, id).await {
        Ok(thing) => Ok(right(app, caller, &thing).await?.is_some()),
        // What it was about is gone.
        Err(problem) if problem.status == 404 => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// Refuses who may not act as this role in the organization, for what only some of an operation
/// asks for.
///
/// # Errors
/// Not allowed.
pub fn role(caller: &Caller, needed: Role, what: &str, next: &str) -> Result<(), Problem> {
    if caller.role.includes(needed) {
        return Ok(());
    }
    let detail = format!("{what} needs the role `{needed}`; yours is `{}`", caller.role);
    Err(Problem::new(ProblemKind::NotAllowed, detail).with_next(next.to_owned()))
}

#[cfg(test)]
mod tests {
    use boatyard_model::{MemberId, OrganizationId, Scopes, TaskId};

    use super::*;

    const OURS: OrganizationId = OrganizationId::from_u128(7);

    fn caller(role: Role, member: u128) -> Caller {
        Caller {
            owner: Owner { organization: OURS, member: MemberId::from_u128(member) },
            role,
            scopes: Scopes::ALL,
            via: Via::Key(boatyard_model::KeyId::from_u128(1)),
            ..Caller::server()
        }
    }

    fn thing(visibility: Visibility) -> Thing {
        Thing {
            id: ThingId::Task(TaskId::from_u128(1)),
            owner: Owner { organization: OURS, member: MemberId::from_u128(1) },
            visibility,
            above: [None, None],
            repository: None,
            workspace: None,
        }
    }

    #[test]
    fn what_one_may_follows_from_role_visibility_share_and_repository() {
        use Role::{Admin, Member, Owner as Chief, Viewer as Looker};
        use Visibility::{Open, Private, Visible};
        use Wish::{Act, Look, Manage};
        let mine = 1;
        let another = 2;
        let none = Standing::default();
        let shared = |role| Standing { shared: Some(role), narrowed: None };
        let narrowed = |role| Standing { shared: None, narrowed: Some(role) };
        for (role, member, visibility, standing, expected) in [
            (Chief, another, Private, none, Some(Manage)),
            (Admin, another, Private, none, Some(Manage)),
            (Admin, another, Private, narrowed(RepositoryRole::None), Some(Manage)),
            (Member, mine, Private, none, Some(Manage)),
            (Looker, mine, Private, none, Some(Look)),
            (Member, another, Private, none, None),
            (Looker, another, Private, none, None),
            (Member, another, Visible, none, Some(Look)),
            (Looker, another, Visible, none, Some(Look)),
            (Member, another, Open, none, Some(Act)),
            (Looker, another, Open, none, Some(Look)),
            (Member, another, Private, shared(Looker), Some(Look)),
            (Member, another, Private, shared(Member), Some(Act)),
            (Looker, another, Private, shared(Member), Some(Look)),
            (Member, mine, Open, narrowed(RepositoryRole::None), None),
            (Member, mine, Open, narrowed(RepositoryRole::Viewer), Some(Look)),
            (Member, another, Open, narrowed(RepositoryRole::Member), Some(Act)),
        ] {
            let found = judged(&caller(role, member), &thing(visibility), standing);
            assert_eq!(found, expected, "{role} {member} {visibility} {standing:?}");
        }
        let outside = Caller {
            owner: Owner { organization: OrganizationId::from_u128(8), ..caller(Chief, 1).owner },
            ..caller(Chief, 1)
        };
        assert_eq!(judged(&outside, &thing(Open), none), None);
        assert_eq!(judged(&outside, &thing(Open), shared(Member)), Some(Look));
    }
}
