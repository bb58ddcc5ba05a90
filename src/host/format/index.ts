import type { Format } from "../../core/format.ts";
import { bochs } from "./bochs/index.ts";
import { cloop } from "./cloop/index.ts";
import { dmg } from "./dmg/index.ts";
import { luks } from "./luks/index.ts";
import { ovaOf } from "./ova/index.ts";
import { parallels } from "./parallels/index.ts";
import { parallelsBundle } from "./parallels-bundle/index.ts";
import { qcow1 } from "./qcow1/index.ts";
import { qcow2 } from "./qcow2/index.ts";
import { qed } from "./qed/index.ts";
import { raw } from "./raw.ts";
import { sparsebundle } from "./sparsebundle/index.ts";
import { sparseimage } from "./sparseimage/index.ts";
import { vdi } from "./vdi/index.ts";
import { vhd } from "./vhd/index.ts";
import { vhdx } from "./vhdx/index.ts";
import { vmdk } from "./vmdk/index.ts";

const SIGNED: readonly Format[] = [
  ...[qcow2, vhd, vhdx, vdi, vmdk, parallels, luks],
  // These are only read.
  ...[qed, qcow1, dmg, sparseimage, sparsebundle, cloop, bochs, parallelsBundle],
];

/** Every image format, those with a signature first; raw, which anything is, last. */
export const FORMATS: readonly Format[] = [...SIGNED, ovaOf([...SIGNED, raw]), raw];
