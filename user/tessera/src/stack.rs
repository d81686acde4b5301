//! The first stack of a program, as Linux lays it out (System V ABI, "Process Initialization").
//!
//! From the top down: eight bytes of zeros, the program's name, the environment's strings, the
//! arguments, the name of the platform, 16 random bytes; then the auxiliary vector, the pointers to
//! the environment and to the arguments, and how many arguments there are, at the stack pointer.

use std::hash::{BuildHasher, RandomState};

use crate::PAGE;
use crate::elf::Program;
use crate::sys::linux;

/// Where the stack ends.
pub const TOP: u64 = 0x7f_ffff_0000;
/// How far it may reach down. Below it nothing is ever mapped that was not asked for there.
pub const SIZE: u64 = 8 << 20;
/// Bytes that strings and pointers together may take.
const LIMIT: usize = 128 * 1024;

// Keys of the auxiliary vector (`getauxval(3)`).
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_EXECFN: u64 = 31;
const AT_MINSIGSTKSZ: u64 = 51;

/// A stack that is ready to be copied: `bytes` go to `sp` and end at [`TOP`].
#[derive(Debug)]
pub struct Stack {
    /// The first stack pointer, a multiple of 16.
    pub sp: u64,
    /// What is there from it on.
    pub bytes: Vec<u8>,
}

/// Builds the stack of a program; none if arguments and environment are too large.
pub fn build(name: &str, args: &[String], env: &[String], program: &Program) -> Option<Stack> {
    let mut strings = Strings::default();
    strings.push(&[0; 8]);
    let execfn = strings.text(name);
    let environment = strings.texts(env);
    let arguments = strings.texts(args);
    let platform = strings.text("aarch64");
    let random = strings.push(&random());
    let mut words = vec![args.len() as u64];
    words.extend(arguments.into_iter().chain([0]));
    words.extend(environment.into_iter().chain([0]));
    let own = |key| (key, linux::auxiliary(key));
    let pairs = [
        own(AT_HWCAP),
        (AT_PAGESZ, PAGE as u64),
        own(AT_CLKTCK),
        (AT_PHDR, program.headers),
        (AT_PHENT, 56),
        (AT_PHNUM, program.header_count),
        (AT_BASE, 0),
        (AT_FLAGS, 0),
        (AT_ENTRY, program.entry),
        (AT_UID, 0),
        (AT_EUID, 0),
        (AT_GID, 0),
        (AT_EGID, 0),
        (AT_SECURE, 0),
        (AT_RANDOM, random),
        own(AT_HWCAP2),
        (AT_EXECFN, execfn),
        (AT_PLATFORM, platform),
        own(AT_MINSIGSTKSZ),
        (0, 0),
    ];
    words.extend(pairs.into_iter().flat_map(|(key, value)| [key, value]));
    strings.under(&words)
}

/// What the library seeds its own hash maps with.
fn random() -> [u8; 16] {
    let word = || u128::from(RandomState::new().hash_one(0));
    (word() << 64 | word()).to_le_bytes()
}

/// Strings from [`TOP`] down, kept with the last byte first.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    fn push(&mut self, bytes: &[u8]) -> u64 {
        self.0.extend(bytes.iter().rev());
        TOP - self.0.len() as u64
    }

    fn text(&mut self, text: &str) -> u64 {
        self.push(&[0]);
        self.push(text.as_bytes())
    }

    /// All of a list, the first one lowest, and where each is.
    fn texts(&mut self, list: &[String]) -> Vec<u64> {
        let mut at: Vec<_> = list.iter().rev().map(|text| self.text(text)).collect();
        at.reverse();
        at
    }

    /// The words under the strings, so that the first is at a multiple of 16.
    fn under(self, words: &[u64]) -> Option<Stack> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let total = (bytes.len() + self.0.len()).next_multiple_of(16);
        bytes.resize(total - self.0.len(), 0);
        bytes.extend(self.0.iter().rev());
        (total <= LIMIT).then_some(Stack {
            sp: TOP - total as u64,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        segments: Vec::new(),
        entry: 0x20_0100,
        headers: 0x20_0040,
        header_count: 4,
        heap: 0x21_0000,
    };

    struct Seen(Stack);

    impl Seen {
        fn word(&self, at: u64) -> u64 {
            let at = (at - self.0.sp) as usize;
            u64::from_le_bytes(self.0.bytes[at..at + 8].try_into().unwrap())
        }

        fn text(&self, at: u64) -> &str {
            let rest = &self.0.bytes[(at - self.0.sp) as usize..];
            let end = rest.iter().position(|&byte| byte == 0).unwrap();
            std::str::from_utf8(&rest[..end]).unwrap()
        }

        fn texts(&self, at: &mut u64) -> Vec<&str> {
            let mut found = Vec::new();
            while self.word(*at) != 0 {
                found.push(self.text(self.word(*at)));
                *at += 8;
            }
            *at += 8;
            found
        }
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.into()).collect()
    }

    #[test]
    fn a_program_finds_what_it_was_given() {
        let (args, env) = (
            strings(&["x", "--flag", ""]),
            strings(&["A=1", "B=two words"]),
        );
        let seen = Seen(build("bin/x", &args, &env, &PROGRAM).unwrap());
        assert_eq!(seen.0.sp + seen.0.bytes.len() as u64, TOP);
        assert_eq!(seen.word(seen.0.sp), 3);
        let mut at = seen.0.sp + 8;
        assert_eq!(seen.texts(&mut at), args);
        assert_eq!(seen.texts(&mut at), env);
        let mut pairs = Vec::new();
        while seen.word(at) != 0 {
            pairs.push((seen.word(at), seen.word(at + 8)));
            at += 16;
        }
        let get = |key| pairs.iter().find(|pair| pair.0 == key).unwrap().1;
        assert_eq!((get(AT_ENTRY), get(AT_PHNUM)), (0x20_0100, 4));
        assert_eq!(seen.text(get(AT_EXECFN)), "bin/x");
        assert_eq!(seen.text(get(AT_PLATFORM)), "aarch64");
        assert_ne!(seen.word(get(AT_RANDOM)), 0);
    }

    #[test]
    fn the_stack_pointer_is_aligned_for_every_length() {
        for n in 0..64 {
            let args = ["a".repeat(n)];
            let stack = build("p", &args, &[], &PROGRAM).unwrap();
            assert!(stack.sp.is_multiple_of(16), "{n} bytes");
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert!(build("p", &["a".repeat(LIMIT)], &[], &PROGRAM).is_none());
        assert!(build("p", &vec![String::new(); LIMIT / 8], &[], &PROGRAM).is_none());
    }
}
