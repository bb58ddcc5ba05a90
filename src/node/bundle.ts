import { statSync } from "node:fs";
import { join } from "node:path";

/** What tells of an image that is a folder: Parallels' bundles, and Apple's sparse ones. */
const DESCRIPTORS = ["DiskDescriptor.xml", "Info.plist"];

/** The file to be opened for an image: of one that is a folder, the one in it that tells of it. */
export function imageFile(path: string): string {
  const kind = (name: string) => statSync(name, { throwIfNoEntry: false });
  if (!kind(path)?.isDirectory()) return path;
  const found = DESCRIPTORS.map((name) => join(path, name)).find((name) => kind(name)?.isFile());
  return found ?? path;
}
