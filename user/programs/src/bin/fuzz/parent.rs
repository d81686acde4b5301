//! The process that starts the others, watches over them, ends them, and says what they have done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use abi::calls::TABLE;
use abi::slot;
use programs::random::Random;
use programs::{check, require};
use tessera::{
    Binding, Child, Command, End, Endpoint, Error, Limits, MemoryObject, Process, Usage, find,
};

use crate::child::{DAMAGED, ENDPOINT, TALLY};
use crate::linux;
use crate::servers::Servers;
use crate::tally::{self, Door, Tally};

/// The first argument of a child.
pub const CHILD: &str = "child";
/// Children at a time.
const CHILDREN: usize = 3;
/// Most calls of a child.
const CALLS: u64 = 40_000;
/// How often they are looked at.
const BEAT: Duration = Duration::from_millis(5);
/// How long a child may make no call: all its threads may be suspended, or wait for each other.
const STILL: Duration = Duration::from_millis(400);
/// How long the end of a process may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// SIGKILL.
const KILL: u32 = 9;
/// Lines of progress.
const LINES: u64 = 20;
/// From so many calls on, all of those that are known must have been made, and most have worked.
const MANY: u64 = 1_000_000;

/// A child, and since when it has made no call.
struct Watched {
    process: Process,
    place: usize,
    calls: u64,
    since: Instant,
}

struct Parent {
    random: Random,
    own: Process,
    file: MemoryObject,
    counters: MemoryObject,
    tally: Tally,
    endpoint: Arc<Endpoint>,
    children: [Option<Watched>; CHILDREN],
    started: u64,
    since: Instant,
    ended: [u64; 3],
}

/// Has about `count` calls made, or a few more.
pub fn run(seed: u64, count: u64) {
    check::section(10, "processes of random calls");
    println!("fuzz: seed {seed}, {count} calls");
    let canary: Vec<u64> = (0..8192).map(|at| at ^ seed).collect();
    let mut parent = Parent::new(seed);
    let servers = Servers::start(&parent.endpoint, seed);
    let before = parent.usage();
    let mut said = 0;
    while parent.tally.total() < count {
        parent.beat(count);
        let total = parent.tally.total();
        if total * LINES / count.max(1) > said {
            said = total * LINES / count.max(1);
            parent.progress(total);
        }
        let intact = canary
            .iter()
            .zip(0u64..)
            .all(|(word, at)| *word == at ^ seed);
        require!(intact, "memory of the parent has changed");
    }
    parent.finish();
    let after = parent.usage();
    require!(
        (after.handles, after.threads) == (before.handles, before.threads)
            && after.pages < before.pages + 512,
        "{before:?} before, {after:?} after"
    );
    servers.stop();
    report(parent.tally, count);
    parent.progress(parent.tally.total());
    check::pass();
}

fn must<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => check::fail(file!(), line!(), &format!("{what}: {error}")),
    }
}

impl Parent {
    fn new(seed: u64) -> Self {
        let counters = must(
            "counters",
            MemoryObject::create("tally", tally::BYTES as u64),
        );
        let file = must("this program", find("program"));
        Self {
            random: Random::new(seed),
            own: must("this process", Process::own()),
            file: must("its file", MemoryObject::with_contents("fuzz", file)),
            tally: Tally::map(counters.as_ref().number(), CHILDREN),
            counters,
            endpoint: Arc::new(must("an endpoint", Endpoint::create())),
            children: [const { None }; CHILDREN],
            started: 0,
            since: Instant::now(),
            ended: [0; 3],
        }
    }

    fn usage(&self) -> Usage {
        must("usage", self.own.usage())
    }

    /// Looks at each child in turn: starts one where there is none, ends one that does nothing, or at
    /// random.
    fn beat(&mut self, count: u64) {
        for at in 0..CHILDREN {
            match self.children[at].take() {
                None => self.children[at] = Some(self.start(at, count)),
                Some(child) => self.children[at] = self.watch(child),
            }
        }
    }

    /// Waits a little for a child's end; what is left of it.
    fn watch(&mut self, mut child: Watched) -> Option<Watched> {
        match child.process.wait_within(Some(BEAT)) {
            Ok(end) => return self.end(end),
            Err(Error::TimedOut) => {}
            Err(error) => check::fail(file!(), line!(), &format!("a child: {error}")),
        }
        let calls = self.tally.beats(child.place);
        if calls != child.calls {
            (child.calls, child.since) = (calls, Instant::now());
        }
        if child.since.elapsed() > STILL || self.random.chance(1) {
            return self.kill(&child);
        }
        Some(child)
    }

    /// Ends a child: it must be gone soon.
    fn kill(&mut self, child: &Watched) -> Option<Watched> {
        must("killing a child", child.process.kill(KILL));
        let end = must("a killed child", child.process.wait_within(Some(PATIENCE)));
        self.end(end)
    }

    fn end(&mut self, end: End) -> Option<Watched> {
        require!(
            end != End::Exited(DAMAGED),
            "memory of a child has changed that no call was given"
        );
        self.ended[match end {
            End::Exited(_) => 0,
            End::Killed { signal: KILL, .. } => 1,
            End::Killed { .. } => 2,
        }] += 1;
        None
    }

    /// Starts a child.
    fn start(&mut self, place: usize, count: u64) -> Watched {
        self.started += 1;
        let client = must("a client", self.endpoint.client(self.started));
        let limits = Limits {
            pages: 6000 + self.random.below(6000),
            handles: 64 + self.random.below(192),
            threads: 8 + self.random.below(24),
        };
        let calls = 1 + self.random.below(CALLS.min(count.max(4)));
        let seed = self.random.next_u64().to_string();
        let mut command = Command::new("fuzz", must("its file", find("program")))
            .object(&self.file)
            .args([CHILD, &seed, &calls.to_string(), &place.to_string()])
            .console()
            .limits(limits)
            .handle(ENDPOINT, &client)
            .handle(TALLY, &self.counters);
        for binding in [Binding::Exceptions, Binding::Calls, Binding::Faults] {
            if self.random.chance(64) {
                command = command.bind(binding, &self.endpoint);
            }
        }
        let Child { process, thread } = must("a child", command.prepare(&self.own));
        must(
            "its own handle",
            process.give(Some(slot::PROCESS), &process, None),
        );
        if self.random.chance(64)
            && let Ok(machine) = tessera::Machine::own()
        {
            must(
                "the machine",
                process.give(Some(slot::MACHINE), &machine, None),
            );
        }
        must("its thread", thread.resume());
        Watched {
            process,
            place,
            calls: self.tally.beats(place),
            since: Instant::now(),
        }
    }

    fn finish(&mut self) {
        for at in 0..CHILDREN {
            if let Some(child) = self.children[at].take() {
                self.kill(&child);
            }
        }
    }

    fn progress(&self, total: u64) {
        let [exited, killed, other] = self.ended;
        println!(
            "fuzz: {total} calls in {} ms, {} processes: {exited} exited, {killed} killed, {other} ended by other signals",
            self.since.elapsed().as_millis(),
            self.started
        );
    }
}

/// Says what was called and what worked, and sees that it was not all nonsense.
fn report(tally: Tally, count: u64) {
    let native = TABLE.iter().map(|call| (call.name, call.number)).collect();
    for (door, calls) in [(Door::Linux, linux::names()), (Door::Native, native)] {
        let (mut made, mut worked) = (0, 0);
        for &(name, number) in &calls {
            let [times, good] = tally.of(door, number);
            println!("fuzz: {name} {times} {good}");
            made += u64::from(times > 0);
            worked += u64::from(good > 0);
        }
        let [times, good] = tally.sum(door);
        println!(
            "fuzz: {door:?}: {times} calls, {good} worked; {made} of {} known numbers, {worked} worked",
            calls.len()
        );
        if count >= MANY {
            let all = calls.len() as u64;
            require!(made == all, "{made} of {all} calls were made");
            require!(
                worked * 10 >= all * 8,
                "{worked} of {all} calls have worked"
            );
            require!(good * 5 >= times, "{good} of {times} calls have worked");
        }
    }
}
