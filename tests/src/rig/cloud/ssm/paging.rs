//! Pages of a list.

use serde_json::Value;

use super::super::refusal::Refusal;

/// One page, as `MaxResults` and `NextToken` ask for it, and the token of the next.
pub(super) fn page<T>(
    all: Vec<T>,
    input: &Value,
    bounds: (usize, usize),
    default: usize,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    let (least, most) = bounds;
    let size = match input.get("MaxResults").and_then(Value::as_u64) {
        None => default,
        Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
    };
    if !(least..=most).contains(&size) {
        return Err(Refusal::invalid(format!(
            "Value '{size}' at 'maxResults' failed to satisfy constraint: between {least} and {most}"
        )));
    }
    let start = match input.get("NextToken").and_then(Value::as_str) {
        None => 0,
        Some(token) => token
            .strip_prefix("from-")
            .and_then(|start| start.parse().ok())
            .ok_or_else(|| Refusal::new("InvalidNextToken", "The specified token isn't valid."))?,
    };
    let total = all.len();
    let page: Vec<T> = all.into_iter().skip(start).take(size).collect();
    let end = start + page.len();
    Ok((page, (end < total).then(|| format!("from-{end}"))))
}
