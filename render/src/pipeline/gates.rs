//! The gates of a stage: what has to hold before it begins, and before it has passed.

use flotilla_rollout::spec::{Approval, Check, Comparison, Gates, Probe, Seconds, Threshold};

use crate::field::{Field, Wrong};

const GATE_FIELDS: [&str; 3] = ["healthyFor", "approval", "checks"];
const APPROVAL_FIELDS: [&str; 4] = ["from", "count", "notAuthor", "expires"];
const CHECK_FIELDS: [&str; 6] = ["name", "metric", "http", "every", "successes", "failures"];

/// The most checks of a gate, statuses of a check, and people who have to agree.
const FEW: usize = 32;
/// The most people and roles whose approval counts.
const MAX_FROM: usize = 256;
/// An address of mail.
const MAX_PERSON: usize = 254;
const MAX_NAME: usize = 63;
const MAX_QUERY: usize = 4096;
const MAX_ADDRESS: usize = 2048;
const MAX_TIMES: u32 = 1000;
/// How often something is measured that says nothing of it, in seconds.
const EVERY: u32 = 60;

pub(super) fn gates(field: Option<&Field<'_>>) -> Result<Gates, Wrong> {
    let Some(field) = field else { return Ok(Gates::default()) };
    let fields = field.object(&GATE_FIELDS)?;
    let checks = fields.get("checks").map(|checks| checks.list(FEW)?.iter().map(check).collect());
    Ok(Gates {
        healthy_for: fields.seconds("healthyFor")?.map(Seconds::from),
        approval: fields.get("approval").map(approval).transpose()?,
        checks: checks.transpose()?.unwrap_or_default(),
    })
}

fn approval(field: &Field<'_>) -> Result<Approval, Wrong> {
    let fields = field.object(&APPROVAL_FIELDS)?;
    let from = match fields.get("from") {
        Some(field) => {
            let from: Vec<String> =
                field.list(MAX_FROM)?.iter().map(|item| item.name(MAX_PERSON)).collect::<Result<_, _>>()?;
            if from.is_empty() {
                return Err(field.wrong("names nobody; leave it out where all who may approve count"));
            }
            from
        }
        None => Vec::new(),
    };
    Ok(Approval {
        from,
        count: fields.number("count", 1..=FEW as u32)?.unwrap_or(1),
        not_author: fields.bool("notAuthor")?,
        expires: fields.seconds("expires")?.map(Seconds::from),
    })
}

fn check(item: &Field<'_>) -> Result<Check, Wrong> {
    let fields = item.object(&CHECK_FIELDS)?;
    let probe = match (fields.get("metric"), fields.get("http")) {
        (Some(field), None) => metric(field)?,
        (None, Some(field)) => http(field)?,
        _ => return Err(item.wrong("needs one of metric and http")),
    };
    Ok(Check {
        name: fields.need("name")?.name(MAX_NAME)?,
        probe,
        every: fields.seconds("every")?.unwrap_or(EVERY).into(),
        successes: fields.number("successes", 1..=MAX_TIMES)?.unwrap_or(1),
        failures: fields.number("failures", 1..=MAX_TIMES)?.unwrap_or(1),
    })
}

fn metric(field: &Field<'_>) -> Result<Probe, Wrong> {
    let fields = field.object(&["server", "query", "is"])?;
    let field = fields.need("query")?;
    let query = field.text()?;
    if query.len() > MAX_QUERY {
        return Err(field.wrong(format!("is longer than {MAX_QUERY} bytes")));
    }
    Ok(Probe::Metric { server: address(fields.need("server")?)?, query, is: threshold(fields.need("is")?)? })
}

fn http(field: &Field<'_>) -> Result<Probe, Wrong> {
    let fields = field.object(&["url", "status"])?;
    let url = address(fields.need("url")?)?;
    let Some(field) = fields.get("status") else { return Ok(Probe::Http { url, status: vec![200] }) };
    let status = |item: &Field<'_>| {
        let number = item.node.as_u64().and_then(|number| u16::try_from(number).ok());
        let number = number.filter(|number| (100..600).contains(number));
        number.ok_or_else(|| item.wrong("must be a status of HTTP, such as 200"))
    };
    let status: Vec<u16> = field.list(FEW)?.iter().map(status).collect::<Result<_, _>>()?;
    if status.is_empty() {
        return Err(field.wrong("names no status, so that no answer would be right"));
    }
    Ok(Probe::Http { url, status })
}

/// `<= 0.01`
fn threshold(field: &Field<'_>) -> Result<Threshold, Wrong> {
    let text = field.str()?.trim();
    let signs = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let read = signs.iter().find_map(|(sign, than)| {
        let value: f64 = text.strip_prefix(sign)?.trim().parse().ok()?;
        value.is_finite().then_some(Threshold { than: *than, value })
    });
    read.ok_or_else(|| field.wrong("must be <, <=, >= or > and a number, such as '<= 0.01'"))
}

/// Where the hub asks; whether it may ask there is for the hub to say.
fn address(field: &Field<'_>) -> Result<String, Wrong> {
    let text = field.text()?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if authority.contains('@') {
        return Err(field.wrong("has credentials in it, which everybody who reads the repository would see"));
    }
    let is_odd = |char: char| char.is_whitespace() || char.is_control() || char == '\\';
    if authority.is_empty() || text.len() > MAX_ADDRESS || text.chars().any(is_odd) {
        return Err(field.wrong(format!(
            "must be an address that begins with https:// or http://, of {MAX_ADDRESS} bytes at most"
        )));
    }
    Ok(text)
}
