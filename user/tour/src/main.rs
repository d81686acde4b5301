//! The built-in tour: what happened between reset and this program, shown by the program itself.
//!
//! It is an ordinary std program. Everything it knows comes from Linux system calls and from
//! `svc #1`, call 0 (INFO). Status 0: the tour is over; 1: the kernel below is not Tessera.

mod blocks;
mod costs;
mod report;
mod text;

use programs::memory::Area;
use programs::sys::{self, Info, PAGE, map};
use report::Topic;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    if !sys::is_tessera() {
        println!(
            "This tour shows the Tessera kernel from the inside, and the kernel below is \
             another one:\nit does not answer svc #1. Start the tour with: cargo xtask qemu"
        );
        return ExitCode::from(1);
    }
    let boot = ask(Info::Boot);
    say("");
    say(&text::paragraph(
        "Welcome to Tessera. You are reading the output of an ordinary static Linux program, \
         running at EL0 on a kernel whose heart is virtual memory. It will tell you what has \
         happened since reset. Nothing below is canned: each number was read or measured just \
         now.",
    ));
    type Step<'a> = (&'a str, &'a dyn Fn() -> String);
    let steps: [Step; 9] = [
        ("The machine", &|| machine(&boot)),
        ("Memory", &|| memory(&boot)),
        ("Page tables", &|| tables(&boot)),
        ("The first fault", &first_fault),
        ("A fault, live", &live_fault),
        ("Blocks and levels", &blocks::story),
        ("What things cost", &costs::table),
        ("What is forbidden", &forbidden),
        ("What comes next", &next),
    ];
    for (number, (title, step)) in (1..).zip(steps) {
        say(&format!("{}\n{}", text::heading(number, title), step()));
    }
    ExitCode::SUCCESS
}

/// Prints at once, with one line end after it; a console that is gone is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end());
    let _ = out.flush();
}

/// The kernel's text, or a sentence that says why there is none.
fn ask(kind: Info) -> String {
    match sys::info(kind) {
        Ok(text) if text.trim().is_empty() => "(the kernel has nothing to say here)\n".to_owned(),
        Ok(text) => text,
        Err(error) => format!("(the kernel refused: {})\n", sys::describe(error)),
    }
}

fn section(intro: &str, lines: &[&str]) -> String {
    let mut all = text::paragraph(intro);
    all.push('\n');
    if lines.is_empty() {
        all.push_str(&text::quoted(["(the kernel has nothing to say here)"]));
    }
    all.push_str(&text::quoted(lines.iter().copied()));
    all.push('\n');
    all
}

fn machine(boot: &str) -> String {
    section(
        "The first instruction ran with the MMU off. The kernel went down to EL1 if it had to, \
         built its first tables, turned the MMU on and moved to its high address. Then it read \
         the device tree and found this machine:",
        &report::lines_about(boot, Topic::Machine),
    )
}

fn memory(boot: &str) -> String {
    let mut all = section(
        "These are the banks of RAM, what was reserved in them, and where the sections of the \
         kernel's image lie. Every frame of RAM has a record that names its owner.",
        &report::lines_about(boot, Topic::Memory),
    );
    let own = ask(Info::Maps);
    all.push_str(&section(
        "And this is the map of the program you are watching. A mapping is a promise: its pages \
         come one by one, when they are touched.",
        &own.lines().collect::<Vec<_>>(),
    ));
    all
}

fn tables(boot: &str) -> String {
    section(
        "Every table page, at every level, in the kernel's space and in this program's, was \
         made by one constructor, with its level and owner written down. The tables of early \
         boot were made before there was an allocator; they were adopted afterwards, so that \
         a walk from any root meets constructed tables only.",
        &report::lines_about(boot, Topic::Tables),
    )
}

fn first_fault() -> String {
    let mut all = text::paragraph(
        "Nothing is mapped for a program before it asks, so it begins with faults. This was the \
         first: the walk that the hardware gave up on, and the same walk after the kernel had \
         answered.",
    );
    all.push('\n');
    all.push_str(&report::draw_walk(&ask(Info::FirstFault)));
    all
}

/// How many changed counters are listed.
const MOST_COUNTERS: usize = 16;

fn live_fault() -> String {
    let area = Area::new(PAGE, map::RW);
    let mut readings: [Vec<u8>; 3] = Default::default();
    // The first round makes the buffers and the code present, so that they do not fault later.
    for reading in &mut readings {
        if let Err(error) = sys::info_into(Info::Stats, reading) {
            let why = sys::describe(error);
            return text::paragraph(&format!("The kernel refuses its counters: {why}"));
        }
    }
    for (round, reading) in readings.iter_mut().enumerate() {
        if round == 2 {
            area.set(0, 1);
        }
        let _ = sys::info_into(Info::Stats, reading);
    }
    let [first, second, third] =
        readings.map(|text| report::numbers(&String::from_utf8_lossy(&text)));
    let mut all = text::paragraph(&format!(
        "A page was mapped at {:#x} and left alone. The counters were read twice in a row, \
         which shows what reading them costs. Then one byte of the page was written, and they \
         were read again.",
        area.addr(0)
    ));
    let _ = writeln!(
        all,
        "\n    {:<40} {:>15} {:>15}",
        "counter", "reading only", "with one write"
    );
    all.push_str(&differences(&first, &second, &third));
    all
}

fn differences(
    first: &[(String, i128)],
    second: &[(String, i128)],
    third: &[(String, i128)],
) -> String {
    let find = |list: &[(String, i128)], name: &str| {
        list.iter()
            .find(|(other, _)| other == name)
            .map_or(0, |(_, value)| *value)
    };
    let mut all = String::new();
    let rows = third.iter().filter_map(|(name, value)| {
        let middle = find(second, name);
        let (quiet, touched) = (middle - find(first, name), value - middle);
        (touched != quiet).then_some((name, quiet, touched))
    });
    let mut count = 0;
    for (name, quiet, touched) in rows {
        if count < MOST_COUNTERS {
            let name: String = name.chars().take(40).collect();
            let _ = writeln!(all, "    {name:<40} {quiet:>+15} {touched:>+15}");
        }
        count += 1;
    }
    if count == 0 {
        let _ = writeln!(all, "    (no counter moved differently)");
    } else if count > MOST_COUNTERS {
        let _ = writeln!(all, "    (and {} more)", count - MOST_COUNTERS);
    }
    all
}

fn forbidden() -> String {
    let mut all = text::paragraph(
        "A pointer given to the kernel is only an address. The kernel walks to it as the \
         program would, and says EFAULT where the program would fault:",
    );
    all.push('\n');
    let secret = Area::new(PAGE, map::PROT_NONE);
    let cases = [
        ("write(1, NULL, 8)", 0),
        ("write(1, an unmapped address, 8)", 0x30_0000_0000),
        ("write(1, a page with no access, 8)", secret.addr(0)),
        (
            "write(1, an address of the kernel, 8)",
            0xffff_8000_0000_0000,
        ),
    ];
    for (name, addr) in cases {
        let answer = sys::describe(sys::write(1, addr, 8));
        let _ = writeln!(all, "    {name:<44} {answer:>15}");
    }
    all.push('\n');
    all.push_str(&text::paragraph(&format!(
        "No memory should be writable and executable at once. Of this program's mappings, {}. \
         Of the ranges in the kernel's own tables, {}.",
        writable_and_executable(Info::Maps),
        writable_and_executable(Info::KernelTables),
    )));
    all
}

/// How many ranges of a map are both writable and executable, as the end of a sentence.
fn writable_and_executable(kind: Info) -> String {
    match sys::info(kind) {
        Ok(map) => {
            let (all, both) = report::count_ranges(&map);
            format!("{both} of {all} are")
        }
        Err(error) => format!("nothing is known ({})", sys::describe(error)),
    }
}

fn next() -> String {
    let mut all = text::paragraph(
        "Any static aarch64 Linux program can take this program's place. To build and run one \
         of your own:",
    );
    all.push('\n');
    all.push_str(&text::quoted([
        "rustup target add aarch64-unknown-linux-musl",
        "cargo build --release --target aarch64-unknown-linux-musl",
        "cargo xtask qemu -- path/to/program its arguments",
    ]));
    all.push('\n');
    all.push_str(&text::paragraph(
        "Its output appears here, and its exit status becomes the command's. With --stats \
         the kernel reports faults, tables, frames and flushes at the end. When something \
         goes wrong at EL0, the program ends with the signal it would get on Linux; the kernel \
         goes on. That was the tour.",
    ));
    all
}
