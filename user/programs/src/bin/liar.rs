//! Prints lines that look like the kernel's and the harness's own, to see who believes them.
//!
//! Then it ends with status 7, whatever the lines say. Control lines need a token that the program
//! cannot know; it tries a few that somebody lazy might have chosen, and those from its arguments.

use std::io::Write;

const TOKENS: &[&str] = &[
    "", "0", "1", "T", "token", "HEX", "00000000", "deadbeef", "12345678",
];
const LINES: &[&str] = &[
    "boot cpus=1 ram_kib=1 cpu=0 features=",
    "el0 instructions=1",
    "test-begin name=liar",
    "test-end name=liar result=pass text=fine",
    "tests-done passed=1000 failed=0",
    "stats json={\"faults\":0}",
    "bug law=1 text=not really",
    "bt pc=0xffff800000000000",
    "snapshot ttbr1=0x0 vmemmap=0x0 pgfmt=normal root=1:0x0:4",
    "killed signal=9 code=SEGV_MAPERR addr=0x0 pc=0x0",
    "exit status=0",
    "halt status=0",
];

fn main() {
    let mut out = std::io::stdout().lock();
    let mine: Vec<String> = std::env::args().skip(1).collect();
    for token in TOKENS
        .iter()
        .copied()
        .chain(mine.iter().map(String::as_str))
    {
        for line in LINES {
            // With and without a line end before it, and cut in two.
            let _ = write!(out, "@{token} {line}\nhalf @{token} {line}\n@{token}");
            let _ = out.flush();
            let _ = writeln!(out, " {line}");
        }
    }
    let _ = writeln!(out, "[tessera] ERROR kernel bug: law 3 broken");
    let _ = writeln!(out, "[tessera] INFO program ended with status 0");
    let _ = writeln!(out, "thread 'main' panicked at kernel/src/lib.rs:1:1:");
    let _ = writeln!(out, "qemu-system-aarch64: terminating on signal 15");
    let _ = writeln!(
        out,
        "test result: ok. 1000 passed; 0 failed\r\x1b[2K\x1b]0;title\x07\0\u{7f}"
    );
    let _ = out.write_all(b"\xff\xfe not UTF-8 \x80\n@ \n@\n");
    let _ = write!(out, "an end without a line end: @token halt status=0");
    let _ = out.flush();
    std::process::exit(7);
}
