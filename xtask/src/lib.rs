//! What both `cargo xtask` and the QEMU tests need to boot a Tessera machine and to understand it.
//!
//! - [`control`]: the machine lines the kernel prints, and the filter that takes them out of the
//!   program's output;
//! - [`image`]: a kernel ELF made into the flat arm64 `Image` that boot loaders expect;
//! - [`initrd`]: the cpio archive that carries the program, its arguments and its environment;
//! - [`machine`]: the QEMU command line as a value;
//! - [`tree`]: QEMU's device tree with tag storage in it;
//! - [`guest`]: a running QEMU that is always stopped again, as a stream of pieces;
//! - [`page`]: the report of a run as one page of HTML;
//! - [`trace`]: what the kernel traced, read back;
//! - [`ending`]: the one place that says how a run ended, judged from the control lines.
//!
//! The order of use:
//!
//! ```ignore
//! let token = xtask::control::token();
//! std::fs::write(&image_path, xtask::image::flat(&std::fs::read(&elf_path)?)?)?;
//! std::fs::write(&initrd_path, xtask::initrd::Initrd::new(&["prog", "arg"], &program).archive())?;
//! let machine = xtask::machine::Machine::new(&image_path)
//!     .cpu("cortex-a72").smp(4).memory("512M").initrd(&initrd_path).token(&token);
//! let guest = xtask::guest::Guest::spawn(&machine, &qemu_path, None)?;
//! let run = guest.run(xtask::guest::Limits::secs(30), |piece| { /* every byte and line */ })?;
//! assert_eq!(run.ending.status(), 0, "{}", run.ending);
//! ```

pub mod control;
pub mod ending;
pub mod guest;
pub mod image;
pub mod initrd;
pub mod machine;
pub mod page;
pub mod shell;
pub mod trace;
pub mod tree;
