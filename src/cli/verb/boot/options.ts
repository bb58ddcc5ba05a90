import { parseArgs } from "node:util";
import { parseSize } from "../../size.ts";
import { UsageError } from "../../usage.ts";

/** What drives the disks; CD drives are always on IDE. */
const DISK_MODELS = ["ide", "virtio", "pvscsi"] as const;
export type DiskModel = (typeof DISK_MODELS)[number];

/** What the command line asks for. */
export interface BootOptions {
  images: string[];
  format: string | undefined;
  allow: string[];
  cdroms: string[];
  diskModel: DiskModel;
  /** Bytes. */
  memory: number;
  kernel: string | undefined;
  initrd: string | undefined;
  append: string;
  bios: string | undefined;
  vgaBios: string | undefined;
  snapshot: boolean;
  overlay: string | undefined;
  screen: boolean;
  script: string | undefined;
  stateSave: string | undefined;
  stateLoad: string | undefined;
  stats: boolean;
}

interface BootOption {
  name: string;
  value?: string;
  multiple?: boolean;
  help: string;
}

/** In the order of the help. */
export const OPTIONS: readonly BootOption[] = [
  { name: "cdrom", value: "FILE", multiple: true, help: "an ISO image or CUE sheet in a CD drive; may be repeated" },
  {
    name: "disk-model",
    value: "NAME",
    help: "what the guest finds the disks on: ide (default), which every guest knows;\nvirtio or pvscsi, which are faster and want drivers",
  },
  { name: "memory", value: "SIZE", help: "the guest's memory (default 256M, at most 2047M)" },
  { name: "snapshot", help: "keep no changes: they go into a temporary file" },
  {
    name: "overlay",
    value: "FILE",
    help: "keep changes in this qcow2 image over the first disk, which stays as it is;\nmade when absent",
  },
  { name: "kernel", value: "FILE", help: "start this Linux kernel (bzImage) instead of a boot loader" },
  { name: "initrd", value: "FILE", help: "its initial RAM disk" },
  { name: "append", value: "TEXT", help: 'its command line (default "console=ttyS0")' },
  { name: "screen", help: "show the text screen and type on the keyboard, instead of the serial line" },
  {
    name: "script",
    value: "FILE",
    help: "talk to the guest as the file says (below); exit code 1 when it does not answer so",
  },
  { name: "state-save", value: "FILE", help: "keep the machine's state at the end, to go on from there" },
  { name: "state-load", value: "FILE", help: "go on from there, with the same options and unchanged disks" },
  { name: "stats", help: "at the end, print what was read and written" },
  { name: "format", value: "NAME", help: "of the disk images (default: by their content)" },
  { name: "allow", value: "DIR", multiple: true, help: "a folder, beside the image's own, for parents and data files" },
  { name: "bios", value: "FILE", help: "firmware (default: SeaBIOS where Debian's package seabios has it)" },
  { name: "vga-bios", value: "FILE", help: "the screen's firmware (default: from the same package)" },
];

const MEMORY = 256 << 20;
/** v86 keeps the guest's memory below 2 GiB. */
const MAX_MEMORY = 2047 * 2 ** 20;
const MIN_MEMORY = 1 << 20;

/** `null`: the help is wanted. @throws UsageError */
export function parseBoot(args: string[]): BootOptions | null {
  const options = Object.fromEntries(
    [...OPTIONS, { name: "help" } as BootOption].map(({ name, value, multiple = false }) => [
      name,
      { type: value === undefined ? ("boolean" as const) : ("string" as const), multiple },
    ]),
  );
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args, options, strict: true, allowPositionals: true });
  } catch (thrown) {
    const [message] = (thrown as Error).message.split(/\. |\n/);
    throw new UsageError(`${message.replace(/\.$/, "")}; see: paravane boot --help`);
  }
  const { values, positionals } = parsed;
  if (values.help) return null;
  const text = (name: string) => values[name] as string | undefined;
  const list = (name: string) => (values[name] as string[] | undefined) ?? [];
  const memory = text("memory") === undefined ? MEMORY : parseSize(text("memory")!, "memory");
  if (memory < MIN_MEMORY || memory > MAX_MEMORY) throw new UsageError("--memory is between 1M and 2047M");
  const given: BootOptions = {
    images: positionals,
    format: text("format"),
    allow: list("allow"),
    cdroms: list("cdrom"),
    diskModel: modelNamed(text("disk-model") ?? "ide"),
    memory,
    kernel: text("kernel"),
    initrd: text("initrd"),
    append: text("append") ?? "console=ttyS0",
    bios: text("bios"),
    vgaBios: text("vga-bios"),
    snapshot: values.snapshot === true,
    overlay: text("overlay"),
    screen: values.screen === true,
    script: text("script"),
    stateSave: text("state-save"),
    stateLoad: text("state-load"),
    stats: values.stats === true,
  };
  check(given);
  return given;
}

function modelNamed(name: string): DiskModel {
  const found = DISK_MODELS.find((each) => each === name);
  if (found) return found;
  throw new UsageError(`there is no disk model "${name}"; there are ${DISK_MODELS.join(", ")}`);
}

function check(given: BootOptions): void {
  const { images, cdroms, kernel, initrd, overlay, snapshot } = given;
  if (images.length === 0 && cdroms.length === 0 && kernel === undefined) {
    throw new UsageError("nothing to boot: name a disk image, a --cdrom or a --kernel; see: paravane boot --help");
  }
  if (initrd !== undefined && kernel === undefined) throw new UsageError("--initrd goes with --kernel");
  if (overlay !== undefined && snapshot) throw new UsageError("--overlay keeps changes, --snapshot does not: give one");
  if (overlay !== undefined && images[0]?.startsWith("json:")) {
    throw new UsageError("--overlay wants a file name below it, as its parent: no json: name");
  }
  if (overlay !== undefined && images.length === 0) throw new UsageError("--overlay wants a disk image to lie over");
}
