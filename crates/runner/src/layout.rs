//! Where things are in a workspace.

use crate::environment;

/// The folders that the runner knows. The defaults are those of a workspace; a test has its own.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The root of everything that is worked on.
    pub work: String,
    /// The worker's home.
    pub home: String,
    /// The mirror whose objects checkouts share.
    pub mirror: String,
    /// Where programs are looked for.
    pub path: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            work: "/work".into(),
            home: boatyard_sandbox::WORKER_HOME.into(),
            mirror: "/mirror".into(),
            path: environment::PATH.into(),
        }
    }
}

impl Layout {
    /// The part of `path` below the root of the work; none when it is not there. Both the
    /// absolute form and the relative one are understood.
    pub fn below_work<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = match path.strip_prefix(&*self.work) {
            Some("") => "",
            Some(rest) => rest.strip_prefix('/')?,
            None if path.starts_with('/') => return None,
            None => path,
        };
        let below = below.trim_end_matches('/');
        let plain = below.is_empty()
            || below
                .split('/')
                .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
        plain.then_some(below)
    }

    /// The folder of all homes: the worker's own, and those beside it.
    pub fn homes(&self) -> &str {
        self.home.rsplit_once('/').map_or("/home", |(above, _)| above)
    }

    /// Whether a process may be started in `path`: an absolute path below the work or a home.
    pub fn allows_cwd(&self, path: &str) -> bool {
        let plain = path.split('/').skip(1).all(|part| !matches!(part, "." | ".."));
        let below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        plain && !path.contains('\0') && (below(&self.work) || below(self.homes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_work_is_a_repository() {
        let layout = Layout::default();
        for (path, expected) in [
            ("repo", Some("repo")),
            ("/work/repo", Some("repo")),
            ("/work/a/b/", Some("a/b")),
            ("/work", Some("")),
            ("/workshop", None),
            ("/etc", None),
            ("../etc", None),
            ("a/../b", None),
            ("/work/./b", None),
        ] {
            assert_eq!(layout.below_work(path), expected, "{path}");
        }
    }

    #[test]
    fn processes_start_in_the_work_or_a_home() {
        let layout = Layout::default();
        for (path, expected) in [
            ("/work", true),
            ("/work/repo", true),
            ("/home/agent", true),
            ("/home/other/x", true),
            ("/homework", false),
            ("/work/../etc", false),
            ("/", false),
            ("work", false),
        ] {
            assert_eq!(layout.allows_cwd(path), expected, "{path}");
        }
    }
}
