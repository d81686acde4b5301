//! T5: the example servers, which are native programs, and what they do to unmodified ones.

use anyhow::Result;
use libtest_mimic::Trial;

use crate::matrix::{Cell, ONE};
use crate::outcome::Ending;
use crate::stage::Stage;
use crate::{env, report, trial};

use Ending::Exit;

/// With one CPU, where servers and clients take turns, and with four.
const CELLS: &[Cell] = &[ONE[0], Cell { cpus: 4, ..ONE[0] }];

/// What makes a file.
type Contents = fn() -> Vec<u8>;

/// A server, what is in the archive beside it, and what must be seen.
#[derive(Clone, Copy)]
struct Service {
    /// Its name and arguments; those that are names of our programs are put into the archive.
    args: &'static [&'static str],
    /// A further file of the archive.
    file: Option<(&'static str, Contents)>,
    ending: Ending,
    /// What stands on the console, in this order.
    says: &'static [&'static str],
    /// Memory of the machine, if it is to be another than usual.
    memory: Option<&'static str>,
    /// With one CPU the kernel turns from caller to server, or back, past its queues so often at least.
    turns: u64,
}

const fn service(
    args: &'static [&'static str],
    ending: Ending,
    says: &'static [&'static str],
) -> Service {
    Service {
        args,
        file: None,
        ending,
        says,
        turns: 0,
        memory: None,
    }
}

const fn turning(turns: u64, service: Service) -> Service {
    Service { turns, ..service }
}

const fn with(service: Service, name: &'static str, contents: Contents) -> Service {
    Service {
        file: Some((name, contents)),
        ..service
    }
}

const SERVICES: &[Service] = &[
    service(
        &["squares"],
        Exit(0),
        &[
            "asked for the page at 0x0\n3 squared is 9\n1000 squared is 1000000\n",
            "asked for the page at 0x2faf0000\n100000000 squared is 10000000000000000\n",
        ],
    ),
    turning(
        2000,
        service(
            &["echo"],
            Exit(0),
            &[
                "server: 42 from client 1\n",
                "client: 7 came back, I am client 1\n",
                "server: lent `what the client wrote`\n",
                "client: now it says `WHAT THE CLIENT WROTE`\n",
                "client: an answer after 5 ms\n",
                "client: time-out\n",
                "server: the bell rang\n",
                "client: a call and its answer: ",
                "server: client 1 exited with status 0, 1004 calls\n",
                "client: 7 came back, I am client 2\n",
                "server: client 2 exited with status 0, 1004 calls\n",
                "server: waiting for a process that spins: Err(TimedOut)\n",
                "server: it was ended by signal 9",
            ],
        ),
    ),
    service(
        &["rtc"],
        Exit(0),
        &[
            "client: it is later than 2020: true\n",
            "rtc: alarm 1, interrupt 1\n",
            "rtc: alarm 2, interrupt 1\n",
            "rtc: alarm 3, interrupt 1\n",
            "rtc: 3 alarms, the client exited with status 0\n",
        ],
    ),
    service(
        &["pager", "-", "hello", "two words"],
        Exit(0),
        &[
            "Hello from EL0.\narg 0: hello\narg 1: two words\n",
            "pager: ",
            " pages supplied\n",
            " a page\n",
            "pager: hello exited with status 0\n",
        ],
    ),
    with(
        service(
            &["pager", "numbers", "sum"],
            Exit(0),
            &[
                "200001 bytes, sum 24900000, first bytes 6146\n",
                "pager: sum exited with status 0\n",
            ],
        ),
        "numbers",
        numbers,
    ),
    service(
        &["pager", "-", "pressure", "50"],
        Exit(0),
        &["pressure: pass (", "pager: pressure exited with status 0\n"],
    ),
    service(
        &["pager", "--dies", "2", "-", "hello"],
        Exit(135),
        &["pager: 2 requests", "pager: hello was ended by signal 7"],
    ),
    service(
        &["pager", "--hangs", "2", "-", "hello"],
        Exit(135),
        &[
            "pager: no answer for offset 0x",
            "pager: hello was ended by signal 7",
        ],
    ),
    service(
        &["pager", "-", "no-such-program"],
        Exit(1),
        &["pager: there is no such file in the initial RAM disk\n"],
    ),
    with(
        service(
            &["pager", "-", "numbers"],
            Exit(1),
            &["pager: not an ELF file, or a damaged one\n"],
        ),
        "numbers",
        numbers,
    ),
    service(&["pager"], Exit(2), &["usage: pager "]),
    service(
        &["faultlog", "hello", "one"],
        Exit(0),
        &[
            "execute  0x",
            "arg 1: one\n",
            "kind      faults ",
            "read ",
            "write ",
            "execute ",
            "faultlog: hello exited with status 0\n",
        ],
    ),
    service(
        &["faultlog", "faults", "null-read"],
        Exit(139),
        &[
            "unresolved: read 0x0  pc 0x",
            "signal 11, code 1\n",
            "faultlog: faults was ended by signal 11, address 0x0",
        ],
    ),
    service(
        &["writeback"],
        Exit(0),
        &[
            "page 1 was written\npage 5 was written\npage 30 was written\ndropped 3 clean pages\n",
            "3 of 3 pages say what they said\nasked 6 times\n",
        ],
    ),
    service(
        &["hoard"],
        Exit(0),
        &[
            "hoard: refused, and refused again after as many pages: true\n",
            "hoard: within the limit: true\n",
            "hoard: the child has ended, and there is memory\n",
        ],
    ),
    Service {
        memory: Some("128M"),
        ..service(
            &["shortage", "192"],
            Exit(0),
            &[
                "first time: 0 of 49152 pages are wrong\n",
                "second time: 0 of 49152 pages are wrong\n",
                "some pages came again\n",
            ],
        )
    },
    service(
        &["sampler", "alloc"],
        Exit(0),
        &[
            "alloc: pass (",
            " samples\n",
            " %  0x0000",
            "sampler: alloc exited with status 0\n",
        ],
    ),
    with(
        turning(
            5,
            service(
                &["persona", "signals", "letter"],
                Exit(0),
                &[
                    "persona: openat letter: descriptor 3\n",
                    "A letter to EL0.\n",
                    "persona: signal 11 for address 0x",
                    "signals: pass (",
                    "persona: signals exited with status 0\n",
                ],
            ),
        ),
        "letter",
        letter,
    ),
    turning(
        100,
        service(&["killers", "faults"], Exit(0), &["killers: pass ("]),
    ),
    service(
        &["persona", "faults", "readonly-write"],
        Exit(139),
        &["persona: faults was ended by signal 11"],
    ),
];

/// Bytes whose sum is known.
fn numbers() -> Vec<u8> {
    (0..200_001u32).map(|n| (n % 250) as u8).collect()
}

fn letter() -> Vec<u8> {
    b"A letter to EL0.\n".to_vec()
}

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let services = SERVICES.iter();
    let all = services.flat_map(|service| CELLS.iter().map(|cell| (*service, *cell)));
    all.map(|(service, cell)| {
        let name = format!("t5::{}[{}]", service.args.join("_"), cell.name());
        trial(name.clone(), move || service.run(&name, cell))
    })
    .collect()
}

impl Service {
    fn run(self, name: &str, cell: Cell) -> Result<()> {
        let mut stage = Stage::program(name, cell, self.args)?.witnessed();
        for arg in &self.args[1..] {
            if let Ok(file) = env::program(arg) {
                let bytes = std::fs::read(file)?;
                stage = stage.initrd(|initrd| initrd.bin(arg, bytes));
            }
        }
        if let Some((name, contents)) = self.file {
            stage = stage.initrd(|initrd| initrd.bin(name, contents()));
        }
        if let Some(memory) = self.memory {
            stage = stage.machine(|machine| machine.memory(memory));
        }
        stage.run()?.expect(self.ending, |booted| {
            in_order(&booted.ended.output, self.says)?;
            if cell.cpus == 1 {
                report::direct_switches(&booted.ended, self.turns)?;
            }
            report::check(&booted.ended, cell, false)
        })
    }
}

/// Whether each of these stands behind the one before it.
fn in_order(output: &[u8], says: &[&str]) -> Result<(), String> {
    let text = String::from_utf8_lossy(output);
    let mut rest = &text[..];
    for part in says {
        let (_, behind) = rest
            .split_once(part)
            .ok_or_else(|| format!("the output lacks {part:?}, or has it too early"))?;
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = include_str!("../../docs/native.md");

    #[test]
    fn what_is_said_must_be_said_in_order() {
        assert!(in_order(b"one two three", &["one", "three"]).is_ok());
        assert!(in_order(b"one two three", &["three", "one"]).is_err());
        assert!(in_order(b"one two", &["three"]).is_err());
        assert!(in_order(b"one", &["one", "one"]).is_err());
    }

    #[test]
    fn the_numbers_add_up_as_the_program_is_to_say() {
        let numbers = numbers();
        let sum: u64 = numbers.iter().map(|&byte| u64::from(byte)).sum();
        let firsts: u64 = numbers
            .iter()
            .step_by(4096)
            .map(|&byte| u64::from(byte))
            .sum();
        let line = format!("{} bytes, sum {sum}, first bytes {firsts}\n", numbers.len());
        let says = SERVICES.iter().flat_map(|service| service.says);
        assert!(says.into_iter().any(|said| **said == line), "{line}");
    }

    #[test]
    fn the_sample_in_the_documents_is_what_the_test_sees() {
        let squares = SERVICES.iter().find(|service| service.args == ["squares"]);
        let sample = squares.expect("the pager in forty lines").says.concat();
        assert!(NATIVE.contains(&sample));
    }
}
