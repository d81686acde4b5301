//! Random bytes: ChaCha20 (`rand_chacha`), keyed from the device tree's `rng-seed`.
//!
//! The seed is as good as what the firmware or the emulator put there. Without one the key comes
//! from counters and identification registers alone, which an attacker could guess: an information
//! line says so at boot.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sync::{Once, SpinLock, rank};

use crate::arch::{cpu, time};

static GENERATOR: Once<SpinLock<ChaCha20Rng, rank::Leaf>> = Once::new();

/// Seeds the generator, once, at boot.
pub fn init(seed: Option<[u8; 32]>) {
    let mut key = [0u8; 32];
    let counters = [
        time::now(),
        time::instructions(),
        cpu::midr(),
        time::realtime_offset(),
    ];
    for (chunk, word) in key.chunks_exact_mut(8).zip(counters) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    match seed {
        Some(seed) => key
            .iter_mut()
            .zip(seed)
            .for_each(|(key, seed)| *key ^= seed),
        None => log::info!("the device tree has no rng-seed: random numbers can be guessed"),
    }
    GENERATOR.call_once(|| SpinLock::new(ChaCha20Rng::from_seed(key)));
}

/// Fills `bytes`, at most a few hundred.
pub fn fill(bytes: &mut [u8]) {
    if GENERATOR.get().is_none() {
        init(None);
    }
    if let Some(generator) = GENERATOR.get() {
        generator.lock().fill_bytes(bytes);
    }
}
