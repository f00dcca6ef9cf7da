//! From http to https.

use axum::response::{IntoResponse as _, Response};
use boatyard_api::Problem;
use http::{HeaderValue, Method, StatusCode, Uri, header};

/// The longest address that is repeated, in bytes.
const ADDRESS_MAX: usize = 8 << 10;

/// Leads a request that came in the clear to the same place under `url`, which begins with
/// `https://` and has no slash at its end. What changes something is refused instead: it has told
/// everybody on the way what it carries, and somebody must hear of it.
///
/// # Errors
/// When it changes something.
pub(crate) fn to_https(url: &str, method: &Method, asked: &Uri) -> Result<Response, Problem> {
    if !method.is_safe() {
        let detail = "this server is to be reached over https, and this came over http";
        let next = format!("Use {url}; what was sent could be read on its way.");
        return Err(Problem::not_allowed(detail).with_next(next));
    }
    let path = asked.path_and_query().map_or("/", |path| path.as_str());
    // `//elsewhere` would be another host to some; ours has no such path.
    let path = if path.starts_with("//") || path.len() > ADDRESS_MAX { "/" } else { path };
    let to = HeaderValue::try_from(format!("{url}{path}")).map_err(Problem::internal)?;
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, to);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leads_to_the_same_place_on_our_own_host_only() {
        let to = |path: &str| {
            let uri = path.parse::<Uri>().unwrap();
            let response = to_https("https://boat.example.com", &Method::GET, &uri).unwrap();
            assert_eq!(response.status(), 308);
            response.headers()[header::LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(to("/tasks/x?y=1"), "https://boat.example.com/tasks/x?y=1");
        assert_eq!(to("http://evil.example/tasks"), "https://boat.example.com/tasks");
        assert_eq!(to("//evil.example/"), "https://boat.example.com/");
        let uri = Uri::from_static("/api/tasks");
        let problem = to_https("https://boat.example.com", &Method::POST, &uri).unwrap_err();
        assert_eq!(problem.status, 403);
    }
}
