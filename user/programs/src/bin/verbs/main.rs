//! Random sequences of the memory calls with random arguments: `verbs [full] COUNT SEED...`.
//!
//! Nothing is checked here: the program writes down each call, its answer and what can be seen of
//! the arena afterwards, in words that do not depend on where a kernel places things. The same
//! program runs on Linux, where its output is recorded, and on Tessera, where it must be the same
//! line by line. With `full` the map of the arena follows every call. As the first process of a
//! machine the program mounts /proc and switches the machine off at the end.

mod arena;
mod choose;
mod files;
mod first;
mod look;
mod out;
mod ranges;
mod sequence;
mod touch;

use programs::check;
use sequence::Sequence;

fn main() {
    check::start("verbs");
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let full = words.first().is_some_and(|word| word == "full");
    words.drain(..usize::from(full));
    let numbers: Option<Vec<u64>> = words.iter().map(|word| word.parse().ok()).collect();
    let Some([count, seeds @ ..]) = numbers.as_deref() else {
        check::usage("verbs [full] COUNT SEED...");
    };
    let is_first = first::prepare();
    let mut sequence = Box::new(Sequence::new(full));
    for seed in seeds {
        sequence.run(*seed, *count);
    }
    if is_first {
        first::power_off();
    }
}
