//! `process_vm_readv` and `process_vm_writev` on the program itself.

use crate::file::raw;
use programs::memory::Area;
use programs::sys::{PAGE, errno, map, nr};
use programs::{check, require, require_result};

type Parts<'a> = &'a [[usize; 2]];

fn copy(number: usize, pid: usize, local: Parts<'_>, remote: Parts<'_>, flags: usize) -> isize {
    let at = |parts: Parts<'_>| parts.as_ptr() as usize;
    let args = [pid, at(local), local.len(), at(remote), remote.len(), flags];
    raw(number, args)
}

pub fn run() {
    check::section(27, "process_vm_readv and process_vm_writev");
    let me = raw(nr::GETPID, [0; 6]) as usize;
    let area = Area::new(3 * PAGE, map::RW);
    area.fill(0, PAGE, 1);
    area.fill(PAGE, PAGE, 2);
    let target = Area::new(3 * PAGE, map::RW);
    let remote = [[area.addr(PAGE - 6), 4], [area.addr(PAGE - 2), 5]];
    let local = [[target.addr(10), 3], [64, 0], [target.addr(20), 100]];
    let got = copy(nr::PROCESS_VM_READV, me, &local, &remote, 0);
    require_result!(got, 9, "readv");
    let read: Vec<_> = (10..13).chain(20..27).map(|at| target.get(at)).collect();
    require!(read == [1, 1, 1, 1, 1, 1, 2, 2, 2, 0], "{read:?}");
    target.fill(0, 2 * PAGE, 7);
    let whole = [[area.addr(100), 2 * PAGE]];
    let local = [[target.addr(0), 2 * PAGE]];
    let got = copy(nr::PROCESS_VM_WRITEV, me, &local, &whole, 0);
    require_result!(got, 2 * PAGE as isize, "writev over pages");
    require!(area.holds(100, 2 * PAGE, 7), "what was written");
    require!(
        area.get(99) == 1 && area.get(2 * PAGE + 100) == 0,
        "no more"
    );
    errors(me, &area, &local);
}

fn errors(me: usize, area: &Area, local: Parts<'_>) {
    let read = |pid, local, remote, flags| copy(nr::PROCESS_VM_READV, pid, local, remote, flags);
    let good = [[area.addr(0), 16]];
    require_result!(read(me, local, &good, 1), -errno::EINVAL, "flags");
    let nobody = 0x3fff_fff0;
    require_result!(read(nobody, local, &good, 0), -errno::ESRCH, "no process");
    require_result!(read(nobody, &[], &good, 0), 0, "nothing to do comes first");
    require_result!(read(me, local, &[], 0), 0, "nothing to read");
    let bad = [[64, 16]];
    require_result!(read(me, local, &bad, 0), -errno::EFAULT, "no source");
    require_result!(read(me, &bad, &good, 0), -errno::EFAULT, "no target");
    let mixed = [[area.addr(0), 16], [64, 16]];
    require_result!(read(me, local, &mixed, 0), 16, "a bad second part");
    let many = [[area.addr(0), 1]; 1025];
    require_result!(read(me, local, &many, 0), -errno::EINVAL, "too many");
    require_result!(read(me, &many, &good, 0), -errno::EINVAL, "too many");
    let negative = [[area.addr(0), 1 << 63]];
    require_result!(read(me, &negative, &good, 0), -errno::EINVAL, "length");
    let read_only = Area::new(PAGE, map::PROT_READ);
    let to = [[read_only.addr(0), 16]];
    let got = copy(nr::PROCESS_VM_WRITEV, me, &good, &to, 0);
    require_result!(got, -errno::EFAULT, "to read-only memory");
}
