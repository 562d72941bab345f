//! The program of sandboxes: it waits for ever, and never for a child.
//!
//! Written down as machine code, since its image holds nothing else and is made where nothing can be compiled or fetched. With
//! `SIGCHLD` ignored the kernel itself reaps what is left to it, so it serves as the first process of a pod whose containers
//! share their process ids.

use std::path::Path;

use longshore_core::runtime::Error;

use crate::archive::{Archive, Content};
use crate::engine::Engine;

/// ```text
///     mov eax, 13           rt_sigaction(
///     mov edi, 17             SIGCHLD,
///     lea rsi, [rip + act]    &act,
///     xor edx, edx            NULL,
///     mov r10d, 8             8)
///     syscall
/// 1:  mov eax, 34           pause()
///     syscall
///     jmp 1b
/// ```
#[rustfmt::skip]
const X86_64: &[u8] = &[
    0xb8, 13, 0, 0, 0,
    0xbf, 17, 0, 0, 0,
    0x48, 0x8d, 0x35, 23, 0, 0, 0,
    0x31, 0xd2,
    0x41, 0xba, 8, 0, 0, 0,
    0x0f, 0x05,
    0xb8, 34, 0, 0, 0,
    0x0f, 0x05,
    0xeb, 0xf7,
    // To a multiple of 8.
    0, 0, 0, 0,
];

/// ```text
///     adr x1, act           rt_sigaction(SIGCHLD, &act, NULL, 8)
///     mov x0, #17
///     mov x2, #0
///     mov x3, #8
///     mov x8, #134
///     svc #0
/// 1:  mov x0, #0            ppoll(NULL, 0, NULL, NULL, 0)
///     mov x1, #0
///     mov x2, #0
///     mov x3, #0
///     mov x4, #0
///     mov x8, #73
///     svc #0
///     b 1b
/// ```
const AARCH64: &[u32] = &[
    0x1000_01c1,
    0xd280_0220,
    0xd280_0002,
    0xd280_0103,
    0xd280_10c8,
    0xd400_0001,
    0xd280_0000,
    0xd280_0001,
    0xd280_0002,
    0xd280_0003,
    0xd280_0004,
    0xd280_0928,
    0xd400_0001,
    0x17ff_fff9,
];

/// The kernel's `struct sigaction`: the handler `SIG_IGN`, then flags, restorer and mask, all zero.
const ACTION: [u64; 4] = [1, 0, 0, 0];

/// Where the program is loaded.
const ADDRESS: u64 = 0x40_0000;

/// The size of the file's header and of its one segment's.
const HEADERS: u64 = 64 + 56;

/// The program as a file, for the machine this was compiled for.
fn program() -> Option<Vec<u8>> {
    match std::env::consts::ARCH {
        "x86_64" => Some(elf(62, X86_64)),
        "aarch64" => Some(elf(183, &AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())),
        _ => None,
    }
}

/// An executable of one segment: headers, code, and the action behind it.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = HEADERS + code.len() as u64 + size_of_val(&ACTION) as u64;
    // An executable for this machine, version 1.
    file.extend([2, machine].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    // Entry, segments' headers, no sections; flags; then sizes and numbers.
    file.extend([ADDRESS + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    // To be loaded, read and run; offset, addresses, sizes, alignment.
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0, ADDRESS, ADDRESS, size, size, 0x1_0000].map(u64::to_le_bytes).concat());
    file.extend(code);
    file.extend(ACTION.map(u64::to_le_bytes).concat());
    file
}

impl Engine {
    /// The name of this instance's image of the program.
    pub(crate) fn pause_image(&self) -> String {
        format!("longshore.local/pause:{}", self.instance)
    }

    /// Makes the image of sandboxes.
    pub(crate) async fn make_pause_image(&self) -> Result<(), Error> {
        let image = self.pause_image();
        let program = program().ok_or_else(|| Error::Unsupported {
            runtime: crate::NAME.to_owned(),
            what: format!("machines of the kind {}", std::env::consts::ARCH),
        })?;
        let mut archive =
            Archive::new().map_err(|error| Error::Image { image: image.clone(), reason: error.to_string() })?;
        let added = archive.add(Path::new("pause"), Content::Bytes(&program), 0o755);
        let made = added.and_then(|()| archive.finish(&image, &["/pause".to_owned()]));
        let file = made.map_err(|error| Error::Image { image: image.clone(), reason: error.to_string() })?;
        self.load(&image, file).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_program_starts_and_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pause");
        std::fs::write(&path, program().unwrap()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        // Until it sleeps in its loop, with SIGCHLD (bit 16) ignored.
        loop {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
            if u64::from_str_radix(ignored, 16).unwrap() & 1 << 16 != 0 && status.contains("State:\tS") {
                break;
            }
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_action_is_where_the_code_says() {
        // After `lea`, 17 bytes in, the code goes on for 23 bytes to the action.
        assert_eq!(X86_64.len(), 17 + 23);
        // `adr` counts from itself, the first word.
        assert_eq!(AARCH64[0] >> 5 & 0x7_ffff, AARCH64.len() as u32);
        assert_eq!((HEADERS as usize + X86_64.len()) % 8, 0);
    }
}
