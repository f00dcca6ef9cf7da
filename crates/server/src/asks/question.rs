//! The words of a question: what makes two requests the same, and what a lasting answer is for.

use boatyard_egress::policy::Question;
use boatyard_model::Timestamp;
use boatyard_store::NewAsk;

use super::PATH;

/// Letters and digits from which on a part of a path is taken for an id: shorter ones are words.
const ID: usize = 16;

/// What is asked about a request.
pub(super) fn ask(question: &Question, deadline: Timestamp) -> NewAsk {
    let method = question.method.as_ref().map(ToString::to_string);
    let path = question.path.as_deref().map(cut);
    let shape = question.path.as_deref().map(shape);
    let kind = question.path.as_deref().map(kind);
    let host = question.target.host.to_string();
    let port = question.target.port;
    let words = [
        method.as_deref().unwrap_or("CONNECT"),
        &host,
        &port.to_string(),
        kind.as_deref().unwrap_or(""),
        question.credential.as_deref().unwrap_or(""),
    ]
    .join(" ");
    NewAsk {
        workspace: question.workspace,
        question: words,
        method,
        host,
        port,
        path,
        shape,
        rule: question.rule.to_string(),
        credential: question.credential.as_deref().map(str::to_owned),
        program: None,
        deadline,
    }
}

fn cut(path: &str) -> String {
    path[..path.floor_char_boundary(PATH)].to_owned()
}

/// The paths that differ in an id only: `/repos/7/issues` is one of `/repos/*`. One without an id,
/// or whose first part is one, stands for itself: what begins with `/` is everything.
fn shape(path: &str) -> String {
    let path = cut(path);
    let mut before = 0;
    for part in path.split('/') {
        if before > 1 && is_id(part) {
            return format!("{}*", &path[..before]);
        }
        before += part.len() + 1;
    }
    path
}

/// The path with `*` for each of its ids: what one answer is for. `/repos/7/issues` and
/// `/repos/7/keys` are two questions, although a lasting answer to one is about all of `/repos/*`:
/// who says yes to what is shown has not seen the other.
fn kind(path: &str) -> String {
    // As a whole: two paths that begin alike are not the same for being long.
    let parts = path.split('/').map(|part| if is_id(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether a part of a path is a number, or long and random: another request has another one.
fn is_id(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let is_number = !part.is_empty() && digits == part.len();
    let is_random = part.len() >= ID
        && digits >= 4
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    is_number || is_random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_differ_in_an_id_have_one_shape() {
        let check = |path: &str, expected: &str| assert_eq!(shape(path), expected, "{path}");
        check("/", "/");
        check("/v1/messages", "/v1/messages");
        check("/repos/7/issues", "/repos/*");
        check("/repos/7", "/repos/*");
        check("/7", "/7");
        check("/7/8", "/7/*");
        check("/a/0190f3c2-77a1-7b3e-9d55-1c2f3a4b5c6d/b", "/a/*");
        check("/a/v2.10.4/b", "/a/v2.10.4/b");
        check("/a/a-long-name-of-words", "/a/a-long-name-of-words");
        check("", "");
    }

    #[test]
    fn what_is_not_shown_is_another_question() {
        let check = |path: &str, expected: &str| assert_eq!(kind(path), expected, "{path}");
        check("/repos/7/issues", "/repos/*/issues");
        check("/repos/8/issues", "/repos/*/issues");
        check("/repos/7/keys", "/repos/*/keys");
        check("/7", "/*");
        check("/", "/");
        check("", "");
        let long = format!("/{}", "a".repeat(PATH));
        assert_ne!(kind(&format!("{long}/read")), kind(&format!("{long}/delete")));
    }
}
