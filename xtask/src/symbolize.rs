//! Addresses looked up in the kernel's ELF: backtraces of kernel-bug reports, and where executed
//! instructions come from.

use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, bail};

/// One line per address (more where calls were inlined), innermost first. The kernel reports the
/// addresses of the calls, not those they return to, so they are looked up as they are. Without an ELF, or for
/// an address outside the kernel, the address alone.
pub fn backtrace(elf: Option<&Path>, addresses: &[u64]) -> String {
    let loader = elf.and_then(|elf| Loader::new(elf).ok());
    let frames = addresses.iter().enumerate();
    let lines = frames.map(|(depth, &address)| frame(loader.as_ref(), depth, address));
    lines.collect::<Vec<_>>().join("\n")
}

fn frame(loader: Option<&Loader>, depth: usize, address: u64) -> String {
    let mut lines = Vec::new();
    let head = format!("{depth:>4}: {address:#018x}");
    if let Some(loader) = loader
        && let Ok(mut frames) = loader.find_frames(address)
    {
        while let Ok(Some(frame)) = frames.next() {
            let name = frame
                .function
                .as_ref()
                .and_then(|name| name.raw_name().ok());
            lines.push(described(
                &head,
                lines.is_empty(),
                name.as_deref(),
                frame.location.as_ref(),
            ));
        }
    }
    if lines.is_empty() {
        let symbol = loader.and_then(|loader| loader.find_symbol(address));
        lines.push(described(&head, true, symbol, None));
    }
    lines.join("\n")
}

/// What the paths of the standard library's files begin with in its debug information.
const STANDARD_LIBRARY: &str = "/rustc/";

/// Where an instruction comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function it stands in.
    pub function: String,
    /// The function that was inlined there, if one was; else the same. Never one of the standard
    /// library if one of ours called it.
    pub innermost: String,
    /// The last two parts of the file's path, and the line.
    pub line: String,
}

/// The places of an ELF's instructions.
pub struct Places(Loader);

impl Places {
    /// Reads an ELF.
    ///
    /// # Errors
    /// It is none.
    pub fn of(elf: &Path) -> Result<Self> {
        match Loader::new(elf) {
            Ok(loader) => Ok(Self(loader)),
            Err(error) => bail!("cannot read {}: {error}", elf.display()),
        }
    }

    /// The place of the instruction at `address`.
    pub fn at(&self, address: u64) -> Place {
        let symbol = self.0.find_symbol(address);
        let function = symbol.map_or_else(|| format!("{address:#x}"), demangled);
        let (mut innermost, mut line) = (function.clone(), String::new());
        if let Ok(mut frames) = self.0.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let file = frame.location.as_ref().and_then(|location| location.file);
                let file = file.unwrap_or("?");
                let number = frame.location.as_ref().and_then(|location| location.line);
                let mut slashes = file.rmatch_indices('/');
                let from = slashes.nth(1).map_or(0, |(at, _)| at + 1);
                line = format!("{}:{}", &file[from..], number.unwrap_or(0));
                let name = frame.function.as_ref();
                let name = name.and_then(|name| name.raw_name().ok());
                innermost = name.map_or_else(|| function.clone(), |name| demangled(&name));
                if !file.starts_with(STANDARD_LIBRARY) {
                    break;
                }
            }
        }
        Place {
            function,
            innermost,
            line,
        }
    }
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

fn described(
    head: &str,
    first: bool,
    name: Option<&str>,
    location: Option<&addr2line::Location<'_>>,
) -> String {
    let name = name.map_or_else(|| "?".to_owned(), demangled);
    let indent = " ".repeat(head.len());
    let head = if first { head } else { &indent };
    let place = location.and_then(|location| {
        Some(format!(
            " at {}:{}",
            location.file?,
            location.line.unwrap_or(0)
        ))
    });
    format!("{head}  {name}{}", place.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_elf_the_addresses_are_still_shown() {
        let text = backtrace(None, &[0xffff_8000_0000_1000, 0x10]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("0xffff800000001000  ?"), "{text}");
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("   1: 0x0000000000000010"),
            "{text}"
        );
    }

    #[test]
    fn an_address_of_a_function_gets_its_name_and_line() {
        use object::{Object, ObjectSymbol};
        let own = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&own).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let is_ours = |name: &str| {
            format!("{:#}", rustc_demangle::demangle(name)) == "xtask::symbolize::backtrace"
        };
        let symbol = file
            .symbols()
            .find(|symbol| symbol.name().is_ok_and(is_ours))
            .unwrap();
        let text = backtrace(Some(&own), &[symbol.address()]);
        assert!(text.contains("xtask::symbolize::backtrace"), "{text}");
        assert!(text.contains("symbolize.rs:"), "{text}");
        let place = Places::of(&own).unwrap().at(symbol.address());
        assert_eq!(place.function, "xtask::symbolize::backtrace");
        assert!(place.line.starts_with("src/symbolize.rs:"), "{place:?}");
    }
}
