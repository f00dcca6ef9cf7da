//! What models cost: data, `prices.toml` and what the operator adds.
//!
//! Money is counted in micros, millionths of a US dollar, so that a price in dollars for a million
//! tokens is one in micros for a token.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::usage::Usage;

/// The prices that Boatyard comes with.
const BUILT_IN: &str = include_str!("prices.toml");

/// The longest name of a model in a price, and the highest price: a slip of the pen is refused.
const MAX_NAME: usize = 200;
const MAX_PRICE: f64 = 100_000.0;

/// What tokens of one model cost, in US dollars for a million.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Price {
    /// Read by the model.
    pub input: f64,
    /// Written by it.
    pub output: f64,
    /// Read from the cache.
    pub cache_read: Option<f64>,
    /// Put into the cache.
    pub cache_write: Option<f64>,
    /// Put into the cache for an hour.
    pub cache_write_long: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Tiered {
    #[serde(flatten)]
    price: Price,
    over: Option<u64>,
    long: Option<Price>,
}

impl Price {
    fn micros(&self, usage: &Usage) -> f64 {
        let tokens = usage.tokens;
        let short = tokens.cache_write.saturating_sub(usage.cache_write_long);
        let write = self.cache_write.unwrap_or(self.input);
        let of = |count: u64, price: f64| count as f64 * price;
        of(tokens.input, self.input)
            + of(tokens.output, self.output)
            + of(tokens.cache_read, self.cache_read.unwrap_or(self.input))
            + of(short, write)
            + of(usage.cache_write_long, self.cache_write_long.unwrap_or(write))
    }
}

/// The prices of one provider's models.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    /// What the operator wrote: by name, or by beginning where it ends with `*`.
    own: Vec<(String, Price)>,
    /// All of it costs nothing.
    free: bool,
}

#[derive(Deserialize)]
struct File {
    models: BTreeMap<String, Tiered>,
    #[expect(dead_code, reason = "for people who read the file")]
    checked: String,
}

fn built_in() -> &'static BTreeMap<String, Tiered> {
    static TABLE: std::sync::OnceLock<BTreeMap<String, Tiered>> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| match toml::from_str::<File>(BUILT_IN) {
        Ok(file) => file.models,
        Err(error) => unreachable!("prices.toml makes no sense: {error}"),
    })
}

impl Prices {
    /// Those of a provider that nobody pays for each token.
    pub fn free() -> Self {
        Self { own: Vec::new(), free: true }
    }

    /// Those that Boatyard knows, below these: `NAME input=1.5 output=6 cache_read=0.15`, in US
    /// dollars for a million tokens. A name may end with `*`.
    ///
    /// # Errors
    ///
    /// Which line can't be, and what would be taken.
    pub fn new<'a>(own: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let own = own.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { own, free: false })
    }

    /// What was used, in micros; none where the price of the model is not known. `asked` is the
    /// model that the request named.
    pub fn micros(&self, usage: &Usage, asked: Option<&str>) -> Option<u64> {
        if self.free {
            return Some(0);
        }
        let names = [usage.model.as_deref(), asked];
        let names = names.into_iter().flatten();
        let price = names.clone().find_map(|name| self.own(name));
        let price = price.or_else(|| names.into_iter().find_map(|name| known(name, usage)))?;
        // Rounded up: what is used is never nothing, unless it costs nothing.
        Some(price.micros(usage).ceil() as u64)
    }

    fn own(&self, name: &str) -> Option<Price> {
        let fits = |written: &str| match written.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning) || plain(name).starts_with(beginning),
            None => name == written || plain(name) == written,
        };
        self.own.iter().find(|(written, _)| fits(written)).map(|(_, price)| *price)
    }
}

/// The built-in price of a model.
fn known(name: &str, usage: &Usage) -> Option<Price> {
    let name = plain(name);
    let found = built_in().get(name).or_else(|| built_in().get(name.strip_suffix("-preview")?))?;
    let read = usage.tokens.input + usage.tokens.cache_read + usage.tokens.cache_write;
    match (found.over, found.long) {
        (Some(over), Some(long)) if read > over => Some(long),
        _ => Some(found.price),
    }
}

/// A model's name without what providers put around it: a vendor, a region, a version, a date.
fn plain(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.find("claude").map_or(name, |at| &name[at..]);
    let name = name.split(['@', ':', '[']).next().unwrap_or(name);
    let name = name.strip_suffix("-latest").unwrap_or(name);
    // `…-v1`, as Bedrock has it after a date.
    let name = match name.rsplit_once("-v") {
        Some((rest, version)) if is_digits(version) => rest,
        _ => name,
    };
    if let Some((rest, date)) = name.rsplit_once('-')
        && date.len() == 8
        && is_digits(date)
    {
        return rest;
    }
    // `…-2026-04-23`
    let mut parts = name.rsplitn(4, '-');
    if let (Some(day), Some(month), Some(year), Some(rest)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
        && [day, month, year].iter().all(|part| is_digits(part))
        && (day.len(), month.len(), year.len()) == (2, 2, 4)
    {
        return rest;
    }
    name
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse(line: &str) -> Result<(String, Price), String> {
    let wrong = |what: String| {
        format!("`{line}`: {what}; write it as `MODEL input=1.5 output=6`, dollars for a million")
    };
    let mut words = line.split_whitespace();
    let name = words.next().ok_or_else(|| wrong("it names no model".to_owned()))?;
    if name.contains('=') || name.len() > MAX_NAME {
        return Err(wrong("it names no model".to_owned()));
    }
    let mut found: BTreeMap<&str, f64> = BTreeMap::new();
    for word in words {
        let (key, value) =
            word.split_once('=').ok_or_else(|| wrong(format!("`{word}` has no `=`")))?;
        let known = ["input", "output", "cache_read", "cache_write", "cache_write_long"];
        if !known.contains(&key) {
            return Err(wrong(format!("there is no `{key}`, only {}", known.join(", "))));
        }
        let price: f64 = value.parse().map_err(|_| wrong(format!("`{value}` is no number")))?;
        if !(0.0..=MAX_PRICE).contains(&price) {
            return Err(wrong(format!("`{value}` is no price")));
        }
        found.insert(key, price);
    }
    let needed = |key| found.get(key).copied().ok_or_else(|| wrong(format!("`{key}` is missing")));
    let price = Price {
        input: needed("input")?,
        output: needed("output")?,
        cache_read: found.get("cache_read").copied(),
        cache_write: found.get("cache_write").copied(),
        cache_write_long: found.get("cache_write_long").copied(),
    };
    Ok((name.to_owned(), price))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Tokens;

    fn usage(model: &str, input: u64, output: u64, cache_read: u64) -> Usage {
        let tokens = Tokens { input, output, cache_read, ..Tokens::default() };
        Usage { tokens, cache_write_long: 0, model: Some(model.to_owned()), estimated: false }
    }

    #[test]
    fn a_model_is_known_by_all_of_its_names() {
        let check = |name: &str, expected: Option<u64>| {
            let prices = Prices::default();
            assert_eq!(prices.micros(&usage(name, 1000, 100, 0), None), expected, "{name}");
        };
        for name in [
            "claude-opus-4-5",
            "claude-opus-4-5-20251101",
            "us.anthropic.claude-opus-4-5-20251101-v1:0",
            "anthropic/claude-opus-4-5",
            "claude-opus-4-5@20251101",
            "claude-opus-4-5[1m]",
        ] {
            check(name, Some(1000 * 5 + 100 * 25));
        }
        check("gpt-5-2025-08-07", Some(2250));
        check("models/gemini-3-pro-preview", Some(2000 + 1200));
        check("gpt-5.9", None);
        check("claude", None);
        check("", None);
    }

    #[test]
    fn long_requests_and_caches_have_prices_of_their_own() {
        let prices = Prices::default();
        let micros = |usage: &Usage| prices.micros(usage, None);
        assert_eq!(micros(&usage("gemini-2.5-pro", 200_001, 0, 0)), Some(500_003));
        assert_eq!(micros(&usage("gpt-5", 0, 0, 1000)), Some(125));
        let mut long = usage("claude-opus-4-5", 0, 0, 0);
        (long.tokens.cache_write, long.cache_write_long) = (100, 40);
        assert_eq!(micros(&long), Some(60 * 6 + 15 + 400));
        assert_eq!(Prices::free().micros(&usage("anything", 1, 1, 1), None), Some(0));
    }

    #[test]
    fn what_the_operator_writes_goes_first_and_slips_are_refused() {
        let prices = Prices::new(["qwen* input=1 output=2", "gpt-5 input=0 output=0"]).unwrap();
        assert_eq!(prices.micros(&usage("qwen3-coder", 3, 4, 5), None), Some(16));
        assert_eq!(prices.micros(&usage("gpt-5-2025-08-07", 3, 4, 5), None), Some(0));
        assert_eq!(prices.micros(&usage("unknown", 3, 4, 5), Some("gpt-5")), Some(0));
        let check = |line: &str, expected: &str| {
            let error = Prices::new([line]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("", "names no model");
        check("input=1 output=2", "names no model");
        check("x input=1", "`output` is missing");
        check("x input=1 output=two", "`two` is no number");
        check("x input=-1 output=2", "`-1` is no price");
        check("x input=NaN output=2", "`NaN` is no price");
        check("x input=1 ouput=2", "there is no `ouput`");
        check("x 1 2", "has no `=`");
    }
}
