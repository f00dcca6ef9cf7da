//! The head of a request: values put in, placeholders that are left.

use std::sync::Arc;

use http::{Uri, header, request, uri::PathAndQuery};
use zeroize::Zeroizing;

use super::{Echo, Placeholders, place, placeholder};
use crate::{
    gateway::Secret,
    policy::{Binding, Policy},
};

/// The text of a head in which placeholders are looked for.
pub(super) struct Seen(Zeroizing<Vec<u8>>);

impl Seen {
    pub(super) fn of(head: &request::Parts) -> Self {
        let mut text = Zeroizing::new(head.uri.query().unwrap_or_default().as_bytes().to_vec());
        for value in head.headers.values() {
            text.push(0);
            text.extend_from_slice(value.as_bytes());
        }
        for value in head.headers.get_all(header::AUTHORIZATION) {
            let Some((user, password)) = place::basic(value) else { continue };
            for part in [user, password] {
                text.push(0);
                text.extend_from_slice(part.as_bytes());
            }
        }
        Self(text)
    }

    pub(super) fn holds(&self, placeholder: &str) -> bool {
        memchr::memmem::find(&self.0, placeholder.as_bytes()).is_some()
    }
}

/// Puts a value in wherever its placeholder stands as a place of it wants: whether it does anywhere.
pub(super) fn swap(
    head: &mut request::Parts,
    binding: &Binding,
    value: &Secret,
    echo: &mut Echo,
) -> bool {
    let (placeholder, value) = (&*binding.placeholder, value.expose());
    let mut is_swapped = false;
    for (name, sent) in &mut head.headers {
        let places = binding.places.iter();
        let swapped = { places }.find_map(|p| p.in_header(name, sent, placeholder, value));
        if let Some(swapped) = swapped {
            *sent = swapped.header;
            swapped.form.iter().for_each(|form| echo.paint(form));
            is_swapped = true;
        }
    }
    let query = head.uri.query().and_then(|query| {
        binding.places.iter().find_map(|place| place.in_query(query, placeholder, value))
    });
    if let Some(uri) = query.and_then(|query| with_query(&head.uri, &query)) {
        head.uri = uri;
        echo.paint(&place::in_query(value));
        is_swapped = true;
    }
    is_swapped
}

/// Puts a value into a request that brings none: whether it did.
pub(super) fn add(
    head: &mut request::Parts,
    binding: &Binding,
    value: &Secret,
    echo: &mut Echo,
) -> bool {
    let own = binding.places.iter().find_map(|place| place.own_header(value.expose()));
    let Some((name, swapped)) = own.filter(|(name, _)| !head.headers.contains_key(name)) else {
        return false;
    };
    head.headers.insert(name, swapped.header);
    swapped.form.iter().for_each(|form| echo.paint(form));
    true
}

fn with_query(uri: &Uri, query: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let path = format!("{}?{query}", uri.path()).parse::<PathAndQuery>().ok()?;
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

/// Where in a head a placeholder is left, and of which credential, if it is one of the workspace's.
pub(super) fn left<'p>(
    head: &request::Parts,
    policy: &'p Policy,
    placeholders: Option<&Placeholders>,
) -> Option<(Option<&'p Arc<Binding>>, &'static str)> {
    let look = |text: &[u8]| {
        placeholder::first(text, placeholders).map(|_| {
            let holds = |binding: &&Arc<Binding>| {
                memchr::memmem::find(text, binding.placeholder.as_bytes()).is_some()
            };
            policy.bindings().iter().find(holds)
        })
    };
    if let Some(whose) = look(head.uri.path().as_bytes()) {
        return Some((whose, "path"));
    }
    if let Some(whose) = look(head.uri.query().unwrap_or_default().as_bytes()) {
        return Some((whose, "query"));
    }
    head.headers.iter().find_map(|(name, value)| {
        let whose =
            look(value.as_bytes()).or_else(|| look(name.as_str().as_bytes())).or_else(|| {
                let (user, password) = place::basic(value)?;
                look(user.as_bytes()).or_else(|| look(password.as_bytes()))
            });
        whose.map(|whose| (whose, "headers"))
    })
}
