//! The cost report: the kernel's JSON as a table for people.

use serde_json::Value;

/// Renders any JSON object: one row per number or word, but none for the counters in inner objects
/// that are zero, which are many, nor for sums over a single space.
pub fn table(stats: &Value) -> String {
    let mut out = String::new();
    let mut rows = Vec::new();
    collect("", stats, &mut rows);
    let all = rows.len();
    rows.retain(|(name, value)| !(value == "0" && name.starts_with("memory, ")));
    let zero = all - rows.len();
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
    if zero > 0 {
        out.push_str(&format!(
            "  ({zero} counters of memory that are zero are not shown)\n"
        ));
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
        Value::Object(map) if map.get("spaces") == Some(&Value::from(1)) => {}
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
    fn what_says_nothing_is_left_out() {
        let stats = serde_json::json!({
            "steals": 0, "memory": {"folds": 0, "unfolds": 7, "splits": 0},
            "all_spaces": {"spaces": 1, "unfolds": 7},
        });
        let one = table(&stats);
        assert_eq!(one.lines().count(), 3, "{one}");
        assert!(
            one.contains("steals") && one.contains("2 counters"),
            "{one}"
        );
        let stats = serde_json::json!({"all_spaces": {"spaces": 2, "unfolds": 9}});
        assert_eq!(table(&stats).lines().count(), 2);
    }

    #[test]
    fn groups_of_three_digits() {
        assert_eq!(
            [0, 999, 1000, 1234567].map(grouped),
            ["0", "999", "1 000", "1 234 567"]
        );
    }
}
