//! The test programs with all faults in them, in target directories of their own: ordinary builds
//! are not disturbed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use xtask::ending::status;

use super::table::{Test, Tier};
use crate::failure::failure;
use crate::test::harness_environment;
use crate::ui;
use crate::workspace::Workspace;

/// The feature that puts the faults in.
const FEATURE: &str = "sync/planted";

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Program {
    file: PathBuf,
    /// Where cargo runs it: its package's folder.
    folder: PathBuf,
}

/// Programs by package and binary.
type Programs = BTreeMap<(String, String), Program>;

/// Everything built.
pub struct Builds {
    tiers: BTreeMap<Tier, Programs>,
    /// What the harness is told.
    environment: Vec<(String, std::ffi::OsString)>,
    /// The names of the tests in a program, asked for once.
    names: RefCell<BTreeMap<PathBuf, BTreeSet<String>>>,
}

impl Builds {
    /// Builds what these tests need.
    ///
    /// # Errors
    /// A build fails, or QEMU is needed and cannot be had.
    pub fn make<'t>(workspace: &Workspace, tests: impl Iterator<Item = &'t Test>) -> Result<Self> {
        let mut packages: BTreeMap<Tier, BTreeSet<&str>> = BTreeMap::new();
        for test in tests {
            packages.entry(test.tier).or_default().insert(&test.package);
        }
        let mut builds = Self {
            tiers: BTreeMap::new(),
            environment: Vec::new(),
            names: RefCell::default(),
        };
        for (tier, packages) in packages {
            let programs = programs(workspace, tier, &packages)?;
            builds.tiers.insert(tier, programs);
            if tier == Tier::Boot {
                builds.environment = harness_environment(workspace, Some("planted"))?;
            }
        }
        Ok(builds)
    }

    /// The command that runs one test; none if there is no such test.
    ///
    /// # Errors
    /// The program cannot be asked for its tests.
    pub fn command(&self, test: &Test) -> Result<Option<Command>> {
        let key = (test.package.clone(), test.binary.clone());
        let Some(program) = self.tiers.get(&test.tier).and_then(|tier| tier.get(&key)) else {
            return Ok(None);
        };
        if !self.has(program, &test.name)? {
            return Ok(None);
        }
        let mut command = self.start(program);
        command.args(["--exact", &test.name, "--include-ignored"]);
        Ok(Some(command))
    }

    fn start(&self, program: &Program) -> Command {
        let mut command = Command::new(&program.file);
        command
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .envs(self.environment.iter().cloned());
        command
    }

    fn has(&self, program: &Program, name: &str) -> Result<bool> {
        if let Some(names) = self.names.borrow().get(&program.file) {
            return Ok(names.contains(name));
        }
        let mut command = self.start(program);
        let output = command
            .arg("--list")
            .output()
            .with_context(|| format!("cannot run {}", program.file.display()))?;
        let names = listed(&String::from_utf8_lossy(&output.stdout));
        let found = names.contains(name);
        self.names.borrow_mut().insert(program.file.clone(), names);
        Ok(found)
    }
}

/// The tests that a test program lists.
fn listed(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

/// Builds the tests of these packages.
fn programs(workspace: &Workspace, tier: Tier, packages: &BTreeSet<&str>) -> Result<Programs> {
    let mut command = workspace.cargo();
    command.args(["test", "--no-run", "--quiet", "--message-format"]);
    command.arg("json-render-diagnostics");
    // What selects packages also decides where features are put together, so `sync` is among
    // them: then all of them are built on the one `sync` that has the faults.
    let selected = packages.iter().copied().chain(["sync"]);
    let selected: BTreeSet<&str> = match tier {
        Tier::Boot => packages.clone(),
        Tier::Host | Tier::Loom => selected.collect(),
    };
    command.args(selected.iter().flat_map(|name| ["--package", name]));
    match tier {
        Tier::Boot => {
            command.args(["--test", "qemu"]);
        }
        Tier::Host => {
            command.args(["--lib", "--tests", "--features", FEATURE]);
            command.env("CARGO_TARGET_DIR", workspace.target().join("planted"));
        }
        Tier::Loom => {
            let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
            command.args(["--release", "--test", "loom*", "--features", FEATURE]);
            command.env("RUSTFLAGS", format!("{flags} --cfg loom"));
            command.env("CARGO_TARGET_DIR", workspace.target().join("planted-loom"));
        }
    }
    let step = ui::Step::new("building the tests with faults in them");
    let output = command.stdin(Stdio::null()).output();
    drop(step);
    let output = output.context("cannot run cargo")?;
    ui::pass_on(&output.stderr);
    if !output.status.success() {
        let line = xtask::shell::line(&command);
        let message = format!("the tests cannot be built; the command was\n{line}");
        return Err(failure(status::BUILD, message));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(program).collect())
}

/// A test program from cargo's message about it.
fn program(message: &str) -> Option<((String, String), Program)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let target = &message["target"];
    let binary = match target["kind"][0].as_str()? {
        "lib" => "lib",
        _ => target["name"].as_str()?,
    };
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let program = Program {
        file: message["executable"].as_str()?.into(),
        folder: manifest.parent()?.to_owned(),
    };
    let package = package(message["package_id"].as_str()?)?;
    Some(((package.to_owned(), binary.to_owned()), program))
}

/// The name in cargo's identifier of a package: behind the `#`, or the folder's name if only the
/// version is there.
fn package(id: &str) -> Option<&str> {
    let (path, rest) = id.rsplit_once('#')?;
    match rest.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_their_name_in_one_of_two_places() {
        assert_eq!(package("path+file:///r/kernel/sync#0.0.0"), Some("sync"));
        assert_eq!(package("path+file:///r/odd#model@0.1.0"), Some("model"));
        assert_eq!(package("model"), None);
    }

    #[test]
    fn only_test_programs_are_taken_from_cargos_messages() {
        let message = |kind: &str, name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///r/kernel/mm#0.0.0",
                "manifest_path":"/r/kernel/mm/Cargo.toml","executable":"/t/x",
                "target":{{"kind":["{kind}"],"name":"{name}"}},"profile":{{"test":{test}}}}}"#
            )
        };
        let key = |message: &str| program(message).map(|(key, _)| key);
        let named = |binary: &str| Some(("mm".to_owned(), binary.to_owned()));
        assert_eq!(key(&message("lib", "mm", true)), named("lib"));
        assert_eq!(key(&message("test", "storm", true)), named("storm"));
        assert_eq!(key(&message("lib", "mm", false)), None);
        assert_eq!(key(r#"{"reason":"build-finished","success":true}"#), None);
        let (_, found) = program(&message("test", "storm", true)).unwrap();
        assert_eq!(found.folder, PathBuf::from("/r/kernel/mm"));
    }

    #[test]
    fn listed_names_are_whole() {
        let names = listed("a::b: test\nbench: benchmark\n\n2 tests, 0 benchmarks\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a::b"]);
    }
}
