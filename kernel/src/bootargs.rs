//! The kernel command line.
//!
//! Words are separated by white space; those that begin with `tessera.` are ours, the rest belongs
//! to others and is ignored. A word of ours that means nothing is kept for a warning, so that a
//! typing mistake does not go unseen.

use arm64::regs::TagChecks;
use log::LevelFilter;
use mm::layout::MAX_MAP_COUNT;
use mm::policy::{FAULT_AROUND_DEFAULT, Sizes, UffdAround};
use mm::tags::StoragePolicy;
use mm::trace::Categories;
use pgtable::asid::MIN_BITS;
use sync::Once;
use sync::planted::Fault;

static ARGS: Once<BootArgs<'static>> = Once::new();

/// Keeps what the kernel was booted with; once.
pub fn set(args: BootArgs<'static>) {
    ARGS.call_once(|| args);
}

/// What the kernel was booted with: the defaults until it is known.
pub fn get() -> BootArgs<'static> {
    ARGS.get().copied().unwrap_or(BootArgs::parse(""))
}

/// Longest token of the control protocol.
pub const MAX_TOKEN: usize = 32;
const PREFIX: &str = "tessera.";

/// The secret that marks control lines: hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    digits: [u8; MAX_TOKEN],
    len: u8,
}

impl Token {
    /// 1 to [`MAX_TOKEN`] hexadecimal digits, else `None`.
    pub fn new(text: &str) -> Option<Self> {
        let len = text.len();
        if len == 0 || len > MAX_TOKEN || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut digits = [0; MAX_TOKEN];
        digits[..len].copy_from_slice(text.as_bytes());
        Some(Self {
            digits,
            len: len as u8,
        })
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.digits[..usize::from(self.len)]).unwrap_or("")
    }
}

/// Which self-tests to run instead of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SelfTest<'a> {
    /// None: run the program.
    #[default]
    Off,
    /// All of them.
    All,
    /// Those whose name contains the text.
    Named(&'a str),
}

/// A deliberate kernel bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bug {
    /// None.
    #[default]
    None,
    /// A panic.
    Panic,
    /// A store to a live page table, past its window.
    Stray,
}

/// Whether contiguous blocks are repainted without a flush in between (FEAT_BBM level 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bbm {
    /// Where every CPU is known never to take a TLB conflict abort for it.
    #[default]
    Auto,
    /// Never: break, flush, make.
    Flush,
    /// Wherever the identification registers say level 2, known or not.
    Level2,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct BootArgs<'a> {
    /// `tessera.token=HEX`: print control lines marked with it.
    pub token: Option<Token>,
    /// `tessera.icount=1`: instructions are counted exactly; record the longest stay.
    pub icount: bool,
    /// `tessera.prompt=1`: offer the prompt after the program.
    pub prompt: bool,
    /// `tessera.log=off|error|warn|info|debug|trace`; default warn.
    pub log: LevelFilter,
    /// `tessera.hold=SIZE[K|M|G]`: bytes at the end of RAM to hold back.
    pub hold: u64,
    /// `tessera.selftest=1|NAME`.
    pub selftest: SelfTest<'a>,
    /// `tessera.bench=GROUP`: benchmarks instead of a program, in an image that has them.
    pub bench: Option<&'a str>,
    /// `tessera.snapshot=exit`: wait for the host reader before a program's memory is torn down.
    pub snapshot_exit: bool,
    /// `tessera.af=0` clears it: accessed and dirty state by software even if hardware could.
    pub hardware_af: bool,
    /// `tessera.bbm=auto|0|2`.
    pub bbm: Bbm,
    /// `tessera.mte_tcf_preferred=async|sync|asymm`: the mode of tag checks for a thread that asks for
    /// both synchronous and asynchronous ones (Linux's `mte_tcf_preferred`).
    pub mte_preferred: TagChecks,
    /// `tessera.tag_storage=discard|migrate|keep`: what tag storage holds while it holds no tags: pages
    /// that can be dropped, pages of any object, nothing. Default discard.
    pub tag_storage: StoragePolicy,
    /// `tessera.tag_range=on`: a fault on a page without tags makes those of its neighbours too.
    pub tag_range: bool,
    /// `tessera.asid_bits=N`, 4 to 16: use no more address-space identifiers than that, so that
    /// they run out; raised to what the number of CPUs needs.
    pub asid_bits: Option<u8>,
    /// `tessera.panic=1|stray`: a deliberate kernel bug after boot, to test its report.
    pub panic: Bug,
    /// `tessera.protect_pgtables=off` clears it: page tables can be written like any memory.
    pub protect_pgtables: bool,
    /// `tessera.thp_anon=64K:MODE;2M:MODE`, modes `always`, `madvise` and `never`: the sizes of
    /// folios that faults on anonymous memory try for. Default `64K:always;2M:madvise`.
    pub thp_anon: Sizes,
    /// `tessera.thp_shmem=…`: the same for shared memory. Default `64K:madvise;2M:never`.
    pub thp_shmem: Sizes,
    /// `tessera.fault_around_bytes=SIZE[K|M]`: how far a read fault maps around; default 64K.
    pub fault_around: u64,
    /// `tessera.uffd_fault_around=missing|never`: whether a read fault maps around in a range where a
    /// userfaultfd watches missing pages.
    pub uffd_around: UffdAround,
    /// `tessera.max_map_count=N`: most areas of one space.
    pub max_map_count: usize,
    /// `tessera.trace=CATEGORY,…|all`: what is traced.
    pub trace: Categories,
    /// `tessera.trace_events=N`: events that each CPU keeps, 16 to 1048576.
    pub trace_events: u32,
    /// `tessera.describe=1`: a program's areas and mappings are told at its end.
    pub describe: bool,
    /// `tessera.fault=NAME`: plants a fault, to test the tests. Not understood by an image that
    /// was built without faults to plant.
    pub fault: Option<Fault>,
    line: &'a str,
}

impl<'a> BootArgs<'a> {
    /// Reads the command line. Never fails: what is not understood is in [`BootArgs::unknown`].
    pub fn parse(line: &'a str) -> Self {
        let mut args = Self {
            token: None,
            icount: false,
            prompt: false,
            log: LevelFilter::Warn,
            hold: 0,
            selftest: SelfTest::Off,
            bench: None,
            snapshot_exit: false,
            hardware_af: true,
            bbm: Bbm::Auto,
            mte_preferred: TagChecks::Async,
            tag_storage: StoragePolicy::Discard,
            tag_range: false,
            asid_bits: None,
            panic: Bug::None,
            protect_pgtables: true,
            thp_anon: Sizes::ANON,
            thp_shmem: Sizes::SHMEM,
            fault_around: FAULT_AROUND_DEFAULT,
            uffd_around: UffdAround::Missing,
            max_map_count: MAX_MAP_COUNT,
            trace: Categories::NONE,
            trace_events: 4096,
            describe: false,
            fault: None,
            line,
        };
        for word in line.split_ascii_whitespace() {
            let _understood = args.take(word);
        }
        args
    }

    /// The words that begin with `tessera.` and mean nothing.
    pub fn unknown(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut scratch = Self::parse("");
        self.line
            .split_ascii_whitespace()
            .filter(move |word| word.starts_with(PREFIX) && scratch.take(word).is_none())
    }

    /// Applies one word; `None` if it is ours and not understood.
    fn take(&mut self, word: &'a str) -> Option<()> {
        let Some(setting) = word.strip_prefix(PREFIX) else {
            return Some(());
        };
        let (key, value) = setting.split_once('=')?;
        match key {
            "token" => self.token = Some(Token::new(value)?),
            "icount" => self.icount = switch(value)?,
            "prompt" => self.prompt = switch(value)?,
            "log" => self.log = value.parse().ok()?,
            "hold" => self.hold = size(value)?,
            "selftest" => self.selftest = selftest(value)?,
            "bench" if cfg!(feature = "bench") => self.bench = Some(value),
            "snapshot" => self.snapshot_exit = (value == "exit").then_some(true)?,
            "af" => self.hardware_af = switch(value)?,
            "bbm" => self.bbm = bbm(value)?,
            "mte_tcf_preferred" => self.mte_preferred = tag_checks(value)?,
            "tag_storage" => self.tag_storage = StoragePolicy::parse(value)?,
            "tag_range" => self.tag_range = on_or_off(value)?,
            "asid_bits" => self.asid_bits = Some(asid_bits(value)?),
            "panic" => self.panic = bug(value)?,
            "thp_anon" => self.thp_anon = Sizes::ANON.parse(value)?,
            "thp_shmem" => self.thp_shmem = Sizes::SHMEM.parse(value)?,
            "fault_around_bytes" => self.fault_around = size(value).filter(|&size| size > 0)?,
            "uffd_fault_around" => self.uffd_around = uffd_around(value)?,
            "max_map_count" => self.max_map_count = value.parse().ok()?,
            "trace" => self.trace = Categories::parse(value).ok()?,
            "trace_events" => self.trace_events = trace_events(value)?,
            "describe" => self.describe = switch(value)?,
            "protect_pgtables" => self.protect_pgtables = on_or_off(value)?,
            #[cfg(feature = "planted")]
            "fault" => self.fault = Some(Fault::named(value)?),
            _ => return None,
        }
        Some(())
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn on_or_off(value: &str) -> Option<bool> {
    match value {
        "off" => Some(false),
        "on" => Some(true),
        _ => None,
    }
}

fn bbm(value: &str) -> Option<Bbm> {
    match value {
        "auto" => Some(Bbm::Auto),
        "0" => Some(Bbm::Flush),
        "2" => Some(Bbm::Level2),
        _ => None,
    }
}

fn tag_checks(value: &str) -> Option<TagChecks> {
    match value {
        "async" => Some(TagChecks::Async),
        "sync" => Some(TagChecks::Sync),
        "asymm" => Some(TagChecks::Asymmetric),
        _ => None,
    }
}

fn uffd_around(value: &str) -> Option<UffdAround> {
    match value {
        "missing" => Some(UffdAround::Missing),
        "never" => Some(UffdAround::Never),
        _ => None,
    }
}

fn bug(value: &str) -> Option<Bug> {
    match value {
        "0" => Some(Bug::None),
        "1" => Some(Bug::Panic),
        "stray" => Some(Bug::Stray),
        _ => None,
    }
}

fn asid_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok()?;
    (MIN_BITS..=16).contains(&bits).then_some(bits)
}

fn trace_events(value: &str) -> Option<u32> {
    let events = value.parse().ok()?;
    (16..=1 << 20).contains(&events).then_some(events)
}

fn selftest(value: &str) -> Option<SelfTest<'_>> {
    match value {
        "" => None,
        "0" => Some(SelfTest::Off),
        "1" => Some(SelfTest::All),
        name => Some(SelfTest::Named(name)),
    }
}

/// A decimal or `0x` number of bytes, with an optional unit K, M or G.
fn size(value: &str) -> Option<u64> {
    let (number, shift) = match value.as_bytes().last()? {
        b'K' | b'k' => (&value[..value.len() - 1], 10),
        b'M' | b'm' => (&value[..value.len() - 1], 20),
        b'G' | b'g' => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number = match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_gives_the_defaults() {
        let args = BootArgs::parse("");
        assert!(args.token.is_none() && !args.icount && !args.prompt);
        assert!(args.hardware_af && args.protect_pgtables && !args.snapshot_exit);
        assert!(args.asid_bits.is_none());
        assert_eq!((args.panic, args.fault), (Bug::None, None));
        assert_eq!(args.bbm, Bbm::Auto);
        assert_eq!(
            (args.hold, args.log, args.selftest),
            (0, LevelFilter::Warn, SelfTest::Off)
        );
        assert_eq!(args.unknown().count(), 0);
    }

    #[test]
    fn every_argument_is_read() {
        let line = "console=ttyAMA0 tessera.token=0aF9 tessera.icount=1 tessera.prompt=1 \
                    tessera.log=debug tessera.hold=64M tessera.selftest=bbm tessera.snapshot=exit \
                    tessera.af=0 tessera.asid_bits=4 tessera.bbm=2 tessera.panic=1 \
                    tessera.protect_pgtables=off tessera.trace=zap,fault tessera.trace_events=16 \
                    tessera.describe=1";
        let args = BootArgs::parse(line);
        assert_eq!(args.token.unwrap().as_str(), "0aF9");
        assert!(args.icount && args.prompt && args.snapshot_exit);
        assert!(!args.hardware_af && !args.protect_pgtables);
        assert_eq!((args.panic, args.asid_bits), (Bug::Panic, Some(4)));
        assert_eq!(args.bbm, Bbm::Level2);
        assert_eq!((args.hold, args.log), (64 << 20, LevelFilter::Debug));
        assert_eq!(args.selftest, SelfTest::Named("bbm"));
        assert_eq!(args.trace.to_string(), "fault,zap");
        assert!(args.describe && args.trace_events == 16);
        assert_eq!(args.unknown().count(), 0);
    }

    #[test]
    fn what_is_not_understood_is_named_and_changes_nothing() {
        let line = "tessera.icont=1 tessera.icount=yes tessera.hold=1T tessera.token=xyz \
                    tessera.log=loud tessera.snapshot=entry tessera.panic other.thing=1 \
                    tessera.panic=loudly tessera.protect_pgtables=1 tessera.fault=NoSuchFault \
                    tessera.asid_bits=3 tessera.asid_bits=17 tessera.bbm=1 \
                    tessera.trace=zap,zip tessera.trace_events=15 tessera.describe=yes";
        let args = BootArgs::parse(line);
        assert_eq!(args.unknown().count(), 16);
        assert!(args.trace.is_empty() && args.trace_events == 4096);
        assert_eq!(args.asid_bits, None);
        assert_eq!(args.unknown().next(), Some("tessera.icont=1"));
        assert!(!args.icount && args.token.is_none() && args.protect_pgtables);
        assert_eq!((args.panic, args.hold), (Bug::None, 0));
    }

    #[test]
    fn a_fault_is_planted_only_where_there_are_faults() {
        let args = BootArgs::parse("tessera.fault=SkipFlush tessera.panic=stray");
        let planted = cfg!(feature = "planted");
        assert_eq!(args.fault, planted.then_some(Fault::SkipFlush));
        assert_eq!(
            (args.panic, args.unknown().count()),
            (Bug::Stray, usize::from(!planted))
        );
    }

    #[test]
    fn benchmarks_are_for_images_that_have_them() {
        let args = BootArgs::parse("tessera.bench=pgtable");
        let there = cfg!(feature = "bench");
        assert_eq!(args.bench, there.then_some("pgtable"));
        assert_eq!(args.unknown().count(), usize::from(!there));
    }

    #[test]
    fn the_policy_of_folios_is_read_with_linux_names() {
        let line = "tessera.thp_anon=2M:always tessera.thp_shmem=64K:never;2M:never \
                    tessera.fault_around_bytes=16K tessera.uffd_fault_around=never \
                    tessera.max_map_count=200000";
        let args = BootArgs::parse(line);
        assert_eq!(args.unknown().count(), 0);
        assert_eq!(Some(args.thp_anon), Sizes::ANON.parse("2M:always"));
        assert_eq!(args.thp_shmem.kib64, mm::policy::SizeMode::Never);
        assert_eq!((args.fault_around, args.max_map_count), (16 << 10, 200_000));
        assert_eq!(args.uffd_around, UffdAround::Never);
        let wrong = "tessera.thp_anon=64K tessera.thp_shmem=4K:always tessera.fault_around_bytes=0 \
                     tessera.uffd_fault_around=wp tessera.max_map_count=many";
        assert_eq!(BootArgs::parse(wrong).unknown().count(), 5);
    }

    #[test]
    fn sizes_have_units_and_do_not_overflow() {
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("0x10k"), Some(16 << 10));
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("18446744073709551615G"), None);
        assert_eq!(["", "M", "-1M", "1MM"].map(size), [None; 4]);
    }

    #[test]
    fn tokens_are_short_hexadecimal_words() {
        assert!(Token::new("").is_none());
        assert!(Token::new(&"a".repeat(MAX_TOKEN)).is_some());
        assert!(Token::new(&"a".repeat(MAX_TOKEN + 1)).is_none());
        assert!(Token::new("12 34").is_none());
    }
}
