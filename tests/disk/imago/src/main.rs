// SPDX-License-Identifier: Apache-2.0
//! imago_read FORMAT IMAGE: writes all bytes of a qcow2 or VMDK image, as the crate imago reads them, to standard output.
//! The reads are of 999,936 bytes, which is no multiple of a cluster. The exit code is 1 if imago refuses the image, with its message.
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::vmdk::Vmdk;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use std::io::{self, Write};

const PIECE: u64 = 999_936;

fn open(format: &str, path: &str) -> io::Result<FormatAccess<File>> {
    let gate = PermissiveImplicitOpenGate::default();
    Ok(match format {
        "qcow2" => FormatAccess::new(Qcow2::<File>::builder_path(path).open(gate)?),
        "vmdk" => FormatAccess::new(Vmdk::<File>::builder_path(path).open(gate)?),
        _ => return Err(io::Error::other("expected qcow2 or vmdk")),
    })
}

fn copy(format: &str, path: &str) -> io::Result<()> {
    let disk = open(format, path)?;
    let mut out = io::stdout().lock();
    let mut at = 0;
    while at < disk.size() {
        let mut piece = vec![0u8; PIECE.min(disk.size() - at) as usize];
        disk.read(&mut piece, at)?;
        out.write_all(&piece)?;
        at += piece.len() as u64;
    }
    out.flush()
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let Err(e) = copy(&words[1], &words[2]) {
        eprintln!("imago_read: {e}");
        std::process::exit(1);
    }
}
