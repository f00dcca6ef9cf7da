//! What was used, day by day: for charts and for tables.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use boatyard_api::{
    Problem,
    quota::{DayFigures, DaySeries, DaysGroup, DaysQuery, UsageDays},
};
use boatyard_model::Timestamp;
use boatyard_store::{DAY, DayRow, day_of};

use crate::{
    app::App,
    auth::Caller,
    operations::{requests::cell, store_problem},
};

/// The most days that are given at once: a leap year's.
const DAYS_MAX: i64 = 366;
/// The days that are given where nobody says how many.
const DAYS: i64 = 30;
/// The most series; the rest is one more.
const SERIES_MAX: usize = 100;
/// What the series of the rest is called.
const OTHERS: &str = "all others";

/// The names of a table's columns, after `day`, what it is by, and that one's name.
const COLUMNS: &str = "tasks,minutes,calls,input_tokens,output_tokens,cache_tokens,cost_usd,\
                       own_cost_usd,unknown_cost";

/// What is asked for, with nothing left open.
struct Wanted {
    by: DaysGroup,
    from: Timestamp,
    to: Timestamp,
    rows: Vec<DayRow>,
    names: HashMap<String, String>,
}

async fn wanted(app: &App, caller: &Caller, query: DaysQuery) -> Result<Wanted, Problem> {
    let DaysQuery { by, from, to, person, repository, agent, model } = query;
    let now = app.store.now();
    let to = to.unwrap_or(Timestamp(now.0.saturating_add(1)));
    let last = Timestamp(to.0.saturating_sub(1));
    let from = from.unwrap_or(Timestamp(day_of(last).0.saturating_sub((DAYS - 1) * DAY)));
    let from = day_of(from);
    if from >= to {
        return Err(Problem::invalid("query.to", "it is not after `from`"));
    }
    if (to.0 - from.0) / DAY > DAYS_MAX {
        let detail = format!("it is more than {DAYS_MAX} days after `from`");
        return Err(Problem::invalid("query.to", detail));
    }
    // What has ended is seen by who asks after it.
    app.hub.ledger().flush().await.map_err(store_problem)?;
    let organization = caller.owner.organization;
    let mut rows = app.store.days(organization, from, to).await.map_err(store_problem)?;
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|it| it == found);
    rows.retain(|row| {
        person.is_none_or(|person| row.owner.member == person)
            && is(&repository, &row.repository)
            && is(&agent, &row.agent)
            && is(&model, &row.model)
    });
    let names = app.store.names_for_usage(organization).await.map_err(store_problem)?;
    Ok(Wanted { by: by.unwrap_or_default(), from, to, rows, names })
}

impl Wanted {
    fn label(&self, row: &DayRow) -> String {
        match self.by {
            DaysGroup::All => String::new(),
            DaysGroup::Person => row.owner.member.to_string(),
            DaysGroup::Repository => row.repository.clone(),
            DaysGroup::Agent => row.agent.clone(),
            DaysGroup::Provider => row.provider.clone(),
            DaysGroup::Model => row.model.clone(),
        }
    }

    /// Time and orders are no model's.
    fn counts(&self, row: &DayRow) -> bool {
        !(matches!(self.by, DaysGroup::Provider | DaysGroup::Model) && row.calls == 0)
    }

    fn days(&self) -> impl Iterator<Item = Timestamp> {
        let (from, to) = (self.from.0, self.to.0);
        (0..).map(move |n| from + n * DAY).take_while(move |day| *day < to).map(Timestamp)
    }
}

fn figures(row: &DayRow) -> DayFigures {
    DayFigures {
        tasks: row.tasks,
        minutes: row.millis as f64 / 60_000.0,
        calls: row.calls,
        input_tokens: row.input,
        output_tokens: row.output,
        cache_tokens: row.cache_read.saturating_add(row.cache_write),
        cost_usd: row.micros as f64 / 1e6,
        own_cost_usd: row.own_micros as f64 / 1e6,
        unknown_cost: row.unknown,
    }
}

fn add(sum: &mut DayFigures, more: &DayFigures) {
    sum.tasks += more.tasks;
    sum.minutes += more.minutes;
    sum.calls += more.calls;
    sum.input_tokens += more.input_tokens;
    sum.output_tokens += more.output_tokens;
    sum.cache_tokens += more.cache_tokens;
    sum.cost_usd += more.cost_usd;
    sum.own_cost_usd += more.own_cost_usd;
    sum.unknown_cost += more.unknown_cost;
}

/// `2026-11-21`
fn day_text(day: Timestamp) -> String {
    let text = day.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// What was used, day by day, for charts.
///
/// # Errors
/// When the query makes no sense.
pub async fn read_usage_days(
    app: &App,
    caller: &Caller,
    query: DaysQuery,
) -> Result<UsageDays, Problem> {
    let wanted = wanted(app, caller, query).await?;
    let days: Vec<Timestamp> = wanted.days().collect();
    let empty = |label: Option<String>, name: Option<String>| DaySeries {
        label,
        name,
        points: vec![DayFigures::default(); days.len()],
        total: DayFigures::default(),
    };
    let mut series: HashMap<String, DaySeries> = HashMap::new();
    let mut total = empty(None, None);
    for row in &wanted.rows {
        let at = usize::try_from((row.day.0 - wanted.from.0) / DAY).unwrap_or(usize::MAX);
        if !wanted.counts(row) || at >= days.len() {
            continue;
        }
        let label = wanted.label(row);
        let name = wanted.names.get(&label).cloned();
        let one = series
            .entry(label.clone())
            .or_insert_with(|| empty(Some(label).filter(|label| !label.is_empty()), name));
        let more = figures(row);
        for sums in [one, &mut total] {
            add(&mut sums.points[at], &more);
            add(&mut sums.total, &more);
        }
    }
    let mut series: Vec<DaySeries> = series.into_values().collect();
    let weight = |one: &DaySeries| {
        let micros = (one.total.cost_usd * 1e6) as u64;
        (Reverse(micros), Reverse((one.total.minutes * 60_000.0) as u64), one.label.clone())
    };
    series.sort_by_cached_key(weight);
    if series.len() > SERIES_MAX {
        let mut rest = empty(None, Some(OTHERS.to_owned()));
        for one in series.drain(SERIES_MAX..) {
            add(&mut rest.total, &one.total);
            for (sum, more) in rest.points.iter_mut().zip(&one.points) {
                add(sum, more);
            }
        }
        series.push(rest);
    }
    let days = days.into_iter().map(day_text).collect();
    Ok(UsageDays { by: wanted.by, days, series, total })
}

/// The same as comma-separated values: a line for each day and each of what it is by.
///
/// # Errors
/// When the query makes no sense.
pub async fn export_usage_days(
    app: &App,
    caller: &Caller,
    query: DaysQuery,
) -> Result<String, Problem> {
    let wanted = wanted(app, caller, query).await?;
    let mut lines: BTreeMap<(Timestamp, String), DayFigures> = BTreeMap::new();
    for row in wanted.rows.iter().filter(|row| wanted.counts(row)) {
        add(lines.entry((row.day, wanted.label(row))).or_default(), &figures(row));
    }
    let by = match wanted.by {
        DaysGroup::All => "",
        DaysGroup::Person => "person,name,",
        DaysGroup::Repository => "repository,name,",
        DaysGroup::Agent => "agent,",
        DaysGroup::Provider => "provider,",
        DaysGroup::Model => "model,",
    };
    let mut text = format!("day,{by}{COLUMNS}\r\n");
    for ((day, label), sum) in lines {
        text.push_str(&day_text(day));
        text.push(',');
        if wanted.by != DaysGroup::All {
            text.push_str(&cell(&label));
            text.push(',');
        }
        if matches!(wanted.by, DaysGroup::Person | DaysGroup::Repository) {
            text.push_str(&cell(wanted.names.get(&label).map_or("", String::as_str)));
            text.push(',');
        }
        let DayFigures { tasks, minutes, calls, input_tokens, output_tokens, .. } = sum;
        text.push_str(&format!(
            "{tasks},{minutes:.2},{calls},{input_tokens},{output_tokens},{},{:.6},{:.6},{}\r\n",
            sum.cache_tokens, sum.cost_usd, sum.own_cost_usd, sum.unknown_cost
        ));
    }
    Ok(text)
}
