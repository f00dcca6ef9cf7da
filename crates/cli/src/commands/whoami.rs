//! `boatyard whoami`: who the server takes one for.

use anyhow::Result;
use boatyard_api::model::{
    Scopes,
    time::{Clock as _, SystemClock},
};

use super::Context;
use crate::{
    failure::Exit,
    output::table::Table,
    text::{clean_line, until},
};

pub(crate) async fn run(context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let me = client.whoami().await?;
    let key = client.find_own_key().await?;
    let server = client.server().trim_end_matches('/').to_owned();
    if output.is_json() {
        output.json(&serde_json::json!({ "server": server, "identity": me, "key": key }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["", ""], 1);
    let mut row = |what: &str, text: String| {
        if !text.is_empty() {
            table.row(vec![what.to_owned(), text]);
        }
    };
    row("name", clean_line(&me.name));
    row("email", me.email.as_deref().map(clean_line).unwrap_or_default());
    row(
        "organization",
        match me.organization_name.as_str() {
            "" => me.organization.to_string(),
            name => clean_line(name),
        },
    );
    row("role", me.role.to_string());
    if me.operator {
        row("operator", "may run the server itself".to_owned());
    }
    row("server", server);
    row("key", format!("{} ({})", clean_line(&key.name), key.prefix));
    row(
        "may be used for",
        match key.scopes {
            Scopes::ALL => "everything".to_owned(),
            scopes => scopes.to_string(),
        },
    );
    row("ends", key.expires.map(|at| until(at, SystemClock.now())).unwrap_or_default());
    output.line(table.render(output.out))?;
    Ok(Exit::Done)
}
