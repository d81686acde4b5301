//! Which sizes of folios a fault tries for, and how far a read fault maps around.
//!
//! Names and meanings are Linux's: `thp_anon=` and `thp_shmem=` give each size a mode, `madvise`
//! and `prctl(PR_SET_THP_DISABLE)` ask for more or less.

use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::planted::{self, Fault};

use crate::tags::StoragePolicy;
use crate::vma::VmaFlags;

/// Bytes of the smaller folio: a contiguous block of 4 KiB pages.
pub const FOLIO_64K: u64 = 64 << 10;
/// Bytes of the larger folio: a block of level 2.
pub const FOLIO_2M: u64 = 2 << 20;
/// Bytes that a read fault maps around by default.
pub const FAULT_AROUND_DEFAULT: u64 = 64 << 10;

/// When a size is tried for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SizeMode {
    /// Never.
    Never = 0,
    /// Where `MADV_HUGEPAGE` asks for it.
    Madvise = 1,
    /// Wherever it fits, unless `MADV_NOHUGEPAGE` forbids it.
    Always = 2,
}

impl SizeMode {
    /// The mode of Linux's name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "never" => Some(Self::Never),
            "madvise" => Some(Self::Madvise),
            "always" => Some(Self::Always),
            _ => None,
        }
    }

    const fn allows(self, flags: VmaFlags) -> bool {
        match self {
            Self::Never => false,
            Self::Madvise => flags.contains(VmaFlags::HUGEPAGE),
            Self::Always => true,
        }
    }
}

/// The modes of both sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// 64 KiB.
    pub kib64: SizeMode,
    /// 2 MiB.
    pub mib2: SizeMode,
}

impl Sizes {
    /// The default for anonymous memory: blocks that the hardware folds wherever they fit, large
    /// ones where asked for.
    pub const ANON: Self = Self {
        kib64: SizeMode::Always,
        mib2: SizeMode::Madvise,
    };
    /// The default for shared memory: objects are often small, so larger folios are asked for.
    pub const SHMEM: Self = Self {
        kib64: SizeMode::Madvise,
        mib2: SizeMode::Never,
    };

    /// Reads `64K:always;2M:madvise`; sizes that are not named keep their mode.
    pub fn parse(self, text: &str) -> Option<Self> {
        let mut sizes = self;
        for part in text.split(';') {
            let (size, mode) = part.split_once(':')?;
            let mode = SizeMode::parse(mode)?;
            match size {
                "64K" => sizes.kib64 = mode,
                "2M" => sizes.mib2 = mode,
                _ => return None,
            }
        }
        Some(sizes)
    }
}

/// Which faults of a range with a userfaultfd in missing mode map around: the two readings of the
/// rule (UF-01, UF-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdAround {
    /// Where only missing pages are watched, resident neighbours are mapped, as upstream does.
    Missing,
    /// Nothing is mapped around in a watched range.
    Never,
}

/// The policy of a machine, changeable while it runs.
#[derive(Debug)]
pub struct Policy {
    anon: AtomicU32,
    shmem: AtomicU32,
    around: AtomicU64,
    uffd_never: AtomicU32,
    storage: AtomicU32,
    tag_range: AtomicU32,
}

impl Policy {
    /// The defaults.
    pub fn new() -> Self {
        let policy = Self {
            anon: AtomicU32::new(0),
            shmem: AtomicU32::new(0),
            around: AtomicU64::new(FAULT_AROUND_DEFAULT),
            uffd_never: AtomicU32::new(0),
            storage: AtomicU32::new(StoragePolicy::Discard as u32),
            tag_range: AtomicU32::new(0),
        };
        policy.set_anon(Sizes::ANON);
        policy.set_shmem(Sizes::SHMEM);
        policy
    }

    /// Says what tag storage holds while it holds no tags.
    pub fn set_storage(&self, policy: StoragePolicy) {
        self.storage.store(policy as u32, Ordering::Relaxed);
    }

    /// What tag storage holds while it holds no tags.
    pub fn storage(&self) -> StoragePolicy {
        StoragePolicy::from_word(self.storage.load(Ordering::Relaxed))
    }

    /// Says whether a fault on a page without tags makes those of all neighbours that share its storage
    /// (TAG-03).
    pub fn set_tag_range(&self, range: bool) {
        self.tag_range.store(range.into(), Ordering::Relaxed);
    }

    /// Whether it does.
    #[inline(always)]
    pub fn tag_range(&self) -> bool {
        self.tag_range.load(Ordering::Relaxed) != 0
    }

    /// Sets the sizes of anonymous folios.
    pub fn set_anon(&self, sizes: Sizes) {
        self.anon.store(packed(sizes), Ordering::Relaxed);
    }

    /// Sets the sizes of folios of shared memory.
    pub fn set_shmem(&self, sizes: Sizes) {
        self.shmem.store(packed(sizes), Ordering::Relaxed);
    }

    /// Sets how many bytes a read fault maps around: a power of two from a page up; others are
    /// rounded down, as Linux does. Windows end with their table, so more than 2 MiB is as 2 MiB.
    pub fn set_fault_around(&self, bytes: u64) {
        let bytes = bytes.clamp(4096, FOLIO_2M);
        self.around.store(1 << bytes.ilog2(), Ordering::Relaxed);
    }

    /// How many bytes a read fault maps around.
    #[inline(always)]
    pub fn fault_around(&self) -> u64 {
        self.around.load(Ordering::Relaxed)
    }

    /// Chooses the reading of the rule about watched ranges.
    pub fn set_uffd_around(&self, choice: UffdAround) {
        let never = u32::from(choice == UffdAround::Never);
        self.uffd_never.store(never, Ordering::Relaxed);
    }

    /// Whether a read fault in an area of these flags may map neighbours. `MADV_RANDOM` does not
    /// forbid it: that is about reading ahead, and the neighbours are resident.
    #[inline(always)]
    pub fn maps_around(&self, flags: VmaFlags) -> bool {
        let never = VmaFlags::UFFD_WP.union(VmaFlags::UFFD_MINOR);
        if planted::is(Fault::AroundWatched) || planted::is(Fault::PunchUnseen) {
            return true;
        }
        let missing = flags.contains(VmaFlags::UFFD_MISSING);
        !(flags.intersects(never) || missing && self.uffd_never.load(Ordering::Relaxed) != 0)
    }

    /// Whether anonymous memory of these flags is tried in 64 KiB, and in 2 MiB.
    #[inline(always)]
    pub fn anon_sizes(&self, flags: VmaFlags) -> (bool, bool) {
        sizes(self.anon.load(Ordering::Relaxed), flags)
    }

    /// The same for shared memory.
    #[inline(always)]
    pub fn shmem_sizes(&self, flags: VmaFlags) -> (bool, bool) {
        sizes(self.shmem.load(Ordering::Relaxed), flags)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

const fn packed(sizes: Sizes) -> u32 {
    sizes.kib64 as u32 | (sizes.mib2 as u32) << 8
}

const fn mode(packed: u32) -> SizeMode {
    match packed as u8 {
        0 => SizeMode::Never,
        1 => SizeMode::Madvise,
        _ => SizeMode::Always,
    }
}

#[inline(always)]
const fn sizes(packed: u32, flags: VmaFlags) -> (bool, bool) {
    // A watched page is a fault of its own.
    if flags.intersects(VmaFlags::NOHUGEPAGE.union(VmaFlags::UFFD)) {
        return (false, false);
    }
    (mode(packed).allows(flags), mode(packed >> 8).allows(flags))
}

/// The first byte of the aligned block of `size` bytes around `va`.
#[inline(always)]
pub(crate) const fn block_of(va: u64, size: u64) -> u64 {
    va & !(size - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_linux_writes_them() {
        let all = Sizes::ANON.parse("64K:never;2M:always").unwrap();
        assert_eq!((all.kib64, all.mib2), (SizeMode::Never, SizeMode::Always));
        assert_eq!(
            Sizes::ANON.parse("2M:never").unwrap().kib64,
            SizeMode::Always
        );
        for wrong in ["", "64K", "64K:sometimes", "1M:always", "64K:always;"] {
            assert_eq!(Sizes::ANON.parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn advice_and_watching_decide_about_sizes() {
        let policy = Policy::new();
        let plain = VmaFlags::empty();
        assert_eq!(policy.anon_sizes(plain), (true, false));
        assert_eq!(policy.anon_sizes(VmaFlags::HUGEPAGE), (true, true));
        assert_eq!(policy.shmem_sizes(plain), (false, false));
        assert_eq!(policy.shmem_sizes(VmaFlags::HUGEPAGE), (true, false));
        let forbidden = [
            VmaFlags::NOHUGEPAGE,
            VmaFlags::UFFD_MISSING,
            VmaFlags::UFFD_WP,
            VmaFlags::UFFD_MINOR,
        ];
        for flag in forbidden {
            assert_eq!(policy.anon_sizes(VmaFlags::HUGEPAGE | flag), (false, false));
        }
    }

    #[test]
    fn watched_ranges_are_not_mapped_around_but_for_missing_pages() {
        let policy = Policy::new();
        assert!(policy.maps_around(VmaFlags::empty()));
        assert!(policy.maps_around(VmaFlags::UFFD_MISSING));
        assert!(policy.maps_around(VmaFlags::RAND_READ));
        for never in [VmaFlags::UFFD_WP, VmaFlags::UFFD_MINOR] {
            assert!(!policy.maps_around(never));
            assert!(!policy.maps_around(never | VmaFlags::UFFD_MISSING));
        }
        policy.set_uffd_around(UffdAround::Never);
        assert!(policy.maps_around(VmaFlags::empty()));
        assert!(!policy.maps_around(VmaFlags::UFFD_MISSING));
    }

    #[test]
    fn the_window_is_a_power_of_two_of_at_least_a_page() {
        let policy = Policy::new();
        for (asked, got) in [
            (0, 4096),
            (4096, 4096),
            (70_000, 65_536),
            (u64::MAX, FOLIO_2M),
        ] {
            policy.set_fault_around(asked);
            assert_eq!(policy.fault_around(), got, "{asked}");
        }
    }
}
