//! Large files that are written or read once, from start to end, around the page cache.
//!
//! Through it each byte is copied once more, and takes the memory of what is looked at often; where memory is new to a virtual
//! machine, that costs more than the disk. Where a file system knows no direct access, the page cache is used.

use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Direct access takes whole blocks, in memory too.
const BLOCK_BYTES: usize = 4096;
/// Read or written at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// Zeros that begin at a block's boundary.
struct Blocks {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Blocks {
    fn new(bytes: usize) -> Blocks {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let memory = vec![0; bytes + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Blocks { memory, start, bytes }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }

    /// Reads from `offset` on, where a block begins, until these are full or the file ends; says how much.
    fn fill(&mut self, file: &File, offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        // Only the end of a file leaves a block half read.
        while filled < self.bytes && filled.is_multiple_of(BLOCK_BYTES) {
            match file.read_at(&mut self.get()[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Opens a file for direct access.
///
/// # Errors
/// As [`OpenOptions::open`].
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match options.custom_flags(libc::O_DIRECT | libc::O_CLOEXEC).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.custom_flags(libc::O_CLOEXEC).open(path),
        opened => opened,
    }
}

/// A part of a file, or less where the file ends before.
///
/// # Errors
/// What opening and reading say.
pub fn read_up_to(path: &Path, offset: u64, bytes: usize) -> io::Result<Bytes> {
    let before = (offset % BLOCK_BYTES as u64) as usize;
    let mut blocks = Blocks::new(before + bytes);
    let file = open(File::options().read(true), path)?;
    let there = blocks.fill(&file, offset - before as u64)?.saturating_sub(before);
    let start = blocks.start + before;
    Ok(Bytes::from(blocks.memory).slice(start..start + there.min(bytes)))
}

/// A part of a file.
///
/// # Errors
/// `UnexpectedEof` where the file ends before; as [`read_up_to`].
pub fn read_at(path: &Path, offset: u64, bytes: usize) -> io::Result<Bytes> {
    let part = read_up_to(path, offset, bytes)?;
    match part.len() == bytes {
        true => Ok(part),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads a file from its start.
pub struct Reader {
    file: File,
    offset: u64,
    blocks: Blocks,
    /// What of the blocks is still to be given out.
    given: usize,
    filled: usize,
}

impl Reader {
    /// Opens it.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path) -> io::Result<Reader> {
        Ok(Reader {
            file: open(File::options().read(true), path)?,
            offset: 0,
            blocks: Blocks::new(PIECE_BYTES),
            given: 0,
            filled: 0,
        })
    }
}

impl io::Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.filled && self.offset.is_multiple_of(BLOCK_BYTES as u64) {
            (self.given, self.filled) = (0, self.blocks.fill(&self.file, self.offset)?);
            self.offset += self.filled as u64;
        }
        let bytes = into.len().min(self.filled - self.given);
        into[..bytes].copy_from_slice(&self.blocks.get()[self.given..self.given + bytes]);
        self.given += bytes;
        Ok(bytes)
    }
}

/// Writes a file to its end. Nothing is synced, and the last bytes are only there after [`Writer::finish`].
pub struct Writer {
    file: File,
    /// Where the blocks go.
    offset: u64,
    blocks: Blocks,
    filled: usize,
}

impl Writer {
    /// Makes or replaces the file.
    ///
    /// # Errors
    /// As [`open`].
    pub fn create(path: &Path) -> io::Result<Writer> {
        let file = open(File::options().write(true).create(true).truncate(true), path)?;
        Ok(Writer::of(file, 0))
    }

    /// Goes on behind the first so many bytes, or blocks, of the file, which is made when absent.
    ///
    /// # Errors
    /// `InvalidInput` where no block begins; as [`open`].
    pub fn resume(path: &Path, offset: u64) -> io::Result<Writer> {
        if !offset.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = open(File::options().write(true).create(true).truncate(false), path)?;
        Ok(Writer::of(file, offset))
    }

    fn of(file: File, offset: u64) -> Writer {
        Writer {
            file,
            offset,
            blocks: Blocks::new(PIECE_BYTES),
            filled: 0,
        }
    }

    /// Writes what is left and ends the file here; it can be synced then.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(mut self) -> io::Result<File> {
        let bytes = self.offset + self.filled as u64;
        if self.filled > 0 {
            let filled = self.filled;
            let whole = filled.next_multiple_of(BLOCK_BYTES);
            self.blocks.get()[filled..whole].fill(0);
            self.file.write_all_at(&self.blocks.get()[..whole], self.offset)?;
        }
        self.file.set_len(bytes)?;
        Ok(self.file)
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let filled = self.filled;
        let taken = bytes.len().min(PIECE_BYTES - filled);
        self.blocks.get()[filled..filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == PIECE_BYTES {
            self.file.write_all_at(self.blocks.get(), self.offset)?;
            self.offset += PIECE_BYTES as u64;
            self.filled = 0;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn what_is_written_comes_back_whatever_its_length() {
        let folder = std::env::temp_dir().join(format!("vertebra-direct-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("file");
        for count in [
            0,
            1,
            4095,
            4096,
            4097,
            PIECE_BYTES,
            PIECE_BYTES + 5000,
            3 * PIECE_BYTES - 1,
        ] {
            let wanted = bytes(count);
            // Longer than what comes next.
            std::fs::write(&path, vec![7; 4 * PIECE_BYTES]).expect("written");
            let mut writer = Writer::create(&path).expect("it opens");
            for part in wanted.chunks(100_003) {
                writer.write_all(part).expect("written");
            }
            writer.finish().expect("finished");
            assert_eq!(std::fs::read(&path).expect("read"), wanted);
            let mut read = Vec::new();
            let mut reader = Reader::open(&path).expect("it opens");
            reader.read_to_end(&mut read).expect("read");
            assert_eq!(read, wanted);
            for (offset, length) in [(0, count), (count / 2, count - count / 2), (count / 3, count / 5)] {
                let part = read_at(&path, offset as u64, length).expect("within the file");
                assert_eq!(part, wanted[offset..offset + length]);
            }
            let beyond = read_at(&path, count as u64, 1).expect_err("behind the end");
            assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        }
        std::fs::remove_dir_all(&folder).expect("ours");
    }

    #[test]
    fn writing_goes_on_where_it_ended() {
        let path = std::env::temp_dir().join(format!("vertebra-direct-resume-{}", std::process::id()));
        let wanted = bytes(2 * PIECE_BYTES + 77);
        std::fs::write(&path, &wanted[..PIECE_BYTES + 3000]).expect("written");
        let mut writer = Writer::resume(&path, PIECE_BYTES as u64).expect("it opens");
        writer.write_all(&wanted[PIECE_BYTES..]).expect("written");
        writer.finish().expect("finished");
        assert_eq!(std::fs::read(&path).expect("read"), wanted);
        let refused = Writer::resume(&path, 100).err().expect("no block begins there");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        std::fs::remove_file(&path).expect("ours");
    }
}
