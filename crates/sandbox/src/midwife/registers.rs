//! How a system call is made on each architecture: which registers, which instruction. Values only.

use std::io;

pub(super) use arch::{
    Registers, call_instruction, cleared_tid, clone_arguments, forget_call, is_call_instruction, set_call,
    stack,
};

/// What a call gave that was stepped over.
pub(super) fn result(registers: &Registers) -> io::Result<u64> {
    /// The kernel's error numbers end here.
    const ERRORS: i64 = 4096;
    let value = arch::result(registers);
    let signed = value.cast_signed();
    if (-ERRORS..0).contains(&signed) {
        return Err(io::Error::from_raw_os_error(i32::try_from(-signed).unwrap_or(libc::EINVAL)));
    }
    Ok(value)
}

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(in super::super) type Registers = libc::user_regs_struct;

    /// `syscall`.
    const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

    /// Where the call instruction is that was executed last.
    pub(in super::super) fn call_instruction(registers: &Registers) -> usize {
        (registers.rip - INSTRUCTION.len() as u64) as usize
    }

    pub(in super::super) fn is_call_instruction(word: u64) -> bool {
        word.to_le_bytes().starts_with(&INSTRUCTION)
    }

    pub(in super::super) fn set_call(registers: &mut Registers, number: libc::c_long, arguments: &[u64]) {
        let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
        registers.rip -= INSTRUCTION.len() as u64;
        registers.rax = number.cast_unsigned();
        registers.orig_rax = u64::MAX;
        (registers.rdi, registers.rsi, registers.rdx) = (argument(0), argument(1), argument(2));
        (registers.r10, registers.r8, registers.r9) = (argument(3), argument(4), argument(5));
    }

    /// It is not in a call any more, so none is made again when it runs.
    pub(in super::super) fn forget_call(registers: &mut Registers) {
        registers.orig_rax = u64::MAX;
    }

    pub(super) fn result(registers: &Registers) -> u64 {
        registers.rax
    }

    pub(in super::super) fn stack(registers: &Registers) -> u64 {
        registers.rsp
    }

    /// Arguments of `clone` for a process that goes on where its parent is.
    pub(in super::super) fn clone_arguments(flags: libc::c_int, child_tid: u64) -> [u64; 5] {
        [u64::from(flags.cast_unsigned()), 0, 0, child_tid, 0]
    }

    /// Where a process that a `clone` has just made keeps its own number, if the C library keeps it.
    pub(in super::super) fn cleared_tid(registers: &Registers) -> u64 {
        let is_clone = registers.orig_rax == libc::SYS_clone.cast_unsigned();
        let keeps = registers.rdi & u64::from(libc::CLONE_CHILD_CLEARTID.cast_unsigned()) != 0;
        if is_clone && keeps { registers.r10 } else { 0 }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(in super::super) type Registers = libc::user_regs_struct;

    /// `svc #0`.
    const INSTRUCTION: [u8; 4] = 0xd400_0001_u32.to_le_bytes();

    /// Where the call instruction is that was executed last.
    pub(in super::super) fn call_instruction(registers: &Registers) -> usize {
        (registers.pc - INSTRUCTION.len() as u64) as usize
    }

    pub(in super::super) fn is_call_instruction(word: u64) -> bool {
        word.to_le_bytes().starts_with(&INSTRUCTION)
    }

    pub(in super::super) fn set_call(registers: &mut Registers, number: libc::c_long, arguments: &[u64]) {
        registers.pc -= INSTRUCTION.len() as u64;
        registers.regs[8] = number.cast_unsigned();
        for index in 0..6 {
            registers.regs[index] = arguments.get(index).copied().unwrap_or(0);
        }
    }

    /// It is not in a call any more: this architecture keeps no note of one in these registers.
    pub(in super::super) fn forget_call(_registers: &mut Registers) {}

    pub(super) fn result(registers: &Registers) -> u64 {
        registers.regs[0]
    }

    pub(in super::super) fn stack(registers: &Registers) -> u64 {
        registers.sp
    }

    /// Arguments of `clone` for a process that goes on where its parent is.
    pub(in super::super) fn clone_arguments(flags: libc::c_int, child_tid: u64) -> [u64; 5] {
        [u64::from(flags.cast_unsigned()), 0, 0, 0, child_tid]
    }

    /// Where a process that a `clone` has just made keeps its own number, if the C library keeps it. Its first register
    /// holds the result already, so whether the library keeps it is told by the address alone.
    pub(in super::super) fn cleared_tid(registers: &Registers) -> u64 {
        if registers.regs[8] == libc::SYS_clone.cast_unsigned() { registers.regs[4] } else { 0 }
    }
}
