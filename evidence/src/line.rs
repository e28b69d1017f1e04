//! Lines of canonical ASCII JSON: what records of custody and sealing statements are written as.

use serde::Serialize;
use serde_json::Value;

/// Most levels of objects and arrays inside each other.
const MAX_DEPTH: usize = 32;

/// The canonical text of `value`, with its newline: sorted keys, no white space, and every character from U+007F on
/// as `\uXXXX`, in UTF-16 and lower case.
pub(crate) fn to_line(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(&serde_json::to_value(value)?)?;
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            ..='~' => line.push(c),
            // Outside of strings JSON is ASCII, so this stands in a string.
            _ => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| line.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    line.push('\n');
    Ok(line)
}

/// Whether `value` has whole numbers of 64 bits only, and is not nested too deep.
pub(crate) fn is_plain(value: &Value) -> bool {
    plain_at(value, 1)
}

fn plain_at(value: &Value, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    match value {
        Value::Number(number) => number.is_u64() || number.is_i64(),
        Value::Array(items) => items.iter().all(|item| plain_at(item, depth + 1)),
        Value::Object(fields) => fields.values().all(|item| plain_at(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Whether `text` is a time of RFC 3339 in UTC, in its one form: `2026-03-14T15:09:26Z`, and if there is a fraction of a
/// second, 1 to 9 digits that do not end in 0.
pub(crate) fn is_time(text: &str) -> bool {
    let form = |text: &str, pattern: &str| {
        let fits = |(c, p): (char, char)| match p {
            '0' => c.is_ascii_digit(),
            _ => c == p,
        };
        text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits)
    };
    let below = |from: usize, first: u32, last: u32| {
        let digits = text.get(from..from + 2);
        digits
            .and_then(|digits| digits.parse().ok())
            .is_some_and(|value: u32| (first..=last).contains(&value))
    };
    let Some((whole, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let fraction = match rest.strip_suffix('Z').map(|rest| rest.strip_prefix('.')) {
        Some(Some(digits)) => {
            matches!(digits.len(), 1..=9)
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.ends_with('0')
        }
        Some(None) => rest == "Z",
        None => false,
    };
    form(whole, "0000-00-00T00:00:00")
        && fraction
        && below(5, 1, 12)
        && below(8, 1, 31)
        && below(11, 0, 23)
        && below(14, 0, 59)
        && below(17, 0, 59)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_printable_ascii_and_read_back() {
        let value = json!({"b": "caf\u{e9} \u{1f600}\u{7f}\u{1b}", "a": 1});
        let line = to_line(&value).unwrap();
        let text = "{\"a\":1,\"b\":\"caf\\u00e9 \\ud83d\\ude00\\u007f\\u001b\"}\n";
        assert_eq!(line, text);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn fractions_and_deep_nests_are_not_plain() {
        assert!(is_plain(&json!({"a": [1, -2, u64::MAX, null, "x"]})));
        assert!(!is_plain(&json!({"a": [0.5]})));
        let nest = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(is_plain(&nest(MAX_DEPTH - 1)) && !is_plain(&nest(MAX_DEPTH)));
    }

    #[test]
    fn times_have_one_form() {
        for right in [
            "2026-03-14T15:09:26Z",
            "2026-03-14T15:09:26.5Z",
            "2026-12-31T23:59:59.123456789Z",
        ] {
            assert!(is_time(right), "{right}");
        }
        for wrong in [
            "",
            "2026-03-14",
            "2026-03-14 15:09:26Z",
            "2026-03-14t15:09:26z",
            "2026-03-14T15:09:26",
            "2026-03-14T15:09:26+00:00",
            "2026-03-14T15:09:26.Z",
            "2026-03-14T15:09:26.50Z",
            "2026-03-14T15:09:26.1234567891Z",
            "2026-13-14T15:09:26Z",
            "2026-03-00T15:09:26Z",
            "2026-03-14T24:09:26Z",
            "2026-03-14T15:60:26Z",
            "+026-03-14T15:09:26Z",
            "2026-03-14T15:09:2\u{e9}Z",
            "2026-03-14T15:09:26Z\n",
        ] {
            assert!(!is_time(wrong), "{wrong}");
        }
    }
}
