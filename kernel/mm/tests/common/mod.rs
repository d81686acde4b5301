//! A host machine with what spaces need, and what is left of it at the end.

use arm64::pte::Format;
use mm::MmContext;
use model::HostMachine;
use pgtable::{Graveyard, Machine};

pub type Space = std::sync::Arc<mm::Space<HostMachine>>;

pub struct World {
    pub machine: &'static HostMachine,
    pub graves: &'static Graveyard,
    pub context: &'static MmContext<HostMachine>,
    pub free: u64,
}

impl World {
    pub fn new(pages: u64, format: Format) -> Self {
        Self::over(HostMachine::new(pages, format, 1))
    }

    pub fn over(machine: &'static HostMachine) -> Self {
        let graves: &'static Graveyard = Box::leak(Box::default());
        let context = Box::leak(Box::new(MmContext::new(machine, graves, 8, 1, || 0)));
        Self {
            machine,
            graves,
            context,
            free: machine.free_frames(),
        }
    }

    /// A space that CPU 0 runs.
    pub fn space(&self) -> Space {
        let space = mm::Space::new(self.context).expect("a space");
        let switched = self.context.asids().switch_to(space.asid_cell(), 0);
        assert_eq!(switched.asid, space.asid_cell().current());
        space
    }

    /// Lets grace periods pass until nothing waits, then compares with the beginning.
    pub fn assert_nothing_lost(&self) {
        while !self.graves.is_empty() {
            self.graves.reap(self.machine, 999);
            self.machine.pass_grace_period(1);
        }
        assert_eq!(self.machine.free_frames(), self.free);
        assert_eq!(self.machine.stats().live(), 0);
        let (made, ended) = self.machine.hook_calls();
        assert_eq!(made, ended, "law 8");
    }
}
