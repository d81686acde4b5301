//! Serving the prompt, and the order in which programs are run.
//!
//! The prompt is served by whichever CPU is idle when something is typed. Its commands are for
//! people: they are not bounded by law 16.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use mm::trace::Categories;
use pgtable::Machine;
use sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sync::{SpinLock, rank};

use super::line::{Key, Line};
use crate::arch::{power, uart};
use crate::bootargs::{self, SelfTest};
use crate::handle::console::{self, Listener};
use crate::loader::stack::StackError;
use crate::loader::{self, ExecFail, Program};
use crate::memory::{self, OnlineError};
use crate::process::Process;
use crate::report::{self, stats};
use crate::sched::{self, stay};
use crate::syscall::native;
use crate::syscall::native::info::Growing;
use crate::syscall::random;
use crate::{control, print, process, selftest, thread, trace};

const HELP: &str = "\
help              this list
run NAME [ARGS]   run a program of the boot archive
programs          what can be run
meminfo           memory: RAM, reservations, frames, tables
maps [NAME]       map of the last program (of that name), as it was at its end
stats [NAME]      what it cost, as JSON
trace [N]         the newest N events, 40 if not said
trace CATEGORIES  trace these from now on: fault,zap,… or all, or none
online            bring RAM online that was held back
ptdump [user]     mappings of the kernel, or of the last program at its end: merged ranges,
                  contiguous runs, levels
quit              stop the machine
";
/// Where the archive keeps programs for `run`.
const FOLDER: &str = "bin/";

/// One CPU serves the prompt at a time.
static SERVING: AtomicBool = AtomicBool::new(false);
static LINE: SpinLock<Line, rank::Leaf> = SpinLock::new(Line::new());
static LAST_STATUS: AtomicU32 = AtomicU32::new(0);
/// The last programs, newest first.
static LAST: SpinLock<[Last; KEPT], rank::Leaf> = SpinLock::new([const { Last::new() }; KEPT]);
/// The name of the program that runs.
static NAME: SpinLock<String, rank::Leaf> = SpinLock::new(String::new());

/// Programs whose texts are kept.
const KEPT: usize = 3;
/// Events that `trace` shows.
const EVENTS: usize = 40;

/// Texts about a program that has ended.
struct Last {
    name: String,
    maps: String,
    tables: String,
    stats: String,
}

impl Last {
    const fn new() -> Self {
        Self {
            name: String::new(),
            maps: String::new(),
            tables: String::new(),
            stats: String::new(),
        }
    }
}

/// The boot CPU's way into the scheduler: the first program, the self-tests, or the prompt.
pub fn main_cpu() -> ! {
    thread::init();
    process::init();
    random::init(crate::arch::start::rng_seed());
    let args = bootargs::get();
    if args.icount {
        stay::measure();
    }
    sched::online();
    uart::enable_rx_irq();
    #[cfg(feature = "bench")]
    if let Some(group) = args.bench {
        power::exit(crate::bench::run(group));
    }
    match args.selftest {
        SelfTest::Off => first_program(),
        _ => power::exit(selftest::run()),
    }
    sched::enter()
}

/// Another CPU's way into the scheduler.
pub fn secondary_cpu() -> ! {
    sched::online();
    sched::enter()
}

fn first_program() {
    stats::begin();
    set_name("program");
    let loaded = Program::find(b"program").and_then(|program| start(&program, None));
    if let Err(error) = loaded {
        report::exec_fail(&error);
        after_program(report::EXEC_FAIL_STATUS);
    }
}

/// Loads a program and lets it run.
fn start(program: &Program, args: Option<&[u8]>) -> Result<(), ExecFail> {
    stats::begin();
    let thread = loader::load(program, args)?;
    native::endow(thread.process()).map_err(|_| ExecFail::Stack(StackError::NoMemory))?;
    console::listen(Listener::Program);
    if stats::started() {
        control::line(format_args!("el0 instructions={}", stats::first_el0()));
    }
    sched::make_runnable(thread);
    Ok(())
}

/// Keeps the map and the mappings of a program that has ended, for the prompt.
pub fn remember(process: &Process) {
    if bootargs::get().prompt {
        let mut maps = Growing::default();
        // What fits is kept.
        let _short = process.space().maps(&mut maps);
        let mut tables = Growing::default();
        let stay = ();
        let table = process.space().table();
        let _short = table.dump(&mut tables, &table.machine().read_side(&stay));
        let name = core::mem::take(&mut *NAME.lock());
        let (maps, tables) = (maps.0, tables.0);
        let mut newest = Last {
            name,
            maps,
            tables,
            stats: String::new(),
        };
        for place in LAST.lock().iter_mut() {
            core::mem::swap(place, &mut newest);
        }
        // The oldest is dropped here, with nothing locked.
    }
}

/// Keeps the figures of a program that has ended, for the prompt.
pub fn remember_stats(text: &str, end: &str) {
    if bootargs::get().prompt {
        let mut all = Growing::default();
        let _short = write!(all, "{text}{end}");
        let old = core::mem::replace(&mut LAST.lock()[0].stats, all.0);
        drop(old);
    }
}

/// The program that is started next has this name; as much of it as there is memory for.
fn set_name(name: &str) {
    let mut copy = Growing::default();
    let _short = copy.write_str(name);
    let old = core::mem::replace(&mut *NAME.lock(), copy.0);
    drop(old);
}

/// A program has ended, or could not be started: the prompt, or the end of the machine.
pub fn after_program(status: u32) {
    LAST_STATUS.store(status, Ordering::Relaxed);
    if !bootargs::get().prompt {
        power::exit(status);
    }
    console::listen(Listener::Prompt);
    show_prompt();
}

fn show_prompt() {
    print!("tessera> ");
}

/// Shows what is typed while a program runs, where a person is typing.
pub fn echo(byte: u8) {
    if bootargs::get().prompt {
        match byte {
            b'\n' => uart::write(b"\r\n"),
            byte => uart::write(&[byte]),
        }
    }
}

/// Takes what was typed at the prompt, if this CPU is the one to do it. Called while idle.
pub fn serve() {
    if console::listener() != Listener::Prompt || SERVING.swap(true, Ordering::Acquire) {
        return;
    }
    let mut byte = [0];
    while console::listener() == Listener::Prompt && console::take(&mut byte) == 1 {
        let (key, line) = {
            let mut line = LINE.lock();
            let key = line.key(byte[0]);
            (key, *line)
        };
        match key {
            Key::Added(byte) => uart::write(&[byte]),
            Key::Erased => uart::write(b"\x08 \x08"),
            Key::Ignored => {}
            Key::Complete | Key::Cancelled => {
                uart::write(b"\r\n");
                *LINE.lock() = Line::new();
                command(if key == Key::Complete {
                    line.text()
                } else {
                    ""
                });
            }
        }
    }
    SERVING.store(false, Ordering::Release);
}

fn command(line: &str) {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        None => {}
        Some("help") => print!("{HELP}"),
        Some("run") => return run(words.next(), line),
        Some("programs") => programs(),
        Some("meminfo") => show(memory::report),
        Some("maps") => show_last(words.next(), |last| &last.maps),
        Some("stats") => show_last(words.next(), |last| &last.stats),
        Some("trace") => trace(words.next()),
        Some("online") => online(),
        Some("ptdump") => match words.next() {
            None => show(memory::dump_kernel),
            Some("user") => show_last(None, |last| &last.tables),
            Some(word) => print!("ptdump {word}: ptdump, or ptdump user\n"),
        },
        Some("quit" | "exit") => power::exit(LAST_STATUS.load(Ordering::Relaxed)),
        Some(word) => print!("{word}: no such command; try help\n"),
    }
    show_prompt();
}

/// Prints what `write` writes, bit by bit.
fn show(write: fn(&mut dyn Write) -> core::fmt::Result) {
    struct Console;
    impl Write for Console {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            print!("{text}");
            Ok(())
        }
    }
    // Printing does not fail.
    let _printed = write(&mut Console);
}

/// Prints a text about the last program, or the last one of that name.
fn show_last(name: Option<&str>, which: fn(&Last) -> &String) {
    let index = {
        let last = LAST.lock();
        let mut kept = last.iter();
        kept.position(|last| name.is_none_or(|name| last.name == name))
    };
    let Some(index) = index else {
        let name = name.unwrap_or_default();
        return print!("{name} is none of the last {KEPT} programs\n");
    };
    let mut copy = Growing::default();
    let length = which(&LAST.lock()[index]).len();
    if copy.0.try_reserve(length).is_ok() {
        copy.0.push_str(which(&LAST.lock()[index]));
    }
    match copy.0.is_empty() {
        true => print!("nothing has run yet\n"),
        false => print!("{}\n", copy.0.trim_end()),
    }
}

/// `trace`: shows the newest events, or chooses what is traced from now on.
fn trace(word: Option<&str>) {
    let count = word.map_or(Some(EVENTS), |word| word.parse().ok());
    if let Some(count) = count {
        let mut text = Growing::default();
        return match trace::write_newest(&mut text, count) {
            Ok(()) => print!("{}", text.0),
            Err(_) => print!("no memory for so many events\n"),
        };
    }
    let word = word.filter(|word| *word != "none").unwrap_or_default();
    match Categories::parse(word) {
        Err(word) => print!(
            "trace {word}: no such category; known are {}\n",
            Categories::ALL
        ),
        Ok(categories) if trace::choose(categories) => print!("traced from now on: {categories}\n"),
        Ok(_) => print!("nothing can be traced (boot argument tessera.trace)\n"),
    }
}

fn online() {
    match memory::online_held() {
        Ok(bytes) => print!("{} KiB brought online\n", bytes >> 10),
        Err(OnlineError::NoneHeld) => print!("no RAM is held back (boot argument tessera.hold)\n"),
        Err(OnlineError::NoMemory) => print!("no memory for the metadata of that RAM\n"),
    }
}

fn programs() {
    for name in loader::names() {
        match name.strip_prefix(FOLDER) {
            Some(short) => print!("{short}\n"),
            None if name == "program" => print!("program (what the machine was started with)\n"),
            None => {}
        }
    }
}

/// `run NAME [ARGS]`: the prompt comes back when the program has ended.
fn run(name: Option<&str>, line: &str) {
    let Some(name) = name else {
        print!("run what? try programs\n");
        return show_prompt();
    };
    if let Err(error) = run_file(name, line) {
        print!("{name}: {error}\n");
        show_prompt();
    }
}

fn run_file(name: &str, line: &str) -> Result<(), ExecFail> {
    let mut path = [0; FOLDER.len() + super::line::LINE_MAX];
    path[..FOLDER.len()].copy_from_slice(FOLDER.as_bytes());
    path[FOLDER.len()..FOLDER.len() + name.len()].copy_from_slice(name.as_bytes());
    let path = match name {
        "program" => name.as_bytes(),
        _ => &path[..FOLDER.len() + name.len()],
    };
    let mut args = Vec::new();
    set_name(name);
    let no_room = ExecFail::Stack(StackError::NoMemory);
    args.try_reserve_exact(line.len() + 1)
        .map_err(|_| no_room)?;
    for word in line.split_ascii_whitespace().skip(1) {
        args.extend_from_slice(word.as_bytes());
        args.push(0);
    }
    start(&Program::find(path)?, Some(&args))
}
