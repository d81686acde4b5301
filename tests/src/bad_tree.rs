//! Device trees that lie, and loaders that are not QEMU's: the kernel runs or refuses in words,
//! and neither hangs nor reports a bug.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::initrd::Initrd;

use crate::make::elf::Elf;
use crate::make::fdt::{Fdt, Gic, Virt};
use crate::make::shim::{INITRD, KERNEL, TREE, machine};
use crate::outcome::{self, Ending, Outcome};
use crate::runner::{Boot, Booted, Limits, Listener};
use crate::{env, stage, trial};

/// RAM of the machine, whatever the tree says.
const RAM: u64 = 512 << 20;
/// EX_CONFIG: the kernel refuses the machine.
const REFUSED: i32 = 78;
/// What the program in the initrd ends with.
const STATUS: u8 = 23;

/// What must become of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The program runs.
    Runs,
    /// Refused, with this word in the explanation.
    Refused(&'static str),
    /// One of both, in order.
    Either,
    /// Refused without a word: there is nothing to say it on.
    Mute,
}

/// Makes a blob from the tree that is in order.
type Make = fn(Virt) -> Vec<u8>;

const TREES: &[(&str, Fate, Make)] = &[
    ("in_order", Fate::Runs, |tree| tree.blob()),
    ("full_of_nops", Fate::Runs, |tree| {
        Virt { nops: true, ..tree }.blob()
    }),
    ("two_banks", Fate::Runs, |tree| {
        let memory = vec![(0x4000_0000, 256 << 20), (0x5800_0000, 128 << 20)];
        Virt { memory, ..tree }.blob()
    }),
    ("banks_out_of_order", Fate::Runs, |tree| {
        let memory = vec![(0x5800_0000, 128 << 20), (0x4000_0000, 256 << 20)];
        Virt { memory, ..tree }.blob()
    }),
    ("nested_deeply", Fate::Either, |tree| {
        Virt { depth: 200, ..tree }.blob()
    }),
    ("more_cpus_than_there_are", Fate::Either, |tree| {
        Virt { cpus: 3, ..tree }.blob()
    }),
    ("no_memory", Fate::Refused("memory"), |tree| {
        Virt {
            memory: vec![],
            ..tree
        }
        .blob()
    }),
    ("memory_of_size_zero", Fate::Refused("memory"), |tree| {
        Virt {
            memory: vec![(0x4000_0000, 0)],
            ..tree
        }
        .blob()
    }),
    (
        "memory_without_the_kernel",
        Fate::Refused("image"),
        |tree| {
            Virt {
                memory: vec![(0x5000_0000, 64 << 20)],
                ..tree
            }
            .blob()
        },
    ),
    (
        "memory_smaller_than_the_kernel",
        Fate::Refused("image"),
        |tree| {
            Virt {
                memory: vec![(0x4040_0000, 3 << 20)],
                initrd: None,
                ..tree
            }
            .blob()
        },
    ),
    ("memory_up_to_the_end_of_addresses", Fate::Either, |tree| {
        Virt {
            memory: vec![(0x4000_0000, u64::MAX - 0x4000_0000)],
            ..tree
        }
        .blob()
    }),
    ("overlapping_banks", Fate::Either, |tree| {
        let memory = vec![(0x4000_0000, 256 << 20), (0x4800_0000, 256 << 20)];
        Virt { memory, ..tree }.blob()
    }),
    ("no_psci", Fate::Either, |tree| {
        Virt {
            psci: false,
            ..tree
        }
        .blob()
    }),
    ("no_timer", Fate::Either, |tree| {
        Virt {
            timer: false,
            ..tree
        }
        .blob()
    }),
    ("no_gic", Fate::Refused("GIC"), |tree| {
        Virt {
            gic: Gic::Absent,
            ..tree
        }
        .blob()
    }),
    ("no_cpus", Fate::Either, |tree| {
        Virt { cpus: 0, ..tree }.blob()
    }),
    ("no_uart", Fate::Mute, |tree| {
        Virt {
            uart: false,
            ..tree
        }
        .blob()
    }),
    ("no_initrd", Fate::Either, |tree| {
        Virt {
            initrd: None,
            ..tree
        }
        .blob()
    }),
    ("initrd_outside_ram", Fate::Either, |tree| {
        Virt {
            initrd: Some((1 << 40, (1 << 40) + 4096)),
            ..tree
        }
        .blob()
    }),
    ("initrd_that_ends_before_it_starts", Fate::Either, |tree| {
        Virt {
            initrd: Some((INITRD, INITRD - 4096)),
            ..tree
        }
        .blob()
    }),
    ("an_empty_tree", Fate::Refused(""), |_| {
        Fdt::default().open("").close().blob()
    }),
    ("all_zero", Fate::Refused(""), |_| vec![0; 4096]),
    ("random_bytes", Fate::Refused(""), |_| noise(4096)),
    ("good_header_then_noise", Fate::Refused(""), |tree| {
        let mut blob = tree.blob();
        let len = blob.len() - 56;
        blob[56..].copy_from_slice(&noise(len));
        blob
    }),
    ("a_length_beyond_everything", Fate::Refused(""), |tree| {
        let mut blob = tree.blob();
        blob[4..8].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
        blob
    }),
];

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = TREES
        .iter()
        .map(|&(name, fate, make)| {
            let name = format!("bad_tree::{name}");
            trial(name.clone(), move || run(&name, TREE, fate, make))
        })
        .collect();
    trials.push(trial("bad_tree::cut_off".into(), || {
        damaged("cut_off", cut)
    }));
    trials.push(trial("bad_tree::one_bit_wrong".into(), || {
        damaged("one_bit_wrong", flip)
    }));
    trials.push(trial("bad_tree::little_memory".into(), little_memory));
    trials.push(trial("bad_tree::no_address".into(), || {
        address("no_address", 0)
    }));
    trials.push(trial("bad_tree::odd_address".into(), || {
        address("odd_address", TREE + 4)
    }));
    trials.push(trial("bad_tree::address_outside_ram".into(), || {
        address("address_outside_ram", 0x3000_0000)
    }));
    trials
}

/// Bytes without meaning, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Eight blobs, cut ever earlier; the header still promises the whole.
fn cut(blob: &[u8], round: usize) -> Vec<u8> {
    blob[..blob.len() * round / 8].to_vec()
}

/// One bit of the structure block is wrong.
fn flip(blob: &[u8], round: usize) -> Vec<u8> {
    let mut blob = blob.to_vec();
    let at = 56 + (blob.len() - 56) * (2 * round + 1) / 16;
    blob[at] ^= 1 << (round % 8);
    blob
}

fn damaged(name: &str, damage: fn(&[u8], usize) -> Vec<u8>) -> Result<()> {
    (0..8).try_for_each(|round| {
        let name = format!("bad_tree::{name}_{round}");
        // Damage may hit the UART's node or the token, so silence is in order.
        let booted = boot(&name, TREE, |tree| damage(&tree.blob(), round))?;
        settle(&name, &booted, Fate::Mute)
    })
}

/// RAM that ends ever closer behind the kernel: at some size it is refused, never a bug.
fn little_memory() -> Result<()> {
    for mib in (3..16).chain([20, 24, 28, 32, 48, 64, 96]) {
        let name = format!("bad_tree::little_memory_{mib}");
        let booted = boot(&name, TREE, |tree| {
            let memory = vec![(KERNEL, mib << 20)];
            Virt { memory, ..tree }.blob()
        })?;
        settle(&name, &booted, Fate::Either)?;
    }
    Ok(())
}

fn address(name: &str, x0: u64) -> Result<()> {
    run(
        &format!("bad_tree::{name}"),
        x0,
        Fate::Refused("device tree"),
        |tree| tree.blob(),
    )
}

fn run(name: &str, x0: u64, fate: Fate, make: Make) -> Result<()> {
    let booted = boot(name, x0, make)?;
    settle(name, &booted, fate)
}

/// The test's result; the files of a boot that went well are not needed any more.
fn settle(name: &str, booted: &Booted, fate: Fate) -> Result<()> {
    booted.verdict(judge(booted, fate))?;
    stage::clear(&stage::folder(name)?);
    Ok(())
}

/// Boots the kernel through the shim with the blob that `make` derives from a tree in order.
fn boot(name: &str, x0: u64, make: impl FnOnce(Virt) -> Vec<u8>) -> Result<Booted> {
    let folder = stage::folder(name)?;
    let token = xtask::control::token();
    let initrd = Initrd::new(&["./odd"], &Elf::exits(STATUS.into()).bytes()).archive();
    let range = (INITRD, INITRD + initrd.len() as u64);
    let words = format!("tessera.token={token} tessera.icount=1");
    let blob = make(Virt::new(RAM, words, range));
    let files: [(u64, PathBuf); 2] = [(TREE, folder.join("tree")), (INITRD, folder.join("initrd"))];
    fs::write(&files[0].1, blob)?;
    fs::write(&files[1].1, initrd)?;
    let machine = machine(&folder, &env::kernel_image()?, x0, &files)?;
    Boot::new(name, machine.icount(true).token(&token), Limits::FUNCTIONAL).run(&mut Listener)
}

fn judge(booted: &Booted, fate: Fate) -> Outcome {
    let ended = &booted.ended;
    let code = ended.status.and_then(|status| status.code());
    if ended.stop.is_some() || code.is_none() || ended.last("bug").is_some() || code == Some(70) {
        return match ended.halted() {
            Err(outcome) => outcome,
            Ok(status) => {
                Outcome::Crashed(format!("a kernel bug, or no end in order; status {status}"))
            }
        };
    }
    let runs = outcome::program(ended, Ending::Exit(STATUS));
    let refused = refusal(booted, code);
    match fate {
        Fate::Runs => runs,
        Fate::Refused(word) => match refused {
            Ok(text) if text.contains(word) => Outcome::Pass,
            Ok(text) => Outcome::Fail(format!("the refusal `{text}` does not mention {word}")),
            Err(outcome) => outcome,
        },
        Fate::Either if runs == Outcome::Pass => Outcome::Pass,
        // Without a program there is nothing to run, which is said like any bad program.
        Fate::Either if outcome::program(ended, Ending::ExecFail("")) == Outcome::Pass => {
            Outcome::Pass
        }
        Fate::Either => refused.map_or_else(|outcome| outcome, |_| Outcome::Pass),
        Fate::Mute if matches!(code, Some(REFUSED | 23 | 126)) => Outcome::Pass,
        Fate::Mute => Outcome::Fail(format!("status {code:?}")),
    }
}

/// What the kernel said when it refused the machine.
fn refusal(booted: &Booted, code: Option<i32>) -> Result<String, Outcome> {
    if code != Some(REFUSED) {
        return Err(Outcome::Fail(format!(
            "status {code:?} instead of a refusal"
        )));
    }
    let line = booted
        .ended
        .last("refused")
        .and_then(|line| line.get("text"));
    let text = String::from_utf8_lossy(&booted.ended.output);
    let text = line.map_or_else(|| text.trim().to_owned(), str::to_owned);
    if text.len() < 10 {
        return Err(Outcome::Fail(format!(
            "refused without an explanation: `{text}`"
        )));
    }
    Ok(text)
}
