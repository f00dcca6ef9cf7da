//! A provider as it was set up, looked over.

use boatyard_api::sign_in::{ProviderKind, ProviderName, ProviderSettings};
use boatyard_model::{OrganizationId, Role};
use url::Url;

/// Where Google says who somebody is.
const GOOGLE: &str = "https://accounts.google.com";
/// Where GitHub is, for all who have no server of their own.
pub(crate) const GITHUB: &str = "https://github.com";
/// The longest text of a provider, in bytes.
const TEXT_MAX: usize = 500;
/// The most scopes, or groups, of a provider.
const LIST_MAX: usize = 200;

/// What a group is in an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// As the provider calls it.
    pub(crate) group: String,
    /// What its people are.
    pub(crate) role: Role,
    /// Where; in the first organization, if not said.
    pub(crate) organization: Place,
}

/// Which organization is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one that the server began with.
    First,
    /// This one.
    Id(OrganizationId),
    /// The one of this name.
    Named(String),
}

/// What follows from a provider's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// Where it is, without a slash at the end.
    pub(crate) issuer: String,
    /// What the button says.
    pub(crate) label: String,
    /// What its groups are.
    pub(crate) grants: Vec<Grant>,
}

/// Why settings can't be taken: the field, and a sentence.
pub(crate) type Wrong = (&'static str, String);

/// Looks over the settings of a provider of this name.
///
/// # Errors
/// The first field that is wrong.
pub(crate) fn compile(name: &str, settings: &ProviderSettings) -> Result<Compiled, Wrong> {
    name.parse::<ProviderName>().map_err(|reason| ("name", reason))?;
    let texts = [
        ("client_id", Some(&settings.client_id)),
        ("label", settings.label.as_ref()),
        ("issuer", settings.issuer.as_ref()),
        ("groups_claim", settings.groups_claim.as_ref()),
    ];
    for (field, text) in texts {
        let Some(text) = text else { continue };
        if text.trim().is_empty() {
            return Err((field, "it is empty".to_owned()));
        }
        if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
            return Err((field, format!("it is longer than {TEXT_MAX} bytes, or has line breaks")));
        }
    }
    let lists = [("scopes", &settings.scopes), ("groups", &settings.groups)];
    if let Some((field, _)) = lists.iter().find(|(_, list)| list.len() > LIST_MAX) {
        return Err((field, format!("there are more than {LIST_MAX}")));
    }
    let is_scope = |scope: &String| {
        !scope.is_empty()
            && scope.len() <= TEXT_MAX
            && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    if !settings.scopes.iter().all(is_scope) {
        return Err(("scopes", "a scope is one word of printable characters".to_owned()));
    }
    let grants: Result<Vec<_>, String> = settings.groups.iter().map(|text| grant(text)).collect();
    Ok(Compiled {
        issuer: issuer(settings)?,
        label: label(name, settings),
        grants: grants.map_err(|reason| ("groups", reason))?,
    })
}

fn label(name: &str, settings: &ProviderSettings) -> String {
    match (&settings.label, settings.kind) {
        (Some(label), _) => label.trim().to_owned(),
        (None, ProviderKind::Google) => "Google".to_owned(),
        (None, ProviderKind::Github) => "GitHub".to_owned(),
        (None, ProviderKind::Oidc) => name.to_owned(),
    }
}

fn issuer(settings: &ProviderSettings) -> Result<String, Wrong> {
    let wrong = |reason: &str| Err(("issuer", reason.to_owned()));
    let text = match (settings.kind, settings.issuer.as_deref()) {
        (ProviderKind::Google, None) => return Ok(GOOGLE.to_owned()),
        (ProviderKind::Github, None) => return Ok(GITHUB.to_owned()),
        (ProviderKind::Google, Some(GOOGLE)) => return Ok(GOOGLE.to_owned()),
        (ProviderKind::Google, Some(_)) => {
            return wrong("Google is at an address of its own; use the kind `oidc` for another");
        }
        (ProviderKind::Oidc, None) => {
            return wrong("it needs its issuer, as `https://id.example.com/realms/team`");
        }
        (_, Some(text)) => text.trim(),
    };
    let Ok(url) = Url::parse(text) else { return wrong("it is no address") };
    if url.scheme() != "https" {
        return wrong("it must begin with `https://`: who one is does not go unencrypted");
    }
    if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
        return wrong("it is `https://HOST`, without a user");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("it has no `?` and no `#`");
    }
    // An issuer is compared letter by letter with what the provider calls itself; GitHub's is ours.
    let is_github = settings.kind == ProviderKind::Github;
    Ok(if is_github { text.trim_end_matches('/').to_owned() } else { text.to_owned() })
}

/// `GROUP=ROLE` or `GROUP=ROLE@ORGANIZATION`. The group may hold any character, so that the last
/// `=` counts.
fn grant(text: &str) -> Result<Grant, String> {
    let shown: String = text.chars().take(100).collect();
    let form = || format!("`{shown}` is not GROUP=ROLE or GROUP=ROLE@ORGANIZATION");
    let (group, rest) = text.rsplit_once('=').ok_or_else(form)?;
    let (role, place) = match rest.split_once('@') {
        Some((role, place)) => (role.trim(), Some(place.trim())),
        None => (rest.trim(), None),
    };
    let group = group.trim();
    if group.is_empty() || place == Some("") || group.len() > TEXT_MAX {
        return Err(form());
    }
    let role = role
        .parse::<Role>()
        .map_err(|_| format!("`{shown}`: a role is `viewer`, `member`, `admin` or `owner`"))?;
    let organization = match place {
        None => Place::First,
        Some(id) if id.starts_with("org_") => {
            Place::Id(id.parse().map_err(|error| format!("`{shown}`: {error}"))?)
        }
        Some(name) => Place::Named(name.to_owned()),
    };
    Ok(Grant { group: group.to_owned(), role, organization })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: ProviderKind) -> ProviderSettings {
        ProviderSettings {
            kind,
            label: None,
            issuer: None,
            client_id: "boatyard".to_owned(),
            scopes: Vec::new(),
            groups_claim: None,
            groups: Vec::new(),
            trust_email: false,
            enabled: true,
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let check = |change: &dyn Fn(&mut ProviderSettings), field: &str, says: &str| {
            let mut wanted = settings(ProviderKind::Oidc);
            wanted.issuer = Some("https://id.example.com".to_owned());
            change(&mut wanted);
            let (at, reason) = compile("team", &wanted).unwrap_err();
            assert_eq!(at, field, "{reason}");
            assert!(reason.contains(says), "{reason}");
        };
        let issuer = |text: &'static str| {
            move |settings: &mut ProviderSettings| settings.issuer = Some(text.to_owned())
        };
        check(&|s| s.issuer = None, "issuer", "needs its issuer");
        check(&issuer("http://id.example.com"), "issuer", "https://");
        check(&issuer("id.example.com"), "issuer", "no address");
        check(&issuer("https://a:b@id.example.com"), "issuer", "without a user");
        check(&issuer("https://id.example.com/?x"), "issuer", "no `?`");
        check(&|s| s.client_id.clear(), "client_id", "empty");
        check(&|s| s.scopes = vec!["a b".to_owned()], "scopes", "one word");
        check(&|s| s.groups = vec!["admins".to_owned()], "groups", "GROUP=ROLE");
        check(&|s| s.groups = vec!["admins=king".to_owned()], "groups", "a role is");
        check(&|s| s.groups = vec!["admins=admin@".to_owned()], "groups", "GROUP=ROLE");
        check(&|s| s.groups = vec!["a=admin@org_x".to_owned()], "groups", "org_x");
        check(&|s| s.groups = vec!["a=admin".to_owned(); 201], "groups", "more than");
        for name in ["", "Team", "a b", "-a", "a/b", &"a".repeat(41)] {
            assert_eq!(compile(name, &settings(ProviderKind::Github)).unwrap_err().0, "name");
        }
    }

    #[test]
    fn kinds_know_where_they_are() {
        let google = compile("g", &settings(ProviderKind::Google)).unwrap();
        assert_eq!((&*google.issuer, &*google.label), (GOOGLE, "Google"));
        let mut github = settings(ProviderKind::Github);
        github.issuer = Some("https://git.example.com/".to_owned());
        assert_eq!(compile("g", &github).unwrap().issuer, "https://git.example.com");
    }

    #[test]
    fn a_group_may_hold_any_character() {
        let id = OrganizationId::new();
        let grants = [
            ("admins=admin", "admins", Role::Admin, Place::First),
            ("cn=a,dc=b = viewer", "cn=a,dc=b", Role::Viewer, Place::First),
            ("acme/core=owner@Core", "acme/core", Role::Owner, Place::Named("Core".to_owned())),
        ];
        for (text, group, role, organization) in grants {
            let expected = Grant { group: group.to_owned(), role, organization };
            assert_eq!(grant(text), Ok(expected));
        }
        assert_eq!(grant(&format!("a=member@{id}")).unwrap().organization, Place::Id(id));
    }
}
