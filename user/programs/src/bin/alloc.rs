//! The allocator and what it asks of the kernel: growth, churn, `mremap`, `brk`.

use programs::memory::readable;
use programs::random::Random;
use programs::sys::{self, PAGE, map, nr};
use programs::{check, require, require_result};
use std::collections::{BTreeMap, HashMap};

fn main() {
    check::start("alloc");
    vec_growth();
    hash_map();
    boxes();
    zeroed();
    mremap_growth();
    program_break();
    check::pass();
}

fn vec_growth() {
    check::section(10, "a Vec that grows to 32 MiB");
    const WORDS: usize = (32 << 20) / 8;
    let mut random = Random::new(1);
    let mut words = Vec::new();
    for _ in 0..WORDS {
        words.push(random.next_u64());
    }
    let mut again = Random::new(1);
    let wrong = words.iter().position(|word| *word != again.next_u64());
    require!(
        wrong.is_none(),
        "word {wrong:?} was lost while the vector grew"
    );
    words.truncate(1000);
    words.shrink_to_fit();
    let mut again = Random::new(1);
    require!(
        words.iter().all(|word| *word == again.next_u64()),
        "shrinking kept the start"
    );
}

fn hash_map() {
    check::section(11, "HashMap");
    const ENTRIES: u64 = 50_000;
    let mut random = Random::new(2);
    let mut hashed = HashMap::new();
    let mut ordered = BTreeMap::new();
    for _ in 0..ENTRIES {
        let (key, value) = (random.below(ENTRIES), random.next_u64());
        require!(
            hashed.insert(key, value) == ordered.insert(key, value),
            "an earlier value"
        );
        if random.chance(64) {
            let key = random.below(ENTRIES);
            require!(
                hashed.remove(&key) == ordered.remove(&key),
                "removal of {key}"
            );
        }
    }
    require!(
        hashed.len() == ordered.len(),
        "both maps have the same size"
    );
    let wrong = ordered
        .iter()
        .find(|(key, value)| hashed.get(*key) != Some(*value));
    require!(wrong.is_none(), "the maps differ at {wrong:?}");
}

fn boxes() {
    check::section(12, "blocks of all sizes, freed in random order");
    let mut random = Random::new(3);
    let mut blocks: Vec<(u8, Box<[u8]>)> = Vec::new();
    for round in 0..20_000u64 {
        if blocks.len() < 300 || random.chance(128) {
            let size = 1 << random.below(15);
            let len = size + random.index(size);
            let mark = round as u8;
            blocks.push((mark, vec![mark; len].into_boxed_slice()));
        } else {
            let (mark, block) = blocks.swap_remove(random.index(blocks.len()));
            let ends = [block[0], block[block.len() / 2], block[block.len() - 1]];
            require!(
                ends == [mark; 3],
                "a block of {} bytes changed",
                block.len()
            );
        }
    }
    let intact = blocks
        .iter()
        .all(|(mark, block)| block.iter().all(|byte| byte == mark));
    require!(intact, "the remaining blocks are intact");
}

fn zeroed() {
    check::section(13, "fresh memory is zero");
    for round in 0..8 {
        let mut block = vec![0u8; 4 << 20];
        require!(
            block.iter().all(|byte| *byte == 0),
            "round {round}: old contents shine through"
        );
        block.fill(0xa5);
        std::hint::black_box(&block);
    }
}

fn mremap_growth() {
    check::section(14, "mremap from 1 page to 4096");
    let flags = map::PRIVATE | map::ANONYMOUS;
    // SAFETY: a fresh mapping; the raw address is used by this function only.
    let addr = unsafe { sys::syscall(nr::MMAP, [0, PAGE, map::RW, flags, usize::MAX, 0]) };
    require!(addr > 0, "mmap answers {}", sys::describe(addr));
    let (mut addr, mut pages) = (addr as usize, 1usize);
    write_word(addr, 1);
    while pages < 4096 {
        let args = [
            addr,
            pages * PAGE,
            2 * pages * PAGE,
            map::MREMAP_MAYMOVE,
            0,
            0,
        ];
        // SAFETY: the range is this function's own mapping.
        let moved = unsafe { sys::syscall(nr::MREMAP, args) };
        require!(
            moved > 0,
            "mremap to {} pages answers {}",
            2 * pages,
            sys::describe(moved)
        );
        addr = moved as usize;
        for page in pages..2 * pages {
            require!(
                read_word(addr + page * PAGE) == 0,
                "new page {page} is not zero"
            );
            write_word(addr + page * PAGE, page as u64 + 1);
        }
        pages *= 2;
        let wrong = (0..pages).find(|page| read_word(addr + page * PAGE) != *page as u64 + 1);
        require!(
            wrong.is_none(),
            "page {wrong:?} of {pages} was lost in the move"
        );
    }
    // SAFETY: the mapping is this function's own and not used afterwards.
    let got = unsafe { sys::syscall(nr::MUNMAP, [addr, pages * PAGE, 0, 0, 0, 0]) };
    require_result!(got, 0, "munmap of the grown mapping");
    require!(!readable(addr), "the mapping is gone");
}

fn brk(to: usize) -> usize {
    // SAFETY: the callers move the break above its old place and back to it only.
    unsafe { sys::syscall(nr::BRK, [to, 0, 0, 0, 0, 0]) as usize }
}

/// Moves the break and puts it back where the allocator left it; allocates nothing in between.
fn program_break() {
    check::section(15, "brk");
    const STEP: usize = 1 << 20;
    let old = brk(0);
    require!(
        old != 0 && brk(1) == old,
        "an impossible break is refused by answering the old one"
    );
    let base = old.next_multiple_of(PAGE);
    require!(brk(base + STEP) == base + STEP, "the break grows by 1 MiB");
    let fresh = (0..STEP / PAGE).all(|page| read_word(base + page * PAGE) == 0);
    for page in 0..STEP / PAGE {
        write_word(base + page * PAGE, page as u64 ^ 0x55);
    }
    let kept = (0..STEP / PAGE).all(|page| read_word(base + page * PAGE) == page as u64 ^ 0x55);
    let shrunk = brk(base + PAGE);
    let gone = !readable(base + PAGE);
    let first = read_word(base);
    let regrown = brk(base + 2 * PAGE);
    let again = read_word(base + PAGE);
    let refused = brk(1 << 46);
    let restored = brk(old);
    require!(fresh, "new memory below the break is zero");
    require!(kept, "it keeps what is written");
    require!(shrunk == base + PAGE && gone, "shrinking the break unmaps");
    require!(first == 0x55, "and keeps what is below");
    require!(
        regrown == base + 2 * PAGE && again == 0,
        "growing again gives zeroes"
    );
    require!(
        refused == base + 2 * PAGE,
        "a break of 64 TiB is refused, not {refused:#x}"
    );
    require!(restored == old, "the break is back at {restored:#x}");
}

fn read_word(addr: usize) -> u64 {
    // SAFETY: the callers pass aligned addresses of mappings of their own.
    unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance::<u64>(addr)) }
}

fn write_word(addr: usize, value: u64) {
    // SAFETY: as `read_word`.
    unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(addr), value) }
}
