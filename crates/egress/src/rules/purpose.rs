//! What a request to a git repository over smart HTTP is for.
//!
//! | request | for |
//! |---|---|
//! | `GET …/info/refs?service=git-upload-pack`, `POST …/git-upload-pack` | fetch |
//! | `GET …/info/refs?service=git-receive-pack`, `POST …/git-receive-pack` | push |
//!
//! The older protocol without a service, which reads a repository file by file, is neither.

use http::Method;

use super::{
    Purpose, Reading,
    path::{is_ambiguous, plain},
};

/// The program on the other side that does it.
const fn service(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::GitFetch => "git-upload-pack",
        Purpose::GitPush => "git-receive-pack",
    }
}

/// Whether a request is for this.
pub(super) fn is_for(
    purpose: Purpose,
    method: &Method,
    path: &str,
    query: Option<&str>,
    reading: Reading,
) -> bool {
    let service = service(purpose);
    match reading {
        Reading::Narrow => {
            !is_ambiguous(path)
                && match *method {
                    Method::GET => {
                        path.ends_with("/info/refs")
                            && query.and_then(|query| query.strip_prefix("service="))
                                == Some(service)
                    }
                    Method::POST => path
                        .strip_suffix(service)
                        .is_some_and(|before| before.len() > 1 && before.ends_with('/')),
                    _ => false,
                }
        }
        Reading::Wide => {
            let path_read = plain(path);
            is_ambiguous(path)
                || path_read.ends_with(service)
                || (path_read.ends_with("/info/refs")
                    && query.is_some_and(|query| plain(query).contains(service)))
        }
    }
}
