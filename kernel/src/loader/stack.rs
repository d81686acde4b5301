//! The first stack of a program: arguments, environment and auxiliary vector as Linux lays them
//! out (`fs/binfmt_elf.c` describes the order; the SysV ABI, "Process Initialization").
//!
//! From the top down: eight zero bytes, the name of the program, the environment strings, the
//! argument strings, the platform's name, 16 random bytes, padding, then the auxiliary vector, the
//! pointers to the environment, the pointers to the arguments and their number, at the initial
//! stack pointer.

use alloc::vec::Vec;
use core::fmt;

use linux_raw_sys::auxvec as at;

/// Bytes that strings and pointers together may take.
pub const LIMIT: usize = 128 * 1024;
/// Pairs that [`Auxv`] makes, with the closing `AT_NULL`.
const AUX_PAIRS: usize = 20;
const PLATFORM: &[u8] = b"aarch64";

/// Why no stack could be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackError {
    /// Arguments and environment together take this many bytes, more than [`LIMIT`].
    TooLarge(usize),
    /// The kernel has no memory to build it in.
    NoMemory,
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(n) => {
                write!(
                    f,
                    "arguments and environment take {n} bytes; at most {LIMIT} are supported"
                )
            }
            Self::NoMemory => f.write_str("no memory for the program's first stack"),
        }
    }
}

/// What the auxiliary vector tells the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auxv {
    /// Address of the program headers.
    pub headers: u64,
    /// Number of program headers.
    pub header_count: u64,
    /// Entry point of the program.
    pub entry: u64,
    /// `AT_HWCAP`.
    pub hwcap: u64,
    /// `AT_HWCAP2`.
    pub hwcap2: u64,
    /// 16 random bytes, for stack protectors and hash seeds.
    pub random: [u8; 16],
}

/// Smallest signal stack, `AT_MINSIGSTKSZ`: the kernel's signal frame with FP state and room for
/// the handler's own frame, Linux's value for arm64 without SVE.
const MIN_SIGNAL_STACK: u64 = 4720;

/// A stack ready to be copied: `bytes` go to `sp` and end at the top.
#[derive(Debug)]
pub struct Image {
    /// Initial stack pointer, a multiple of 16.
    pub sp: u64,
    /// Contents from `sp` up.
    pub bytes: Vec<u8>,
}

/// The strings of a list in which each string ends with a NUL; the last NUL may be missing.
pub fn strings(list: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let empty = list.is_empty();
    let list = list.strip_suffix(b"\0").unwrap_or(list);
    list.split(|&b| b == 0).filter(move |_| !empty)
}

/// Builds the stack that ends at `top` (a multiple of 16) for the NUL-separated `args` and `env`.
/// Without arguments the program gets its own name as the only one.
///
/// # Errors
/// See [`StackError`].
pub fn build(
    top: u64,
    name: &[u8],
    args: &[u8],
    env: &[u8],
    aux: &Auxv,
) -> Result<Image, StackError> {
    let args = if args.is_empty() { name } else { args };
    let (argc, envc) = (strings(args).count(), strings(env).count());
    let text: usize = strings(args).chain(strings(env)).map(|s| s.len() + 1).sum();
    let upper = 8 + name.len() + 1 + text + PLATFORM.len() + 1 + aux.random.len();
    let lower = 8 * (1 + argc + 1 + envc + 1 + 2 * AUX_PAIRS);
    let total = (upper + 15) & !15;
    let total = total + ((lower + 15) & !15);
    if total > LIMIT {
        return Err(StackError::TooLarge(total));
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(total)
        .map_err(|_| StackError::NoMemory)?;
    bytes.resize(total, 0);
    let mut writer = Writer {
        sp: top - total as u64,
        bytes,
        up: 0,
        down: total - 8,
    };
    writer.fill(name, args, env, argc, aux);
    Ok(Image {
        sp: writer.sp,
        bytes: writer.bytes,
    })
}

/// Fills strings from the top down and words from the bottom up.
struct Writer {
    sp: u64,
    bytes: Vec<u8>,
    up: usize,
    down: usize,
}

impl Writer {
    fn fill(&mut self, name: &[u8], args: &[u8], env: &[u8], argc: usize, aux: &Auxv) {
        let execfn = self.string(name);
        let env_at = self.block(env);
        let args_at = self.block(args);
        let platform = self.string(PLATFORM);
        let random = self.raw(&aux.random);
        self.word(argc as u64);
        self.pointers(args, args_at);
        self.pointers(env, env_at);
        self.auxv(aux, execfn, platform, random);
    }

    fn raw(&mut self, data: &[u8]) -> u64 {
        self.down -= data.len();
        self.bytes[self.down..self.down + data.len()].copy_from_slice(data);
        self.sp + self.down as u64
    }

    fn string(&mut self, text: &[u8]) -> u64 {
        self.raw(b"\0");
        self.raw(text)
    }

    /// All strings of a list, the first one lowest; returns the address of the first.
    fn block(&mut self, list: &[u8]) -> u64 {
        self.down -= strings(list).map(|s| s.len() + 1).sum::<usize>();
        let mut at = self.down;
        for text in strings(list) {
            self.bytes[at..at + text.len()].copy_from_slice(text);
            at += text.len() + 1;
        }
        self.sp + self.down as u64
    }

    fn word(&mut self, value: u64) {
        self.bytes[self.up..self.up + 8].copy_from_slice(&value.to_le_bytes());
        self.up += 8;
    }

    fn pointers(&mut self, list: &[u8], first: u64) {
        let mut at = first;
        for text in strings(list) {
            self.word(at);
            at += text.len() as u64 + 1;
        }
        self.word(0);
    }

    fn auxv(&mut self, aux: &Auxv, execfn: u64, platform: u64, random: u64) {
        let pairs: [(u32, u64); AUX_PAIRS] = [
            (at::AT_HWCAP, aux.hwcap),
            (at::AT_PAGESZ, 4096),
            (at::AT_CLKTCK, 100),
            (at::AT_PHDR, aux.headers),
            (at::AT_PHENT, 56),
            (at::AT_PHNUM, aux.header_count),
            (at::AT_BASE, 0),
            (at::AT_FLAGS, 0),
            (at::AT_ENTRY, aux.entry),
            (at::AT_UID, 0),
            (at::AT_EUID, 0),
            (at::AT_GID, 0),
            (at::AT_EGID, 0),
            (at::AT_SECURE, 0),
            (at::AT_RANDOM, random),
            (at::AT_HWCAP2, aux.hwcap2),
            (at::AT_EXECFN, execfn),
            (at::AT_PLATFORM, platform),
            (AT_MINSIGSTKSZ, MIN_SIGNAL_STACK),
            (at::AT_NULL, 0),
        ];
        for (key, value) in pairs {
            self.word(u64::from(key));
            self.word(value);
        }
    }
}

/// arm64's number; the header for it is per architecture, and host tests run on another one.
const AT_MINSIGSTKSZ: u32 = 51;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{string::String, vec};

    const TOP: u64 = 0x7f_ffff_f000;

    fn aux() -> Auxv {
        Auxv {
            headers: 0x20_0040,
            header_count: 4,
            entry: 0x20_0100,
            random: [7; 16],
            ..Auxv::default()
        }
    }

    struct Seen(Image);

    impl Seen {
        fn word(&self, at: u64) -> u64 {
            let at = (at - self.0.sp) as usize;
            u64::from_le_bytes(self.0.bytes[at..at + 8].try_into().unwrap())
        }
        fn text(&self, at: u64) -> String {
            let at = (at - self.0.sp) as usize;
            let rest = &self.0.bytes[at..];
            let end = rest.iter().position(|&b| b == 0).unwrap();
            String::from_utf8(rest[..end].to_vec()).unwrap()
        }
        /// argv, envp, auxv as a program would find them from its stack pointer.
        fn read(&self) -> (Vec<String>, Vec<String>, Vec<(u64, u64)>) {
            let mut at = self.0.sp + 8;
            let mut list = || {
                let mut out = vec![];
                while self.word(at) != 0 {
                    out.push(self.text(self.word(at)));
                    at += 8;
                }
                at += 8;
                out
            };
            let (args, env) = (list(), list());
            let mut pairs = vec![];
            loop {
                pairs.push((self.word(at), self.word(at + 8)));
                if self.word(at) == 0 {
                    return (args, env, pairs);
                }
                at += 16;
            }
        }
    }

    #[test]
    fn a_program_finds_what_was_given() {
        let image = build(
            TOP,
            b"/bin/x",
            b"x\0--flag\0\0",
            b"A=1\0B=two words\0",
            &aux(),
        )
        .unwrap();
        assert_eq!(image.sp % 16, 0);
        assert_eq!(image.sp + image.bytes.len() as u64, TOP);
        let seen = Seen(image);
        assert_eq!(seen.word(seen.0.sp), 3);
        let (args, env, pairs) = seen.read();
        assert_eq!(args, ["x", "--flag", ""]);
        assert_eq!(env, ["A=1", "B=two words"]);
        let get = |key: u32| pairs.iter().find(|p| p.0 == u64::from(key)).unwrap().1;
        assert_eq!(get(at::AT_PHNUM), 4);
        assert_eq!(get(at::AT_ENTRY), 0x20_0100);
        assert_eq!(seen.text(get(at::AT_EXECFN)), "/bin/x");
        assert_eq!(seen.text(get(at::AT_PLATFORM)), "aarch64");
        assert_eq!(seen.word(get(at::AT_RANDOM)), 0x0707_0707_0707_0707);
    }

    #[test]
    fn without_arguments_the_name_is_the_argument() {
        let seen = Seen(build(TOP, b"p", b"", b"", &aux()).unwrap());
        let (args, env, _) = seen.read();
        assert_eq!((args.len(), env.len()), (1, 0));
        assert_eq!(args[0], "p");
    }

    #[test]
    fn the_stack_is_aligned_for_every_length() {
        for n in 0..64 {
            let args = vec![b'a'; n];
            let image = build(TOP, b"p", &args, b"K=V", &aux()).unwrap();
            assert_eq!(image.sp % 16, 0, "{n} bytes of arguments");
        }
    }

    #[test]
    fn arguments_over_the_limit_are_refused() {
        let args = vec![b'a'; LIMIT];
        assert!(matches!(
            build(TOP, b"p", &args, b"", &aux()),
            Err(StackError::TooLarge(_))
        ));
        // Empty strings cost no text but a pointer each.
        let args = vec![0u8; LIMIT / 8];
        assert!(matches!(
            build(TOP, b"p", &args, b"", &aux()),
            Err(StackError::TooLarge(_))
        ));
    }

    #[test]
    fn string_lists_split_at_each_nul() {
        let split = |list| strings(list).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(split(b"a\0b\0"), [b"a", b"b"]);
        assert_eq!(split(b"a\0b"), [b"a", b"b"]);
        assert_eq!(split(b""), Vec::<Vec<u8>>::new());
        assert_eq!(split(b"\0"), [b""]);
        assert_eq!(split(b"\0\0").len(), 2);
    }
}
