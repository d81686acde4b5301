//! The operation of `FUTEX_WAKE_OP`: how a word is changed, and what is asked about what was there.

use linux_raw_sys::general as linux;

/// A change of a word and a question about its old value (futex(2), `FUTEX_OP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeOp {
    operation: u32,
    operand: u32,
    comparison: u32,
    compared: i32,
}

impl WakeOp {
    /// From the last argument of the call. `None`: there is no such change.
    pub const fn decode(word: u32) -> Option<Self> {
        const SHIFT: u32 = linux::FUTEX_OP_OPARG_SHIFT << 28;
        let operation = word >> 28 & 7;
        if operation > linux::FUTEX_OP_XOR {
            return None;
        }
        // Both operands are twelve bits with a sign.
        let operand = (word << 8) as i32 >> 20;
        let operand = match word & SHIFT {
            0 => operand as u32,
            // Linux takes a shift that is too far by its low bits.
            _ => 1 << (operand & 31),
        };
        Some(Self {
            operation,
            operand,
            comparison: word >> 24 & 15,
            compared: (word << 20) as i32 >> 20,
        })
    }

    /// The new value of a word that is `old`.
    pub const fn apply(self, old: u32) -> u32 {
        match self.operation {
            linux::FUTEX_OP_SET => self.operand,
            linux::FUTEX_OP_ADD => old.wrapping_add(self.operand),
            linux::FUTEX_OP_OR => old | self.operand,
            linux::FUTEX_OP_ANDN => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    /// Whether the answer for a word that was `old` is yes. `None`: there is no such question.
    pub const fn holds(self, old: u32) -> Option<bool> {
        let old = old as i32;
        Some(match self.comparison {
            linux::FUTEX_OP_CMP_EQ => old == self.compared,
            linux::FUTEX_OP_CMP_NE => old != self.compared,
            linux::FUTEX_OP_CMP_LT => old < self.compared,
            linux::FUTEX_OP_CMP_LE => old <= self.compared,
            linux::FUTEX_OP_CMP_GT => old > self.compared,
            linux::FUTEX_OP_CMP_GE => old >= self.compared,
            _ => return None,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const fn word(operation: u32, operand: u32, comparison: u32, compared: u32) -> u32 {
        operation << 28 | comparison << 24 | (operand & 0xfff) << 12 | compared & 0xfff
    }

    fn applied(operation: u32, operand: u32, old: u32) -> Option<u32> {
        Some(WakeOp::decode(word(operation, operand, 0, 0))?.apply(old))
    }

    #[test]
    fn words_are_changed_as_said() {
        assert_eq!(applied(0, 7, 5), Some(7));
        assert_eq!(applied(0, -1i32 as u32, 5), Some(u32::MAX));
        assert_eq!(applied(1, 7, 5), Some(12));
        assert_eq!(applied(1, -2i32 as u32, 1), Some(u32::MAX));
        assert_eq!(applied(2, 6, 9), Some(15));
        assert_eq!(applied(3, 6, 15), Some(9));
        assert_eq!(applied(4, 6, 3), Some(5));
        assert_eq!([5, 6, 7].map(|o| applied(o, 0, 0)), [None; 3]);
    }

    #[test]
    fn an_operand_may_be_the_number_of_a_bit() {
        assert_eq!(applied(8, 31, 0), Some(1 << 31));
        assert_eq!(applied(8 | 2, 4, 1), Some(17));
        assert_eq!(applied(8, 33, 0), Some(2));
    }

    #[test]
    fn the_old_value_is_compared_with_its_sign() {
        let holds = |comparison, compared: i32, old: i32| {
            let op = WakeOp::decode(word(0, 0, comparison, compared as u32));
            op.and_then(|op| op.holds(old as u32))
        };
        for (comparison, expected) in [
            (0, [false, true, false]),
            (1, [true, false, true]),
            (2, [true, false, false]),
            (3, [true, true, false]),
            (4, [false, false, true]),
            (5, [false, true, true]),
        ] {
            let got = [-3, -2, 1].map(|old| holds(comparison, -2, old));
            assert_eq!(got, expected.map(Some), "comparison {comparison}");
        }
        assert_eq!(holds(6, 0, 0), None);
    }
}
