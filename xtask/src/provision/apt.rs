//! Fetches packages with apt's own tools, without root and without touching the system's state.
//!
//! apt gets private directories for lists, cache and state, and a private list of sources: those
//! of the machine's own release and the backports suite of the same mirror, under the same keys.
//! apt checks the signatures. The packages are unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use super::sources::{self, Entry};
use crate::ui;

const PACKAGE: &str = "qemu-system-arm";
/// The smaller of Debian's kernels: without drivers that QEMU's machine has no use for.
const LINUX: &str = "linux-image-cloud-arm64";

/// Hooks of the machine's own configuration would act on the system's state, and its pinning on
/// the choice of versions; indexes other than of packages are not needed.
const CONFIGURATION: &str = r#"
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
"#;

/// Downloads and unpacks QEMU below `work`; returns the directory.
///
/// # Errors
/// This is no system with apt, the network is down, or its release has no QEMU that is new enough.
pub fn fetch(work: &Path) -> Result<PathBuf> {
    let apt = Apt::updated(work, None)?;
    let suite = apt.suite_to_use(PACKAGE, (super::OLDEST, 0))?;
    let step = ui::Step::new("fetching QEMU");
    let packages = apt.download(&suite)?;
    drop(step);
    let step = ui::Step::new("unpacking QEMU");
    let unpacked = unpack(&packages, work)?;
    drop(step);
    Ok(unpacked)
}

/// Downloads Debian's Linux for arm64 below `work` and unpacks it; returns the directory.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_linux(work: &Path, oldest: (u32, u32)) -> Result<PathBuf> {
    let apt = Apt::updated(work, Some("arm64"))?;
    let suite = apt.suite_to_use(LINUX, oldest)?;
    // The package names the newest kernel as what it depends on.
    let newest = format!("{LINUX}/{suite}");
    let output = apt.run("apt-cache", &["depends", "--important", &newest])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let depends = |line: &str| Some(line.trim().strip_prefix("Depends: ")?.to_owned());
    let package = text.lines().find_map(depends);
    let package = package.with_context(|| format!("{newest} depends on no kernel"))?;
    let step = ui::Step::new("fetching Linux");
    apt.run(
        "apt-get",
        &["-q", "download", &format!("{package}/{suite}")],
    )?;
    drop(step);
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    for package in packages_in(work)? {
        unpack_one(&package, &root)?;
    }
    Ok(root)
}

/// The line for people that enables backports by hand, for a Debian release that needs it.
pub fn backports_hint() -> Option<String> {
    let codename = codename()?;
    let entries = sources::of_release(&machine_sources().ok()?, &codename);
    let entry = sources::backports(&entries, &codename)?;
    let (uri, suite) = (entry.uris.first()?, entry.suites.first()?);
    Some(format!(
        "    if that one is too old:\n    \
         echo 'deb {uri} {suite} main' | sudo tee /etc/apt/sources.list.d/{suite}.list\n    \
         sudo apt-get update && sudo apt-get install -t {suite} {PACKAGE}\n"
    ))
}

/// The release's code name, from os-release.
fn codename() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
}

/// All sources of the machine, from wherever its apt configuration says they are.
fn machine_sources() -> Result<Vec<Entry>> {
    let keys = [
        "LIST",
        "Dir::Etc::sourcelist/f",
        "PARTS",
        "Dir::Etc::sourceparts/d",
    ];
    let output = Command::new("apt-config").arg("shell").args(keys).output();
    let output = output.context("apt is not installed")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        PathBuf::from(line.unwrap_or_default().trim_matches('\''))
    };
    let parts = fs::read_dir(path("PARTS")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    files.push(path("LIST"));
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => entries.extend(sources::parse_deb822(&text)),
            Some("list") => entries.extend(sources::parse_list(&text)),
            _ => {}
        }
    }
    Ok(entries)
}

/// apt with private directories.
struct Apt {
    work: PathBuf,
    codename: String,
}

impl Apt {
    /// With lists of the machine's release and its backports, for another architecture if given.
    fn updated(work: &Path, architecture: Option<&str>) -> Result<Self> {
        let codename = codename().context("this is not a Debian-like system")?;
        let entries = sources::of_release(&machine_sources()?, &codename);
        ensure!(
            !entries.is_empty(),
            "apt has no sources for the release {codename}"
        );
        let apt = Self::new(work, codename, architecture)?;
        let _step = ui::Step::new("fetching the list of packages");
        let with_backports = sources::backports(&entries, &apt.codename);
        let all: Vec<Entry> = entries.iter().cloned().chain(with_backports).collect();
        // Not every release has backports; without them the release itself may be new enough.
        if apt.update(&all).is_err() {
            apt.update(&entries)?;
        }
        Ok(apt)
    }

    fn new(work: &Path, codename: String, architecture: Option<&str>) -> Result<Self> {
        for dir in ["apt/state/lists/partial", "apt/cache/archives/partial"] {
            fs::create_dir_all(work.join(dir))?;
        }
        let apt = Self {
            work: work.to_owned(),
            codename,
        };
        let dir = work.join("apt");
        let dir = dir
            .to_str()
            .filter(|dir| !dir.contains('"'))
            .context("odd directory name")?;
        let own = format!(
            "Dir::State \"{dir}/state/\";\nDir::State::lists \"{dir}/state/lists/\";\n\
             Dir::State::status \"{dir}/status\";\nDir::Cache \"{dir}/cache/\";\n\
             Dir::Cache::archives \"{dir}/cache/archives/\";\n\
             Dir::Etc::sourcelist \"{dir}/tessera.sources\";\n"
        );
        let other = architecture.map_or_else(String::new, |name| {
            format!("APT::Architecture \"{name}\";\nAPT::Architectures \"{name}\";\n")
        });
        fs::write(apt.file("apt.conf"), format!("{CONFIGURATION}{own}{other}"))?;
        fs::write(apt.file("status"), "")?;
        Ok(apt)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.work.join("apt").join(name)
    }

    /// Runs one of apt's tools; a failure carries what it said.
    fn run(&self, tool: &str, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(tool);
        command
            .arg("-c")
            .arg(self.file("apt.conf"))
            .args(args)
            .current_dir(&self.work);
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        let output = command
            .output()
            .with_context(|| format!("cannot run {tool}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{tool} {} failed:\n{}", args.join(" "), said.trim());
        }
        Ok(output)
    }

    fn update(&self, entries: &[Entry]) -> Result<()> {
        let text: String = entries.iter().map(|entry| entry.stanza() + "\n").collect();
        fs::write(self.file("tessera.sources"), text)?;
        self.run("apt-get", &["-q", "update"])?;
        Ok(())
    }

    /// The suite to take a package from: the release itself if it is new enough there.
    fn suite_to_use(&self, package: &str, oldest: (u32, u32)) -> Result<String> {
        let codename = &self.codename;
        let output = self.run("apt-cache", &["madison", package])?;
        let offers = String::from_utf8_lossy(&output.stdout).into_owned();
        choose_suite(&offers, codename, oldest).with_context(|| {
            let offers = offers.trim();
            let offers = if offers.is_empty() { "nothing" } else { offers };
            let wanted = format!("{package} that is new enough");
            format!("{codename} and its backports offer no {wanted}, but\n{offers}")
        })
    }

    /// Downloads QEMU and what it needs beyond what the system has.
    fn download(&self, suite: &str) -> Result<Vec<PathBuf>> {
        let mut last = None;
        for status in status_files() {
            fs::write(self.file("status"), status)?;
            let args = [
                "-q",
                "-y",
                "-t",
                suite,
                "--download-only",
                "install",
                PACKAGE,
            ];
            match self.run("apt-get", &args) {
                Ok(_) => return packages_in(&self.file("cache/archives")),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("nothing was tried")?)
    }
}

/// What apt is told to be installed, best first: the system without its own QEMU (of another
/// version, whose other packages would be upgraded along); the system as it is; nothing at all,
/// should the system's packages be inconsistent.
fn status_files() -> [String; 3] {
    let system = fs::read_to_string("/var/lib/dpkg/status").unwrap_or_default();
    let others = system
        .split_inclusive("\n\n")
        .filter(|one| !one.starts_with("Package: qemu"));
    [others.collect(), system.clone(), String::new()]
}

/// The first suite, the release before its backports, that has a version not older than `oldest`,
/// from lines such as `qemu-system-arm | 1:7.2+dfsg-7 | http://mirror bookworm/main amd64 Packages`.
fn choose_suite(offers: &str, codename: &str, oldest: (u32, u32)) -> Option<String> {
    let offers = offers.lines();
    let mut good: Vec<&str> = offers.filter_map(|line| good_offer(line, oldest)).collect();
    good.sort_by_key(|suite| (suite.ends_with("-backports"), *suite != codename));
    good.first().map(|suite| (*suite).to_owned())
}

fn good_offer(line: &str, oldest: (u32, u32)) -> Option<&str> {
    let mut columns = line.split('|').map(str::trim);
    let (version, origin) = (columns.nth(1)?, columns.next()?);
    let upstream = version
        .split_once(':')
        .map_or(version, |(_, upstream)| upstream);
    let mut numbers = upstream
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next()?, numbers.next().unwrap_or(0));
    let suite = origin.split_whitespace().nth(1)?.split('/').next()?;
    (version >= oldest).then_some(suite)
}

fn packages_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    Ok(files
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

/// Unpacks QEMU and libraries. The C library stays the system's, with its loader.
fn unpack(packages: &[PathBuf], work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    for package in packages {
        let name = package
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let wanted = name.starts_with("qemu-system-") || name.starts_with("lib");
        if !wanted || name.starts_with("libc6_") || name.starts_with("libc-") {
            continue;
        }
        unpack_one(package, &root)?;
    }
    Ok(root)
}

fn unpack_one(package: &Path, root: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    let output = command.arg("-x").arg(package).arg(root).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cannot unpack {}: {}",
        package.display(),
        said.trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: &str = "\
qemu-system-arm | 1:10.0.2+ds-2+deb13u1~bpo12+1 | http://m.example/debian bookworm-backports/main amd64 Packages
qemu-system-arm | 1:7.2+dfsg-7+deb12u18+b3 | http://m.example/debian bookworm/main amd64 Packages
";

    #[test]
    fn backports_are_used_only_where_the_release_is_too_old() {
        let choose = |offers: &str| choose_suite(offers, "bookworm", (8, 0));
        assert_eq!(choose(OFFERS).as_deref(), Some("bookworm-backports"));
        let newer = OFFERS.replace("1:7.2+dfsg", "1:8.2.2+dfsg");
        assert_eq!(choose(&newer).as_deref(), Some("bookworm"));
        let old = OFFERS.replace("1:10.0.2", "1:7.9");
        assert_eq!(choose(&old), None);
        assert_eq!(choose(""), None);
    }

    #[test]
    fn a_minor_version_counts_as_a_number() {
        let line = "linux-image-cloud-arm64 | 6.12.95-1~bpo12+1 | http://m bookworm-backports/main";
        assert_eq!(good_offer(line, (6, 12)), Some("bookworm-backports"));
        assert_eq!(good_offer(line, (6, 2)), Some("bookworm-backports"));
        assert_eq!(good_offer(line, (6, 13)), None);
    }

    #[test]
    fn the_system_is_offered_to_apt_without_its_own_qemu_first() {
        let [without, with, empty] = status_files();
        assert!(!without.contains("\nPackage: qemu"));
        assert!(with.len() >= without.len());
        assert!(empty.is_empty());
    }
}
