//! What the getters of page-table entries cost (PTE-02, PTE-15), by their instructions.
//!
//! `tests/probe/getters.rs` has each getter as a function of its own. It is compiled as the kernel
//! is, and the way of an entry that is not contiguous is followed through the assembly: one load of
//! the entry, all 64 bits at once, and one branch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;

use crate::trial;

/// The getters, and the instruction that loads the entry: a plain load under the lock, one that
/// acquires without.
const GETTERS: [(&str, &str); 2] = [("probe_locked", "ldr"), ("probe_lockless", "ldar")];

/// The tests of this module.
pub fn trials() -> Vec<Trial> {
    let name = "codegen::getters_are_one_load_and_one_branch";
    vec![trial(name.into(), getters)]
}

fn getters() -> Result<()> {
    let text = fs::read_to_string(assembly()?)?;
    for (name, load) in GETTERS {
        let code = function(&text, name)?;
        let cost = cost(&code).with_context(|| format!("{name}:\n{}", code.join("\n")))?;
        let expected = Cost {
            loads: vec![load.to_owned()],
            branches: 1,
        };
        ensure!(
            cost == expected,
            "{name} costs {cost:?}:\n{}",
            code.join("\n")
        );
    }
    Ok(())
}

/// Compiles the probe; cargo knows whether it has to.
fn assembly() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("the repository's root")?;
    let project = crate::env::out()?.join("probe");
    fs::create_dir_all(&project)?;
    // The settings of the profile `kernel`; link-time optimisation does not reach an object.
    let manifest = format!(
        "[package]\nname = \"probe\"\nedition = \"2024\"\n[workspace]\n\
         [lib]\npath = {:?}\n[dependencies]\npgtable = {{ path = {:?} }}\n\
         [profile.release]\npanic = \"abort\"\ncodegen-units = 1\n",
        here.join("tests/probe/getters.rs"),
        root.join("kernel/pgtable"),
    );
    fs::write(project.join("Cargo.toml"), manifest)?;
    fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock"))?;
    let assembly = project.join("getters.s");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["rustc", "--quiet", "--release", "--offline"])
        .args(["--target", "aarch64-unknown-none-softfloat"])
        .arg("--target-dir")
        .arg(project.join("target"))
        .arg("--manifest-path")
        .arg(project.join("Cargo.toml"))
        .arg("--")
        .arg(format!("--emit=asm={}", assembly.display()))
        .output()
        .context("cannot run cargo")?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the probe does not compile:\n{log}"
    );
    Ok(assembly)
}

/// What one way through a function costs beside its arguments and its frame.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    /// Instructions that load.
    loads: Vec<String>,
    /// Conditional branches.
    branches: usize,
}

/// Instructions and labels of a function.
fn function<'a>(text: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let begin = format!("{name}:");
    let lines = text.lines().skip_while(|line| *line != begin).skip(1);
    let is_code = |line: &&str| !line.trim_start().starts_with('.') || line.ends_with(':');
    let code: Vec<&str> = lines
        .take_while(|line| !line.starts_with(".Lfunc_end"))
        .map(str::trim)
        .filter(|line| !line.is_empty() && is_code(line))
        .collect();
    ensure!(!code.is_empty(), "no function {name}");
    Ok(code)
}

/// The cost of the one way to the end that calls nothing.
fn cost(code: &[&str]) -> Result<Cost> {
    let mut ways = Vec::new();
    follow(code, 0, Way::default(), &mut ways)?;
    match ways.len() {
        1 => Ok(ways.remove(0)),
        several => bail!("{several} ways without a call, not one"),
    }
}

#[derive(Clone)]
struct Way {
    loads: Vec<String>,
    branches: usize,
    steps: usize,
    /// Registers that hold the address of the handle: loads from there are of an argument, which
    /// is in registers where the getter is inlined.
    handle: Vec<String>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            loads: Vec::new(),
            branches: 0,
            steps: 0,
            handle: vec!["x0".into(), "sp".into(), "x29".into()],
        }
    }
}

/// Goes on from `at`, both ways where the code branches; a way that calls something is dropped.
fn follow(code: &[&str], mut at: usize, mut way: Way, ways: &mut Vec<Cost>) -> Result<()> {
    loop {
        let line = code.get(at).context("the code ends without a return")?;
        at += 1;
        way.steps += 1;
        ensure!(way.steps < 100, "a loop");
        if line.ends_with(':') {
            continue;
        }
        let (name, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let target = operands.rsplit([',', ' ', '\t']).next().unwrap_or_default();
        let label = |code: &[&str]| code.iter().position(|line| *line == format!("{target}:"));
        match name {
            "ret" => {
                let Way {
                    loads, branches, ..
                } = way;
                ways.push(Cost { loads, branches });
                return Ok(());
            }
            "bl" | "blr" | "br" => return Ok(()),
            "b" => match label(code) {
                Some(next) => at = next,
                None => return Ok(()),
            },
            _ if name.starts_with("b.") || ["cbz", "cbnz", "tbz", "tbnz"].contains(&name) => {
                way.branches += 1;
                let next = label(code).with_context(|| format!("a branch to nowhere: {line}"))?;
                follow(code, next, way.clone(), ways)?;
            }
            _ => access(name, operands, &mut way)?,
        }
    }
}

/// Notes loads; nothing else may touch memory, and nothing may order it.
fn access(name: &str, operands: &str, way: &mut Way) -> Result<()> {
    let ordered = [
        "dmb", "dsb", "isb", "cas", "swp", "ldx", "ldax", "stx", "stlx",
    ];
    let is_ordered = ordered.iter().any(|other| name.starts_with(other));
    ensure!(!is_ordered, "{name} {operands}");
    let Some((registers, place)) = operands.split_once('[') else {
        if let ("mov", Some((to, from))) = (name, operands.split_once(", "))
            && way.handle.iter().any(|handle| handle == from)
        {
            way.handle.push(to.to_owned());
        }
        return Ok(());
    };
    let base: String = place.chars().take_while(|c| c.is_alphanumeric()).collect();
    if way.handle.contains(&base) {
        return Ok(());
    }
    ensure!(name.starts_with("ld"), "not a load: {name} {operands}");
    let whole = registers.starts_with('x') && ["ldr", "ldar", "ldapr", "ldur"].contains(&name);
    ensure!(whole, "not 64 bits at once: {name} {operands}");
    way.loads.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 9] = [
        "ldr\tx1, [x0]",
        "ldr\tx8, [x0, #8]!",
        "ldr\tx8, [x8, x1, lsl #3]",
        "tbz\tx8, #52, .LBB0_2",
        "bl\tcontiguous",
        "ret",
        ".LBB0_2:",
        "mov\tx0, x8",
        "ret",
    ];

    fn with(at: usize, line: &'static str) -> Result<Cost> {
        let mut code = GOOD.to_vec();
        code.insert(at, line);
        cost(&code)
    }

    #[test]
    fn a_getter_as_it_should_be_costs_a_load_and_a_branch() {
        let cost = cost(&GOOD).unwrap();
        assert_eq!((cost.loads, cost.branches), (vec!["ldr".to_owned()], 1));
    }

    #[test]
    fn what_a_getter_must_not_do_is_seen() {
        assert_eq!(with(7, "ldr\tx9, [x8]").unwrap().loads.len(), 2);
        assert_eq!(
            with(3, "cbz\tx8, .LBB0_2").unwrap_err().to_string(),
            "2 ways without a call, not one"
        );
        for line in [
            "ldrb\tw9, [x8]",
            "ldp\tx9, x10, [x8]",
            "str\tx9, [x8]",
            "dmb\tish",
            "casal\tx9, x10, [x8]",
            "bl\tother",
        ] {
            assert!(with(2, line).is_err(), "{line}");
        }
        let no_call: Vec<&str> = GOOD
            .into_iter()
            .filter(|line| !line.starts_with("bl"))
            .collect();
        assert!(
            cost(&no_call).is_err(),
            "a way for contiguous entries that gathers nothing"
        );
        assert!(cost(&["nop"]).is_err() && cost(&["1:", "b\t1"]).is_err());
    }

    #[test]
    fn a_function_is_found_in_its_file() {
        let text = "\t.type f,@function\nf:\n\t.cfi_startproc\n\tnop\n.LBB0_1:\n\tret\n.Lfunc_end0:\nret\n";
        assert_eq!(function(text, "f").unwrap(), ["nop", ".LBB0_1:", "ret"]);
        assert!(function(text, "g").is_err());
    }
}
