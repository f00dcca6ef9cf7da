//! What `git ls-remote --symref` says a source has.

use std::collections::BTreeSet;

use boatyard_model::name::Branch;

/// Branches and tags of a listing with what they point to, in any order. What a tag points to in
/// turn is left out.
pub(super) fn listed(listing: &str) -> BTreeSet<&str> {
    let is_ours = |line: &&str| {
        line.split_once('\t').is_some_and(|(_, name)| {
            (name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
                && !name.ends_with("^{}")
        })
    };
    listing.lines().filter(is_ours).collect()
}

/// The default branch: `ref: refs/heads/main\tHEAD`.
pub(super) fn symref(listing: &str) -> Option<Branch> {
    listing
        .lines()
        .find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"))
        .and_then(|name| name.parse().ok())
}

/// Why there is no base, and what there is to choose from.
pub(super) fn no_base(wanted: Option<&str>, heads: &[&str]) -> String {
    let shown: Vec<&str> = heads.iter().copied().take(10).collect();
    let there = match heads.len() {
        0 => "the repository has no branch".to_owned(),
        n if n > shown.len() => {
            format!("there are {} and {} more", shown.join(", "), n - shown.len())
        }
        _ => format!("there is {}", shown.join(", ")),
    };
    match wanted {
        Some(wanted) => format!("the repository has no branch, tag or commit `{wanted}`; {there}"),
        None => format!("the repository's default branch does not exist; name a base: {there}"),
    }
}
