//! Blocks whose memory is not counted, cut down to pages: nobody's reference may be dropped.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::Format;
use model::HostMachine;
use pgtable::{Gather, Graveyard, Machine, PageTable, User, Walked, Zap};

const VA: u64 = 0x14_0000_0000;
const PAGE: u64 = 4096;

fn range(start: u64, end: u64) -> VaRange {
    VaRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("a range")
}

#[test]
fn pages_of_a_special_block_own_no_reference() {
    let machine = HostMachine::new(4096, Format { lpa2: false }, 1);
    let space = PageTable::<User, _>::new(machine, 7, Geometry::for_va_bits(39)).expect("a root");
    let (graves, stay) = (Graveyard::new(), ());
    let section = machine.read_side(&stay);
    for level in [Level::L1, Level::L2] {
        let attrs = Attrs::user(Prot::READ).with_young(true).with_special(true);
        let pa = PhysAddr::new(1 << 30);
        let mapped = space.map_special_block(VA, level, pa, attrs, &section, || true);
        assert_eq!(mapped, Ok(()));
        let odd = VA + 0x12_3000;
        let mut gather = Gather::new();
        let mut at = odd;
        while at < odd + PAGE {
            at = space.protect(range(at, odd + PAGE), Prot::empty(), &mut gather, &section);
        }
        let beside = space.walk(odd + PAGE, &section);
        assert!(matches!(
            beside,
            Walked::Seen {
                level: Level::L3,
                ..
            }
        ));
        let (mut at, end) = (VA, VA + level.size());
        while at < end {
            at = space.zap(range(at, end), Zap::REGION_GONE, &mut gather, &section);
            assert_eq!(gather.page_count(), 0, "a reference that nobody took");
            let flushed = gather.flush(&space);
            gather.release(machine, &graves, &flushed);
        }
        assert!(matches!(space.walk(odd, &section), Walked::Miss { .. }));
        // A block in the last entry of its table takes the table along, as a page does.
        let mut tables = 0;
        space.each_table(&section, |_, _| tables += 1);
        assert_eq!(tables, 1, "an empty table was left behind");
    }
}
