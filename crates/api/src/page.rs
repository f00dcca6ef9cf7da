//! Lists come in pages.
//!
//! A list takes `limit` and `cursor` and answers with `items` and, if there are more, a
//! `next_cursor`. A cursor is opaque to the client: inside is the key of the last item, so that a
//! page costs the same however deep it lies and items added meanwhile shift nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// Items in a page when the client names no number.
pub const DEFAULT_LIMIT: u32 = 50;

/// The most items in a page; more would make one answer hold up others.
pub const MAX_LIMIT: u32 = 200;

/// The longest cursor that is taken, in bytes; ours are below 100.
const MAX_CURSOR: usize = 400;

/// The first byte of what is inside, so that the form can change.
const VERSION: &str = "1";

/// Where the next page begins. Opaque: give it back as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// The cursor after the item with this key.
    pub fn after(key: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(format!("{VERSION}{key}")))
    }

    /// The key of the last item of the page before.
    ///
    /// # Errors
    /// When it is no cursor of ours.
    pub fn key(&self) -> Result<String, Problem> {
        let bad = || Problem::invalid("query.cursor", "this is no cursor of this list");
        if self.0.len() > MAX_CURSOR {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        text.strip_prefix(VERSION).map(str::to_owned).ok_or_else(bad)
    }

    /// The text form, for a query.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Cursor {
    /// A cursor as somebody gave it; [`Cursor::key`] tells whether it is one.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl utoipa::PartialSchema for Cursor {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Opaque: give it back as it came."))
            .into()
    }
}

impl utoipa::ToSchema for Cursor {}

/// How many items a page gets.
///
/// # Errors
/// When the client wants none or more than [`MAX_LIMIT`].
pub fn limit(wanted: Option<u32>) -> Result<u32, Problem> {
    match wanted {
        None => Ok(DEFAULT_LIMIT),
        Some(n) if (1..=MAX_LIMIT).contains(&n) => Ok(n),
        Some(n) => {
            Err(Problem::invalid("query.limit", format!("{n} is not between 1 and {MAX_LIMIT}")))
        }
    }
}

/// One named page type for each kind of item, so that the OpenAPI document has a name for it.
macro_rules! page {
    ($($(#[$doc:meta])* $name:ident of $item:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The items, the newest first.
            pub items: Vec<$item>,
            /// Where the next page begins; absent on the last one.
            #[serde(skip_serializing_if = "Option::is_none", default)]
            pub next_cursor: Option<$crate::Cursor>,
        }
    )*};
}
pub(crate) use page;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_gives_its_key_back_and_nothing_else_is_one() {
        let key = "1795223443120/tsk_01JD5X8Z4J6Q0V9W3T7R2K1M5N";
        assert_eq!(Cursor::after(key).key().unwrap(), key);
        for bad in ["", "x", "!!!", "AAAA", &"A".repeat(1000)] {
            assert!(Cursor::from(bad.to_owned()).key().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(Some(MAX_LIMIT)).unwrap(), MAX_LIMIT);
        assert!(limit(Some(0)).is_err() && limit(Some(MAX_LIMIT + 1)).is_err());
    }
}
