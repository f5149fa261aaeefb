//! Usage of functions by day, for bills: a line for each, in newline-delimited JSON.

use std::collections::BTreeMap;

use alula_model::{Fault, Name};
use alula_telemetry::usage::{Amounts, Date, Line, day_of};
use alula_wire::query::{self, UsageBy};
use alula_wire::{ErrorAnswer, UsageLine};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;

use crate::extract::{self, Query};
use crate::ndjson;
use crate::respond::{Answer, Problem, store_fault};
use crate::state::Api;

/// Days of one export: a year, and the month after it.
const DAYS_MAX: i32 = 400;

/// Exports what was used
///
/// One line for each day and function (or app, or namespace), ordered by day; days without calls have none. What was used up
/// to the request is in it. An export that breaks off ends without its last line being whole.
#[utoipa::path(
    get,
    path = "/v1/usage",
    tag = "runs",
    operation_id = "usage",
    params(query::Usage),
    responses(
        (status = 200, description = "Usage, one JSON object a line", body = UsageLine, content_type = "application/x-ndjson"),
        (status = 403, description = "Not an administrator, and no namespace is named", body = ErrorAnswer),
    )
)]
pub(crate) async fn usage(State(api): State<Api>, Query(query): Query<query::Usage>) -> Answer<Response> {
    let export = Export::of(&api, &query)?;
    api.parts.usage.flush().await.map_err(|error| store_fault(&error))?;
    // Read before the answer begins, so that a store that does not answer is told by the status.
    let first = export.read(&api, export.from).await?;
    let rest = stream::unfold((api, export, Some(first)), |(api, export, lines)| async move {
        let lines = lines?;
        let Some(next) = export.from.tomorrow().ok().filter(|next| *next <= export.to) else {
            return Some((lines, (api, export, None)));
        };
        let export = Export { from: next, ..export };
        let following = match export.read(&api, next).await {
            Ok(following) => Some(following),
            Err(fault) => {
                tracing::warn!("an export of usage broke off: {fault}");
                None
            }
        };
        Some((lines, (api, export, following)))
    });
    Ok(ndjson::answer(futures_util::StreamExt::flat_map(rest, stream::iter)))
}

/// What is asked for.
#[derive(Debug)]
struct Export {
    namespace: Option<Name>,
    app: Option<Name>,
    function: Option<String>,
    from: Date,
    to: Date,
    by: UsageBy,
}

impl Export {
    fn of(api: &Api, query: &query::Usage) -> Result<Self, Problem> {
        let named = |field: &str, text: &Option<String>| {
            text.as_deref().map(|text| extract::name(field, text)).transpose()
        };
        let today = day_of(api.parts.clock.now());
        let to = day("to", query.to.as_deref())?.unwrap_or(today);
        let from = day("from", query.from.as_deref())?.unwrap_or(to.first_of_month());
        let days = (to - from).get_days();
        if !(0..DAYS_MAX).contains(&days) {
            return Err(Problem::invalid(format!(
                "from and to: {from} to {to} is not within 1 to {DAYS_MAX} days"
            )));
        }
        Ok(Self {
            namespace: named("namespace", &query.namespace)?,
            app: named("app", &query.app)?,
            function: query.function.clone(),
            from,
            to,
            by: query.by.unwrap_or_default(),
        })
    }

    async fn read(&self, api: &Api, day: Date) -> Result<Vec<UsageLine>, Fault> {
        let lines = api.parts.usage.read_day(day, self.namespace.as_ref()).await;
        let mut sums: BTreeMap<_, Amounts> = BTreeMap::new();
        for line in lines.map_err(|error| store_fault(&error))?.into_iter().filter(|line| self.is_meant(line))
        {
            let of_app =
                (self.by != UsageBy::Namespace).then(|| line.whose.app.as_ref().map(ToString::to_string));
            let of_function = (self.by == UsageBy::Function).then(|| line.whose.function_name().to_owned());
            let whose = (line.whose.namespace.to_string(), of_app.flatten(), of_function);
            *sums.entry(whose).or_default() += line.amounts;
        }
        Ok(sums.into_iter().map(|(whose, amounts)| usage_line(day, whose, &amounts)).collect())
    }

    fn is_meant(&self, line: &Line) -> bool {
        let is_app = self.app.as_ref().is_none_or(|app| line.whose.app.as_ref() == Some(app));
        is_app && self.function.as_ref().is_none_or(|function| line.whose.function_name() == function)
    }
}

fn day(field: &str, text: Option<&str>) -> Result<Option<Date>, Problem> {
    let wrong = |text: &str| Problem::invalid(format!("{field}: {text:?} is not a day such as 2026-01-31"));
    text.map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

fn usage_line(
    day: Date,
    (namespace, app, function): (String, Option<String>, Option<String>),
    amounts: &Amounts,
) -> UsageLine {
    UsageLine {
        day: day.to_string(),
        namespace,
        app,
        function,
        invocations: amounts.invocations,
        refused: amounts.refused,
        billed_ms: amounts.billed_ms,
        memory_mb_ms: amounts.memory_mb_ms,
        gb_seconds: amounts.gb_seconds(),
        request_bytes: amounts.request_bytes,
        response_bytes: amounts.response_bytes,
    }
}
