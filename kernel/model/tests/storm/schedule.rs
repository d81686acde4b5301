//! What other CPUs do while an operation is under way.

use std::sync::{Arc, Weak};

use model::machine::Hook;
use pgtable::{Machine, Pause};

use crate::world::World;

/// The hook: programs run at every pause point; where no lock is held, whole operations of another
/// CPU, on ranges that the one under way does not answer for.
pub fn hook(world: &Arc<World>) -> Hook {
    let world: Weak<World> = Arc::downgrade(world);
    Box::new(move |at| {
        let Some(world) = world.upgrade() else {
            return;
        };
        let touches = world.random(|rng| rng.below(3));
        (0..touches).for_each(|_| world.touch(false));
        world.no_freed_frame_is_reached();
        if !holds_a_lock(at) && world.random(|rng| rng.once_in(24)) {
            world.random_operation(true);
        }
    })
}

/// Whether the engine may hold the lock of a table at this point.
fn holds_a_lock(at: Pause) -> bool {
    matches!(at, Pause::Repaint | Pause::BeforeFlush)
}

impl World {
    /// Whatever a CPU may translate to is memory in use, even in the middle of an operation.
    fn no_freed_frame_is_reached(&self) {
        let (cpu, va) = self.random(|rng| {
            let cpu = rng.below(self.cpus as u64) as usize;
            (cpu, 0x1000_0000 + (rng.below(64) << 12))
        });
        let frames = self.machine.frames();
        let freed = self
            .machine
            .translations(cpu, va)
            .into_iter()
            .find(|found| {
                let meta = frames.meta(arm64::addr::Pfn::new(found.pa >> 12));
                !meta.is_some_and(|meta| meta.is_user())
            });
        if let Some(found) = freed {
            self.fail(&format!(
                "CPU {cpu} may translate {va:#x} to a free frame: {found:x?}"
            ));
        }
    }
}
