import { bcd, lbaToMsf } from "./address.ts";
import { edc, fillParity } from "./ecc.ts";

/** Bytes of a whole sector, and of the user data that READ moves. */
export const RAW = 2352;
export const USER = 2048;

/** How a track's sectors stand in an image, in the words of CUE sheets. */
export type SectorForm =
  | "audio"
  | "mode1/2048"
  | "mode1/2352"
  | "mode2/2048"
  | "mode2/2324"
  | "mode2/2336"
  | "mode2/2352";

/** What kind of sector stands on the disc (MMC-6: expected sector types). */
export type SectorType = "audio" | "mode1" | "formless" | "form1" | "form2";

/** Bytes that one sector takes in an image, and where those are in the whole sector. */
export const STORED: Record<SectorForm, { bytes: number; at: number }> = {
  audio: { bytes: 2352, at: 0 },
  "mode1/2048": { bytes: 2048, at: 16 },
  "mode1/2352": { bytes: 2352, at: 0 },
  "mode2/2048": { bytes: 2048, at: 24 },
  "mode2/2324": { bytes: 2324, at: 24 },
  "mode2/2336": { bytes: 2336, at: 16 },
  "mode2/2352": { bytes: 2352, at: 0 },
};

/** Sub-mode bits (CD-ROM XA): what says that a mode 2 sector is of form 2. */
const FORM2 = 0x20;
const DATA = 0x08;
const SUBMODE = 18;

/** The type of a whole sector. Mode 2 without a doubled subheader has no form. */
export function typeOf(form: SectorForm, sector: Uint8Array, at = 0): SectorType {
  if (form === "audio") return "audio";
  if (form === "mode1/2048" || form === "mode1/2352") return "mode1";
  for (let i = 16; i < 20; i++) if (sector[at + i] !== sector[at + i + 4]) return "formless";
  return sector[at + SUBMODE] & FORM2 ? "form2" : "form1";
}

/** The type that all sectors of this form have; undefined when each one says it for itself. */
export function fixedType(form: SectorForm): SectorType | undefined {
  if (form === "audio") return "audio";
  if (form === "mode1/2048" || form === "mode1/2352") return "mode1";
  if (form === "mode2/2048") return "form1";
  return form === "mode2/2324" ? "form2" : undefined;
}

/**
 * Completes a whole sector (ECMA-130 §14, §22): `sector` holds what the image stores, at its place, and zeros. What the
 * image does not store is made: sync, header, subheader, EDC, ECC.
 */
export function complete(form: SectorForm, lba: number, sector: Uint8Array): void {
  if (form === "audio" || form === "mode1/2352" || form === "mode2/2352") return;
  frame(sector, lba, form === "mode1/2048" ? 1 : 2);
  if (form === "mode1/2048") {
    put32(sector, 2064, edc(sector, 0, 2064));
    sector.fill(0, 2068, 2076);
    fillParity(sector, false);
    return;
  }
  // The image has subheader, EDC and ECC.
  if (form === "mode2/2336") return;
  const submode = form === "mode2/2324" ? FORM2 | DATA : DATA;
  sector[SUBMODE] = sector[SUBMODE + 4] = submode;
  if (form === "mode2/2324") put32(sector, 2348, edc(sector, 16, 2348));
  else {
    put32(sector, 2072, edc(sector, 16, 2072));
    fillParity(sector, true);
  }
}

/** A whole sector of a gap: silence, or user data of zeros in the track's mode. */
export function emptySector(form: SectorForm, lba: number, sector: Uint8Array): void {
  sector.fill(0);
  if (form === "audio") return;
  complete(form.startsWith("mode1") ? "mode1/2048" : "mode2/2048", lba, sector);
}

/** Sync pattern and header. */
function frame(sector: Uint8Array, lba: number, mode: number): void {
  sector[0] = 0;
  sector.fill(0xff, 1, 11);
  sector[11] = 0;
  const { minute, second, frame } = lbaToMsf(lba);
  sector[12] = bcd(minute % 100);
  sector[13] = bcd(second);
  sector[14] = bcd(frame);
  sector[15] = mode;
}

function put32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = value >>> (8 * i);
}
