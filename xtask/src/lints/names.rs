//! What the functions of the table engine, and of what is under and over it, may be called.

use super::Text;
use super::code::has_word;

/// PTE-14, GUP-14: names of the engine's functions. `get` is a load and returns a value; who takes a
/// reference calls it a pin. What is done without a lock ends in `_lockless`.
pub fn check(text: &Text<'_>) -> Vec<(usize, String)> {
    let places = ["kernel/pgtable/src/", "kernel/frame/src/", "kernel/mm/src/"];
    if !text.is_in(&places) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, line) in text.code.iter().enumerate() {
        let Some(name) = public_function(line) else {
            continue;
        };
        let signature: String = text.code[at..]
            .iter()
            .take(12)
            .scan(false, |ended, line| {
                let go_on = !*ended;
                *ended = line.contains('{') || line.contains(';');
                go_on.then(|| format!("{} ", line.trim()))
            })
            .collect();
        let result = signature.split_once("->").map_or("", |(_, result)| result);
        let is_get = name.split('_').any(|part| part == "get");
        let is_load = ["Value", "Loaded"]
            .iter()
            .any(|kind| has_word(result, kind));
        let engine = text.is_in(&["kernel/pgtable/src/"]);
        let wrong = if ["_unlocked", "_orig", "_value"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            Some("a name that says how, not what is guaranteed: `_lockless` (GUP-14)")
        } else if is_get && has_word(result, "UserFrame") {
            Some("`get` for taking a reference: call it a pin (PTE-14)")
        } else if is_get && engine && !is_load {
            Some("`get` that is not a load of an entry (PTE-14)")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            found.push((at + 1, format!("`{name}`: {wrong}")));
        }
    }
    found
}

/// The name of the function that is declared for other modules in this line.
fn public_function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("pub")?;
    let rest = rest.strip_prefix("(crate)").unwrap_or(rest);
    let (qualifiers, rest) = rest.split_once("fn ")?;
    let known = ["unsafe", "const", "async"];
    if !qualifiers
        .split_whitespace()
        .all(|word| known.contains(&word))
    {
        return None;
    }
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{clean, planted};

    #[test]
    fn misleading_names_are_found() {
        let path = "kernel/pgtable/src/a.rs";
        for name in ["offset_unlocked", "ptep_orig", "offset_value"] {
            planted(path, &format!("pub fn {name}(&self) {{}}\n"), "GUP-14");
            planted(
                path,
                &format!("    pub(crate) const fn {name}();\n"),
                "GUP-14",
            );
            clean(path, &format!("fn {name}() {{}}\n"));
        }
        planted(path, "pub fn get_page(&self) -> Pfn {\n", "PTE-14");
        planted(
            path,
            "pub fn get(\n    &self,\n) -> Option<UserFrame> {\n",
            "call it a pin",
        );
        planted(
            "kernel/frame/src/a.rs",
            "pub fn try_get_user() -> Option<UserFrame> {\n",
            "PTE-14",
        );
        clean(path, "pub fn get(&self, va: u64) -> Value {\n");
        clean(
            path,
            "pub fn ptep_get_lockless(\n    slot: &Slot<'_>,\n) -> Value {\n",
        );
        clean(path, "pub fn target(&self) -> u64 {\n");
        clean(
            "kernel/frame/src/a.rs",
            "pub fn get(&self) -> Option<&Block> {\n",
        );
    }
}
