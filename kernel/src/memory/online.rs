//! RAM that was held back at boot and is brought online later (CTOR-12): its direct mapping and
//! its metadata are mapped by the engine, in tables whose owner is `init_mm` like all others.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use frame::Class;
use sync::SpinLock;
use sync::rank;

use super::{boot, frames, init_mm, memory};
use crate::early::Region;

/// Why held RAM could not be brought online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineError {
    /// None was held back, or it is online already.
    NoneHeld,
    /// No memory for its metadata or tables; what was mapped is unmapped again.
    NoMemory,
}

/// Whether the held bank has been brought online.
static DONE: SpinLock<bool, rank::Endpoint> = SpinLock::new(false);

/// Bytes held back and not yet online.
pub fn held_bytes() -> u64 {
    let online = *DONE.lock();
    memory()
        .info
        .held
        .filter(|_| !online)
        .map_or(0, |bank| bank.len())
}

/// Brings the held bank online: its bytes in use, from now on.
///
/// # Errors
/// See [`OnlineError`]; it can be tried again.
pub fn online_held() -> Result<u64, OnlineError> {
    let mut done = DONE.lock();
    let bank = memory()
        .info
        .held
        .filter(|_| !*done)
        .ok_or(OnlineError::NoneHeld)?;
    let metadata = map_metadata(bank)?;
    let direct = boot::DIRECT_MAP + bank.start;
    if !map(
        direct,
        PhysAddr::new(bank.start),
        bank.len(),
        memory().info.direct_map,
    ) {
        let _flushed = init_mm().edit().unmap(metadata);
        return Err(OnlineError::NoMemory);
    }
    boot::add_mapped_bank(bank);
    boot::release(bank);
    *done = true;
    Ok(bank.len())
}

fn map(va: u64, pa: PhysAddr, len: u64, mem: MemType) -> bool {
    let Some(range) = VaRange::from_len(VirtAddr::new(va), len) else {
        return false;
    };
    init_mm()
        .edit()
        .map(range, pa, Attrs::kernel(Prot::READ | Prot::WRITE, mem))
        .is_ok()
}

/// Maps zeroed metadata for the bank, in the largest pieces that the allocator has.
fn map_metadata(bank: Region) -> Result<VaRange, OnlineError> {
    let start = boot::VMEMMAP + (bank.start >> 12) * boot::META_SIZE;
    let end = start + (bank.len() >> 12) * boot::META_SIZE;
    let mut at = start;
    while at < end {
        let largest = ((end - at) >> 12).max(1).ilog2().min(10) as u8;
        let piece = (0..=largest)
            .rev()
            .find_map(|order| Some((order, frames().alloc_kernel(order, Class::MemMap).ok()?)));
        let mapped = piece.and_then(|(order, piece)| {
            let len = 4096 << order;
            let ok = map(at, piece.pfn().start(), len, memory().info.direct_map);
            ok.then(|| piece.leak()).map(|_for_good| len)
        });
        match mapped {
            Some(len) => at += len,
            None => {
                unmap_metadata(start, at);
                return Err(OnlineError::NoMemory);
            }
        }
    }
    VaRange::new(VirtAddr::new(start), VirtAddr::new(end)).ok_or(OnlineError::NoMemory)
}

/// Takes back what was mapped; the frames stay with the metadata class, since their orders are
/// not kept. A bank is tried again at most by hand.
fn unmap_metadata(start: u64, end: u64) {
    if let Some(range) = VaRange::new(VirtAddr::new(start), VirtAddr::new(end)) {
        let _flushed = init_mm().edit().unmap(range);
    }
}
