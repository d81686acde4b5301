//! The cost report: the kernel's JSON as a table for people.

use serde_json::Value;

/// Renders any JSON object: one row per number or word, one heading per inner object.
pub fn table(stats: &Value) -> String {
    let mut out = String::new();
    let mut rows = Vec::new();
    collect("", stats, &mut rows);
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let value_width = rows
        .iter()
        .map(|(_, value)| value.chars().count())
        .max()
        .unwrap_or(0)
        .min(16);
    for (name, value) in rows {
        out.push_str(&format!("  {name:<width$}  {value:>value_width$}\n"));
    }
    out
}

fn collect(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let name = |key: &str| {
        let key = key.replace('_', " ");
        if prefix.is_empty() {
            key
        } else {
            format!("{prefix}, {key}")
        }
    };
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| collect(&name(key), value, rows)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| collect(&name(&i.to_string()), item, rows));
        }
        Value::Array(items) => {
            let words = items.iter().map(scalar).collect::<Vec<_>>().join(" ");
            rows.push((prefix.to_owned(), words));
        }
        other => rows.push((prefix.to_owned(), scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// Digits in groups of three: 1 234 567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_a_row_and_numbers_line_up() {
        let stats = serde_json::json!({
            "faults": {"total": 1234567, "read": 4}, "tables": [1, 2], "longest_stay": {"in": "munmap"}
        });
        let table = table(&stats);
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("faults, total"), "{table}");
        assert!(table.contains(" 1 234 567\n"), "{table}");
        assert!(table.contains("longest stay, in"), "{table}");
        assert!(table.contains("1 2\n"), "{table}");
    }

    #[test]
    fn groups_of_three_digits() {
        assert_eq!(
            [0, 999, 1000, 1234567].map(grouped),
            ["0", "999", "1 000", "1 234 567"]
        );
    }
}
