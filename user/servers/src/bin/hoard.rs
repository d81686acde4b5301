//! `hoard`: a process with a limit fills memory objects through descriptors, which no area of its own
//! shows, until it is refused; lets go, and fills as many again. Nobody else runs short.

use servers::{Outcome, arguments, finish, usage};
use tessera::{Command, End, Error, Limits, MemoryObject, PAGE, Process, find};

/// Pages that the process may have: more than its own stack and program.
const LIMIT: u64 = 4096;
/// Pages of one object.
const CHUNK: usize = 128;

fn main() -> std::process::ExitCode {
    let words = arguments();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    finish(
        "hoard",
        match words[..] {
            [] => watch(),
            ["child"] => hoard(),
            _ => usage("hoard"),
        },
    )
}

fn watch() -> Outcome {
    let image = find("program")?;
    let limits = Limits {
        pages: LIMIT,
        ..Limits::default()
    };
    let command = Command::new("program", image).arg("child").console();
    let child = command.limits(limits).spawn(&Process::own()?)?;
    let end = child.process.wait()?;
    // What the child was refused is there for others.
    let mine = MemoryObject::with_contents("mine", &vec![1; LIMIT as usize * PAGE])?;
    drop(mine);
    println!("hoard: the child has ended, and there is memory");
    Ok(u8::from(end != End::Exited(0)))
}

fn hoard() -> Outcome {
    let first = fill()?;
    let again = fill()?;
    println!(
        "hoard: refused, and refused again after as many pages: {}",
        first == again
    );
    let within = (CHUNK..=LIMIT as usize).contains(&first);
    println!("hoard: within the limit: {within}");
    Ok(u8::from(first != again || !within))
}

/// Fills objects until there is no room for a further one, and gives them up. How many pages they had.
fn fill() -> Result<usize, Error> {
    let chunk = vec![1; CHUNK * PAGE];
    let mut kept = Vec::new();
    loop {
        match MemoryObject::with_contents("hoard", &chunk) {
            Ok(object) => kept.push(object),
            Err(Error::NoSpace) => return Ok(kept.len() * CHUNK),
            Err(error) => return Err(error),
        }
    }
}
