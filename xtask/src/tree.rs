//! QEMU's own device tree with tag storage in it (binding: `kernel/src/fdt/tag_storage.rs`).
//!
//! QEMU does not know tag storage: where it keeps tags no guest can look. The region that is added is
//! ordinary RAM, for the kernel to treat as if tags were in it. QEMU writes the memory node anew when it
//! loads a tree, without the phandle that the region has to name: a second node says the same, under a
//! name that QEMU leaves alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// Where RAM begins on QEMU's `virt` machine.
const RAM: u64 = 0x4000_0000;
/// Bytes of storage that change hands at a time.
const BLOCK: u32 = 4096;
/// Memory served by each byte of storage.
const SERVED: u64 = 32;
/// The phandle of the memory: QEMU counts its own from 0x8000.
const PHANDLE: u32 = 0x7e55;
const ALIGN: u64 = 2 << 20;

/// Bytes of a size as QEMU writes it.
///
/// # Errors
/// It is none.
pub fn bytes(size: &str) -> Result<u64> {
    let (number, shift) = match size.as_bytes().last() {
        Some(b'K' | b'k') => (&size[..size.len() - 1], 10),
        Some(b'M' | b'm') => (&size[..size.len() - 1], 20),
        Some(b'G' | b'g') => (&size[..size.len() - 1], 30),
        // A bare number is MiB.
        Some(_) => (size, 20),
        None => bail!("an empty size"),
    };
    let number: u64 = number
        .parse()
        .with_context(|| format!("{size:?} is not a size"))?;
    number
        .checked_shl(shift)
        .filter(|bytes| bytes >> shift == number)
        .with_context(|| format!("{size:?} is too large"))
}

/// A tree for the machine of these QEMU arguments (board, CPU, number of CPUs, size of RAM), with
/// `storage` bytes of tag storage for all of its RAM of `memory` bytes. Made once in a process.
///
/// # Errors
/// QEMU does not say its tree, or the file cannot be written.
pub fn with_tag_storage(
    qemu: &Path,
    arguments: &[String],
    memory: u64,
    storage: u64,
) -> Result<PathBuf> {
    static MADE: OnceLock<Mutex<BTreeMap<String, PathBuf>>> = OnceLock::new();
    let key = format!("{} {} {storage:x}", qemu.display(), arguments.join(" "));
    let made = MADE.get_or_init(Mutex::default);
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = made.get(&key) {
        return Ok(file.clone());
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tessera/trees");
    std::fs::create_dir_all(&dir).context("cannot make a place for device trees")?;
    let dir = dir.canonicalize()?;
    let base = tempfile::Builder::new().prefix("base-").tempfile_in(&dir)?;
    dump(qemu, arguments, base.path())?;
    let blob = std::fs::read(base.path()).context("QEMU left no device tree")?;
    let blob = add(&blob, memory, storage)?;
    let file = tempfile::Builder::new().prefix("new-").tempfile_in(&dir)?;
    std::fs::write(file.path(), &blob)?;
    let name = dir.join(format!("{:016x}.dtb", hash(&key)));
    file.persist(&name).context("cannot keep a device tree")?;
    made.insert(key, name.clone());
    Ok(name)
}

/// FNV-1a: a name for a file.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn dump(qemu: &Path, arguments: &[String], to: &Path) -> Result<()> {
    let mut arguments = arguments.to_vec();
    let Some(board) = arguments.get_mut(1) else {
        bail!("a machine without a board")
    };
    board.push_str(&format!(
        ",dumpdtb={}",
        to.display().to_string().replace(',', ",,")
    ));
    let done = Command::new(qemu)
        .args(&arguments)
        .args(["-nodefaults", "-display", "none"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", qemu.display()))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("QEMU does not say its device tree: {}", said.trim());
    }
    Ok(())
}

/// Adds the region to a tree.
///
/// # Errors
/// It is no tree, or the region does not fit the machine.
pub fn add(blob: &[u8], memory: u64, storage: u64) -> Result<Vec<u8>> {
    let tree = Fdt::new(blob).map_err(|error| anyhow::anyhow!("QEMU's device tree: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&tree);
    if storage >= memory / 4 {
        bail!("{storage:#x} bytes of tag storage are too many for {memory:#x} bytes of RAM");
    }
    // Above all that QEMU loads, and clear of what is held back at the end.
    let start = RAM + (memory / 4 * 3) / ALIGN * ALIGN;
    let node = |name: String| DeviceTreeNode::new(name).context("the name of a node");
    let mut ram = node(format!("ram@{RAM:x}"))?;
    property(&mut ram, "device_type", "memory\0".as_bytes().to_vec())?;
    property(&mut ram, "reg", cells(&[RAM, memory]))?;
    property(&mut ram, "phandle", PHANDLE.to_be_bytes().to_vec())?;
    tree.root.add_child(ram);
    let mut region = node(format!("tag-storage@{start:x}"))?;
    property(&mut region, "compatible", b"arm,mte-tag-storage\0".to_vec())?;
    property(&mut region, "reg", cells(&[start, storage]))?;
    property(&mut region, "block-size", BLOCK.to_be_bytes().to_vec())?;
    property(&mut region, "tagged-memory", PHANDLE.to_be_bytes().to_vec())?;
    property(&mut region, "reusable", Vec::new())?;
    let mut reserved = node("reserved-memory".to_owned())?;
    property(&mut reserved, "#address-cells", 2u32.to_be_bytes().to_vec())?;
    property(&mut reserved, "#size-cells", 2u32.to_be_bytes().to_vec())?;
    property(&mut reserved, "ranges", Vec::new())?;
    reserved.add_child(region);
    tree.root.add_child(reserved);
    Ok(tree.to_dtb())
}

/// A thirty-second of `memory`, in whole blocks.
#[must_use]
pub fn enough_for(memory: u64) -> u64 {
    memory.div_ceil(SERVED).next_multiple_of(BLOCK.into())
}

fn cells(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn property(node: &mut DeviceTreeNode, name: &str, value: Vec<u8>) -> Result<()> {
    let property = DeviceTreeProperty::new(name, value).context("the name of a property")?;
    node.add_property(property);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_qemu_reads_them() {
        assert_eq!(bytes("512M").unwrap(), 512 << 20);
        assert_eq!(bytes("2G").unwrap(), 2 << 30);
        assert_eq!(bytes("96").unwrap(), 96 << 20);
        assert_eq!(bytes("64k").unwrap(), 64 << 10);
        for bad in ["", "M", "x", "99999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_region_serves_all_memory() {
        assert_eq!(enough_for(512 << 20), 16 << 20);
        assert_eq!(enough_for((512 << 20) + 1), (16 << 20) + 4096);
    }

    #[test]
    fn a_region_too_large_for_the_machine_is_refused() {
        let blob = DeviceTree::new().to_dtb();
        assert!(add(&blob, 64 << 20, 2 << 20).is_ok());
        assert!(add(&blob, 64 << 20, 16 << 20).is_err());
        assert!(add(b"no tree", 64 << 20, 2 << 20).is_err());
    }
}
