//! `memcpy`, which the compiler calls for every move of more than 32 bytes.
//!
//! The one that comes with the compiler copies word by word, some 70 instructions for the values
//! that the kernel moves; this one takes about 20 for 128 bytes. It takes both ends of a range
//! and lets them overlap in the middle, so that no length needs a loop below 129 bytes. All memory
//! that Rust code copies is Normal memory, where an access need not be aligned (SCTLR_EL1.A is 0).

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.memcpy, "ax"
    .balign 64
    .global memcpy
    .type memcpy, %function
    // x0 and x1 begin the ranges, x5 and x4 end them; x0 is the result and stays.
    memcpy:
    add     x4, x1, x2
    add     x5, x0, x2
    cmp     x2, #128
    b.hi    4f
    cmp     x2, #32
    b.hi    3f
    cmp     x2, #16
    b.lo    1f
    ldp     x6, x7, [x1]
    ldp     x8, x9, [x4, #-16]
    stp     x6, x7, [x0]
    stp     x8, x9, [x5, #-16]
    ret

    // Up to 15 bytes, by the highest bit of the length.
    1:
    tbz     x2, #3, 1f
    ldr     x6, [x1]
    ldr     x7, [x4, #-8]
    str     x6, [x0]
    str     x7, [x5, #-8]
    ret
    1:
    tbz     x2, #2, 1f
    ldr     w6, [x1]
    ldr     w7, [x4, #-4]
    str     w6, [x0]
    str     w7, [x5, #-4]
    ret
    1:
    cbz     x2, 2f
    lsr     x8, x2, #1
    ldrb    w6, [x1]
    ldrb    w7, [x1, x8]
    ldrb    w9, [x4, #-1]
    strb    w6, [x0]
    strb    w7, [x0, x8]
    strb    w9, [x5, #-1]
    2:
    ret

    // 33 to 128.
    3:
    ldp     x6, x7, [x1]
    ldp     x8, x9, [x1, #16]
    ldp     x10, x11, [x4, #-32]
    ldp     x12, x13, [x4, #-16]
    stp     x6, x7, [x0]
    stp     x8, x9, [x0, #16]
    cmp     x2, #64
    b.ls    3f
    ldp     x6, x7, [x1, #32]
    ldp     x8, x9, [x1, #48]
    ldp     x14, x15, [x4, #-64]
    ldp     x16, x17, [x4, #-48]
    stp     x6, x7, [x0, #32]
    stp     x8, x9, [x0, #48]
    stp     x14, x15, [x5, #-64]
    stp     x16, x17, [x5, #-48]
    3:
    stp     x10, x11, [x5, #-32]
    stp     x12, x13, [x5, #-16]
    ret

    // More: 64 at a time while more than 64 are left, then the last 64.
    4:
    mov     x3, x0
    sub     x2, x2, #64
    5:
    ldp     x6, x7, [x1]
    ldp     x8, x9, [x1, #16]
    ldp     x10, x11, [x1, #32]
    ldp     x12, x13, [x1, #48]
    add     x1, x1, #64
    stp     x6, x7, [x3]
    stp     x8, x9, [x3, #16]
    stp     x10, x11, [x3, #32]
    stp     x12, x13, [x3, #48]
    add     x3, x3, #64
    subs    x2, x2, #64
    b.hi    5b
    ldp     x6, x7, [x4, #-64]
    ldp     x8, x9, [x4, #-48]
    ldp     x10, x11, [x4, #-32]
    ldp     x12, x13, [x4, #-16]
    stp     x6, x7, [x5, #-64]
    stp     x8, x9, [x5, #-48]
    stp     x10, x11, [x5, #-32]
    stp     x12, x13, [x5, #-16]
    ret
    .size memcpy, . - memcpy
    "#
);
