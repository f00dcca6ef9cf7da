//! Everything that is generated and committed, in the order in which one depends on another.
//!
//! Each has a test that fails when what is committed is not what would be generated; the same test
//! writes it anew with `BOATYARD_UPDATE=1`. The page's types come from the API's description.

use crate::call;

/// Crates that write generated files, and the tests that do.
const WRITERS: &[(&str, &str)] = &[
    // docs/problems.md
    ("boatyard-api", "the_page_of_codes_is_current"),
    // docs/openapi.json
    ("boatyard-server", "the_contract_is_as_committed"),
    // docs/roles.md
    ("boatyard-server", "the_document_of_roles_is_that_of_the_table"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let update = [("BOATYARD_UPDATE", "1"), ("BOATYARD_PAGE", "skip")];
    for (package, test) in WRITERS {
        call("cargo", &["test", "--quiet", "--package", package, "--lib", test], &update)?;
    }
    // boatyard.toml and docs/configuration.md
    call(
        "cargo",
        &["run", "--quiet", "--package", "boatyard-cli", "--", "internal", "docs"],
        &update,
    )?;
    // web/src/api/__generated__/schema.d.ts
    call("npm", &["--prefix", "web", "run", "--silent", "gen"], &[])
}
