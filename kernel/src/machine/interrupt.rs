//! Interrupts as notifications.
//!
//! A shared peripheral interrupt sets notification bits at an endpoint and stays masked until the driver
//! has acknowledged it.

use abi::Rights;
use frame::Frames;
use frame::slab::{Cache, Ref};
use sync::{SpinLock, rank};

use crate::arch::gic;
use crate::errno::Errno;
use crate::ipc::{self, Port};

/// Interrupts that can be open at once.
const OPEN: usize = 16;

static INTERRUPTS: Cache<Interrupt> = Cache::new("interrupt");
static BOUND: SpinLock<[Option<Bound>; OPEN], rank::Leaf> = SpinLock::new([const { None }; OPEN]);

/// Prepares the cache, once, at boot.
pub fn init(frames: &'static Frames) {
    INTERRUPTS.init(frames);
}

/// Who is told of an interrupt.
#[derive(Debug)]
struct Bound {
    number: u32,
    port: Port,
    bits: u64,
}

/// An open interrupt. Its end masks it.
#[derive(Debug)]
pub struct Interrupt {
    number: u32,
}

impl Interrupt {
    /// Has `bits` set at `port` when interrupt `number` comes.
    ///
    /// # Errors
    /// `EINVAL` for one that is no shared peripheral interrupt, or the kernel's; `EBUSY` if it is open,
    /// or too many are; `ENOMEM`.
    pub fn open(number: u32, mut port: Port, bits: u64) -> Result<Ref<Self>, Errno> {
        if !gic::is_for_programs(number) {
            return Err(Errno::EINVAL);
        }
        port.limit(Rights::NOTIFY);
        let mut bound = Some(Bound { number, port, bits });
        let refused = {
            let mut all = BOUND.lock();
            let open = |bound: &&Option<Bound>| bound.as_ref().is_some_and(|b| b.number == number);
            let free = match all.iter().any(|bound| open(&bound)) {
                true => None,
                false => all.iter_mut().find(|bound| bound.is_none()),
            };
            match free {
                Some(free) => {
                    *free = bound.take();
                    false
                }
                None => true,
            }
        };
        drop(bound);
        if refused {
            return Err(Errno::EBUSY);
        }
        // Should there be no memory, its drop closes the interrupt again.
        let interrupt = INTERRUPTS.alloc_ref(Self { number });
        let interrupt = interrupt.map_err(|_| Errno::ENOMEM)?;
        gic::unmask(number);
        Ok(interrupt)
    }

    /// Lets it come again.
    pub fn acknowledge(&self) {
        gic::unmask(self.number);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        gic::mask(self.number);
        let bound = {
            let mut all = BOUND.lock();
            let mut all = all.iter_mut();
            let mine = all.find(|bound| bound.as_ref().is_some_and(|b| b.number == self.number));
            mine.and_then(Option::take)
        };
        drop(bound);
    }
}

/// Interrupt `number` has come, and is masked: tells whoever is to be told.
pub fn came(number: u32) {
    let found = {
        let all = BOUND.lock();
        let mut open = all.iter().flatten();
        let bound = open.find(|bound| bound.number == number);
        bound.map(|bound| (bound.port.endpoint().clone(), bound.bits))
    };
    if let Some((endpoint, bits)) = found {
        // A driver that has gone leaves it masked.
        let _gone = ipc::notify(&endpoint, bits);
    }
}
