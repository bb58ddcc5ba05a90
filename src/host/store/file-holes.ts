import { createRequire } from "node:module";

/** What Node has no call for, on Linux: finding and punching holes in files. */
export interface FileHoles {
  /** Where data (or a hole) begins at or after `position`; the file's end for holes, -1 for data when there is none. */
  nextData(fd: number, position: number): number;
  nextHole(fd: number, position: number): number;
  /** Gives the range's space back; it reads as zeros, and the file keeps its size. False: this file cannot. */
  punch(fd: number, position: number, length: number): boolean;
  /** Gives the file's first bytes room, and the file that size at least; what has none reads as zeros. False: it cannot. */
  reserve(fd: number, length: number): boolean;
}

// lseek(2) and fallocate(2), as Linux numbers them.
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const KEEP_SIZE_PUNCH_HOLE = 1 | 2;

let found: FileHoles | null | undefined;

/**
 * The host's calls through koffi, an optional package that whoever wants them installs; null without it, or elsewhere than
 * on Linux. Loaded on first use.
 */
export function fileHoles(): FileHoles | null {
  if (found === undefined) found = process.platform === "linux" ? load() : null;
  return found;
}

function load(): FileHoles | null {
  try {
    const libc = createRequire(import.meta.url)("koffi").load("libc.so.6");
    const lseek = libc.func("int64_t lseek(int fd, int64_t offset, int whence)");
    const fallocate = libc.func("int fallocate(int fd, int mode, int64_t offset, int64_t length)");
    return {
      // The cursor that this moves is nobody's: all I/O is positional.
      nextData: (fd, position) => Number(lseek(fd, position, SEEK_DATA)),
      nextHole: (fd, position) => Number(lseek(fd, position, SEEK_HOLE)),
      punch: (fd, position, length) => fallocate(fd, KEEP_SIZE_PUNCH_HOLE, position, length) === 0,
      reserve: (fd, length) => fallocate(fd, 0, 0, length) === 0,
    };
  } catch {
    return null;
  }
}
