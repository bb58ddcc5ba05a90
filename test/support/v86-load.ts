import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Disc } from "../../src/host/media/disc.ts";
import { copyDisk, createDisk, createFile, type Disk, MemoryStore, openCueFile, openFile } from "../../src/node.ts";
import { Random } from "./random.ts";

const DISK_BYTES = 96 << 20;
/** A tree of files of every size up to this, and one that is written to here and there. */
const [FILES, FILE_BYTES, RANDOM_BYTES] = [40, 200_000, 2 << 20];

/**
 * `load.sh FOLDER NAME`: a mixed load on the file system of FOLDER until there is a file /tmp/stop. Trees are copied to it and removed,
 * a file is written to here and there and so is its copy in memory, space is given back; what was written is read from the disk again
 * and its checksums are looked at. It ends with what it has done, or says what differs. Few processes: they are what is dear in v86.
 */
const LOAD = `dir=$1; copy=/tmp/$2; rounds=0; trees=0
fail() {
  echo "LOAD: $1 on $dir"
  exit 1
}
cp /tmp/tree/random $copy && cp $copy $dir/random || fail copy
until [ -e /tmp/stop ] && [ $rounds -ge 2 ]; do
  rounds=$((rounds + 1))
  to=$dir/t$((RANDOM % 4))
  rm -rf $to
  cp -r /tmp/tree $to || fail copy
  size=$((512 << RANDOM % 8))
  sizes=$(($(stat -c %s $copy) / size - 16))
  where="bs=$size skip=$((RANDOM % sizes)) seek=$((RANDOM % sizes)) count=$((RANDOM % 16 + 1)) conv=notrunc"
  [ $((RANDOM % 2)) = 0 ] && direct=oflag=direct || direct=
  dd if=/tmp/tree/random of=$copy $where 2> /dev/null || fail "write in memory"
  dd if=/tmp/tree/random of=$dir/random $where $direct 2> /dev/null || fail "write $where $direct"
  case $((RANDOM % 3)) in
    0) sync ;;
    1) fstrim $dir || fail fstrim ;;
  esac
  [ $((rounds % 2)) = 0 ] || continue
  sync
  echo 3 > /proc/sys/vm/drop_caches || fail "dropping caches"
  for each in $dir/t*; do
    [ $each = $to ] || [ $((RANDOM % 2)) = 0 ] || continue
    (cd $each && md5sum -c -s sums) || fail "$each differs"
    trees=$((trees + 1))
  done
  cmp $copy $dir/random || fail "the file differs"
done
echo "LOAD: $dir $rounds rounds, $trees trees checked"
`;
/** `read.sh FILE COPY`: the file is read and compared again and again, meanwhile. */
const READ = `passes=0
until [ -e /tmp/stop ]; do
  cmp $1 $2 || { echo "LOAD: $1 differs"; exit 1; }
  passes=$((passes + 1))
  sleep 5
done
echo "LOAD: $1 read $passes times"
`;

/** A disk with an ext4 file system that holds /tree with its checksums, /load.sh and /read.sh, made by e2fsprogs. */
export async function loadDisk(folder: string, format: string, label: string): Promise<Disk> {
  const tree = join(folder, "tree");
  mkdirSync(tree, { recursive: true });
  const source = new Random(1);
  const bytes = (length: number) => Uint8Array.from({ length }, () => source.u32());
  mkdirSync(join(tree, "tree/folder"), { recursive: true });
  const sums: string[] = [];
  const add = (name: string, content: Uint8Array) => {
    writeFileSync(join(tree, "tree", name), content);
    sums.push(`${createHash("md5").update(content).digest("hex")}  ${name}\n`);
  };
  for (let i = 0; i < FILES; i++) {
    add(i % 2 === 0 ? `file${i}` : `folder/file${i}`, bytes(source.below(source.pick([600, 9000, FILE_BYTES]))));
  }
  add("random", bytes(RANDOM_BYTES));
  writeFileSync(join(tree, "tree/sums"), sums.join(""));
  writeFileSync(join(tree, "load.sh"), LOAD);
  writeFileSync(join(tree, "read.sh"), READ);
  const path = join(folder, "ext4.raw");
  rmSync(path, { force: true });
  execFileSync("mke2fs", [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-L",
    label,
    "-d",
    tree,
    "-E",
    "root_owner=0:0",
    path,
    `${DISK_BYTES >> 10}k`,
  ]);
  const image = await openFile(path, { format: "raw", readOnly: true });
  const disk = await createDisk(new MemoryStore(), { format, size: DISK_BYTES });
  await copyDisk(image, disk);
  await image.close();
  return disk;
}

/** A disc of two sessions: the second one's directory has the file of the first, /random, and one of its own. */
export async function twoSessions(folder: string): Promise<Disc> {
  const [one, two] = ["one", "two"].map((name) => join(folder, name));
  for (const each of [one, two]) mkdirSync(each, { recursive: true });
  writeFileSync(join(one, "random"), readFileSync(join(folder, "tree/tree/random")));
  writeFileSync(join(two, "second"), "session 2\n");
  const mkisofs = (...args: string[]) =>
    execFileSync("xorriso", ["-as", "mkisofs", "-quiet", ...args], { cwd: folder, stdio: "pipe" });
  mkisofs("-o", "one.iso", one);
  // Lead-out, lead-in and pre-gap are between them (Orange Book part II).
  const start = statSync(join(folder, "one.iso")).size / 2048 + 6750 + 4500 + 150;
  mkisofs("-M", "one.iso", "-C", `0,${start}`, "-o", "two.iso", two);
  const track = (number: number, file: string) =>
    `FILE "${file}" BINARY\nTRACK 0${number} MODE1/2048\nINDEX 01 00:00:00\n`;
  writeFileSync(join(folder, "two.cue"), `${track(1, "one.iso")}REM SESSION 02\n${track(2, "two.iso")}`);
  return openCueFile(join(folder, "two.cue"));
}

/** What is in the disk's folder `name`, taken out by e2fsprogs, after its file system was found in order. @throws when it is not */
export async function takeOut(disk: Disk, name: string, folder: string): Promise<string> {
  const path = join(folder, "out.raw");
  rmSync(path, { force: true });
  const file = await createFile(path, { format: "raw", size: disk.size });
  await copyDisk(disk, file);
  await file.close();
  execFileSync("e2fsck", ["-fn", path], { stdio: "pipe" });
  const out = join(folder, "out");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
  execFileSync("debugfs", ["-R", `rdump /${name} ${out}`, path], { stdio: "pipe" });
  return join(out, name);
}
