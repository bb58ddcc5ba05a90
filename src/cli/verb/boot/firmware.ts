import { existsSync, readFileSync } from "node:fs";
import { ParavaneError } from "../../../core/error.ts";
import type { DiskModel } from "./options.ts";

/** Where distributions keep SeaBIOS; Debian and Ubuntu first, then Fedora and Arch. */
const FOLDERS = ["/usr/share/seabios", "/usr/share/qemu", "/usr/share/seavgabios"];

export interface Firmware {
  bios: ArrayBuffer;
  vga: ArrayBuffer;
}

/** SeaBIOS is built in two sizes, and only the larger one has a driver for PVSCSI. */
const BIOS: Record<DiskModel, string> = { ide: "bios.bin", virtio: "bios.bin", pvscsi: "bios-256k.bin" };

/** The firmware's images: those named, or SeaBIOS. @throws ParavaneError NOT_FOUND that says where to get one */
export function firmware(model: DiskModel, bios: string | undefined, vga: string | undefined): Firmware {
  return { bios: imageOf("bios", bios, BIOS[model]), vga: imageOf("vga-bios", vga, "vgabios-stdvga.bin") };
}

function imageOf(option: string, named: string | undefined, usual: string): ArrayBuffer {
  const path = named ?? FOLDERS.map((folder) => `${folder}/${usual}`).find(existsSync);
  if (path !== undefined) return readWhole(path);
  throw new ParavaneError(
    "NOT_FOUND",
    `a PC does not start without its firmware, and there is no ${usual} here`,
    {},
    {
      hint: `Install SeaBIOS (on Debian and Ubuntu: apt install seabios), or name a file with --${option}`,
    },
  );
}

/** @throws ParavaneError NOT_FOUND, IO */
export function readWhole(path: string): ArrayBuffer {
  try {
    const bytes = readFileSync(path);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const missing = code === "ENOENT";
    throw new ParavaneError(
      missing ? "NOT_FOUND" : "IO",
      missing ? `there is no file ${path}` : message,
      {},
      { cause },
    );
  }
}
