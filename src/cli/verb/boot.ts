import type { RawVerb } from "../verb.ts";
import { MENU } from "./boot/menu.ts";
import { OPTIONS, parseBoot } from "./boot/options.ts";

const EXAMPLES: readonly [command: string, effect: string][] = [
  [
    "paravane boot --snapshot disk.qcow2",
    "a PC with that disk, its serial line in this terminal; the image stays as it is",
  ],
  ["paravane boot --overlay try.qcow2 golden.vhd", "changes go into try.qcow2, now and the next time"],
  ["paravane boot --cdrom install.iso --memory 512M new.qcow2", "install from a CD"],
  [
    "paravane boot --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0 root=/dev/sda1' root.vhdx",
    "no boot loader",
  ],
  ["paravane boot --script login.txt disk.qcow2", "a test: the guest must answer as the script says"],
];

const SCRIPT = [
  "A script is lines of these words; # starts a comment:",
  '  expect "login: " 90      wait until the guest has written this on its serial line, at most that many seconds (60)',
  '  send "root\\n"            type it; \\n is Enter, \\x01 Ctrl-A',
  '  eject 0                  take the CD out of the first drive;  insert "other.iso" 0  put one in',
  '  snapshot "clean"         keep the disk inside its qcow2 image;  save "FILE"  keep the machine\'s state',
  "  wait 2                   seconds;  stats  print them",
  "Exit code 0: every expect was met, and the script has ended. 1: one was not; the message says which line.",
];

function help(): string {
  const left = OPTIONS.map(({ name, value }) => `  --${name}${value === undefined ? "" : ` ${value}`}`);
  const wide = Math.max(...left.map(({ length }) => length)) + 3;
  return [
    "paravane boot: a PC in this terminal, started from disk images of any format",
    "",
    "Usage: paravane boot [OPTIONS] [IMAGE...]",
    "",
    "Starts SeaBIOS in v86, a PC emulator in WebAssembly, with the images as its disks, of which it boots from the first.",
    "The guest's serial line is this terminal: a Linux guest uses it when its command line says console=ttyS0. When the guest",
    "halts, or on Ctrl-A x, Ctrl-C from outside or a signal, the disks are closed in order: what the guest has flushed is there.",
    "v86 is a package of its own: npm install v86.",
    "",
    "Options:",
    ...OPTIONS.map(({ help: text }, i) => left[i].padEnd(wide) + text.replaceAll("\n", `\n${" ".repeat(wide)}`)),
    "",
    "Keys:",
    ...MENU.map((line) => `  ${line}`),
    "",
    ...SCRIPT,
    "",
    "Examples:",
    ...EXAMPLES.flatMap(([command, effect]) => [`  ${command}`, `      ${effect}`]),
  ].join("\n");
}

export const boot: RawVerb = {
  name: "boot",
  summary: "a PC in this terminal, started from disk images of any format",
  examples: EXAMPLES,

  async main(args, ui) {
    const given = parseBoot(args);
    if (given === null) {
      ui.out(help());
      return 0;
    }
    // Only this command needs an emulator.
    const { boot: start } = await import("./boot/run.ts");
    return start(given, ui);
  },
};
